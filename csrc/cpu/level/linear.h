// 1x1 convolutions and factorised reductions of one image.
#pragma once
#include "half_backward.h"

namespace enas::ENAS_LEVEL {

// A factorised reduction is two products: of the even pixels, and of those one further down and to the right.
template <class A>
struct LinearPlan {
  Linear linear;
  int inputs;        // filled up to whole fours, as are the columns of each product
  int products;      // 1, or 2 of a factorised reduction
  int columns[2];    // true output channels of each product
  int filled[2];
  explicit LinearPlan(const Linear& l) : linear(l) {
    inputs = fours(l.inputs);
    products = l.reduced ? 2 : 1;
    columns[0] = l.reduced ? (l.outputs + 1) / 2 : l.outputs;
    columns[1] = l.outputs - columns[0];
    filled[0] = fours(columns[0]);
    filled[1] = fours(columns[1]);
  }
  int first(int product) const { return product ? columns[0] : 0; }
  // Whether a product, as it is filled up, is the whole output.
  bool whole(int product) const { return products == 1 && filled[product] == linear.outputs; }
  int64_t weights() const { return int64_t(inputs) * (filled[0] + filled[1]); }
  int64_t weight(int product) const { return product ? int64_t(inputs) * filled[0] : 0; }
  // Prepared: the weights of each product (forward) or their transposes (backward), where pixels are stored in outputs and
  // in inputs.
  int64_t straight(int product) const { return product ? int64_t(inputs) * row_size<A>(filled[0]) : 0; }
  int64_t transposed(int product) const { return product ? int64_t(filled[0]) * row_size<A>(inputs) : 0; }
  int64_t places() const {
    const int64_t forward = straight(1) + int64_t(inputs) * row_size<A>(filled[1]);
    const int64_t backward = transposed(1) + int64_t(filled[1]) * row_size<A>(inputs);
    return forward > backward ? forward : backward;
  }
  int64_t prepared() const {
    return places() + (3 * linear.out_pixels() * int64_t(sizeof(int32_t)) + int64_t(sizeof(A)) - 1) / int64_t(sizeof(A));
  }
};

template <class A>
int64_t linear_prepared(const Linear& linear) {
  return LinearPlan<A>(linear).prepared();
}
template <class A>
int64_t linear_gradients(const Linear& linear) {
  return LinearPlan<A>(linear).weights();
}

template <class A>
void linear_prepare(const Linear& linear, Pass pass, const A* weight, A* prepared) {
  const LinearPlan<A> plan(linear);
  for (int product = 0; product < plan.products; ++product) {
    const A* own = weight + plan.first(product);
    const int columns = plan.columns[product], filled = plan.filled[product];
    if (pass == Pass::FORWARD)
      put_rows(own, linear.outputs, linear.inputs, columns, plan.inputs, filled, prepared + plan.straight(product));
    else
      put_columns(own, linear.outputs, columns, linear.inputs, filled, plan.inputs, prepared + plan.transposed(product));
  }
  int32_t* places = reinterpret_cast<int32_t*>(prepared + plan.places());
  for (int64_t pixel = 0; pixel < linear.out_pixels(); ++pixel) {
    for (int product = 0; product < 2; ++product)
      places[product * linear.out_pixels() + pixel] = int32_t(pixel * plan.filled[product]);
    places[2 * linear.out_pixels() + pixel] = int32_t(pixel * plan.inputs);
  }
}

template <class A>
void linear_add_gradients(const Linear& linear, const A* gradients, A* weight) {
  const LinearPlan<A> plan(linear);
  for (int product = 0; product < plan.products; ++product) {
    const A* from = gradients + plan.weight(product);
    for (int k = 0; k < linear.inputs; ++k)
      for (int n = 0; n < plan.columns[product]; ++n)
        weight[k * linear.outputs + plan.first(product) + n] += from[k * plan.filled[product] + n];
  }
}

template <class A>
int64_t linear_scratch(const Linear& linear) {
  const LinearPlan<A> plan(linear);
  return linear.pixels() * linear.inputs +
         linear.out_pixels() * (2 * int64_t(plan.inputs) + plan.filled[0] + plan.filled[1] + linear.outputs) +
         16 * LANES<A>;
}

// The pixels that one product sees, activated and filled up to whole fours: [out_pixels][inputs].
template <class S, class A>
const A* linear_pixels(const LinearPlan<A>& plan, int product, const S* x, bool relu, A* flat, A* picked) {
  const Linear& linear = plan.linear;
  const auto number = [&]<class T>(const S* from) {
    const T value = get_stored<T>(from);
    return relu ? positive(value) : value;
  };
  if (!linear.reduced) {
    each<A>(linear.pixels() * linear.inputs, 1, 0,
            [&]<class T>(int64_t i, int) { put(flat + i, number.template operator()<T>(x + i)); });
    if (plan.inputs == linear.inputs) return flat;
    change_channels(flat, linear.inputs, picked, plan.inputs, linear.pixels());
    return picked;
  }
  for (int row = 0, pixel = 0; row < linear.out_height(); ++row)
    for (int column = 0; column < linear.out_width(); ++column, ++pixel) {
      A* to = picked + int64_t(pixel) * plan.inputs;
      const int from_row = 2 * row + product, from_column = 2 * column + product;
      const bool inside = from_row < linear.height && from_column < linear.width;
      const S* from = x + (int64_t(from_row) * linear.width + from_column) * linear.inputs;
      for (int k = 0; k < plan.inputs; ++k)
        to[k] = inside && k < linear.inputs ? number.template operator()<A>(from + k) : A(0);
    }
  return picked;
}

template <class S, class A>
void linear_forward(const Linear& linear, const A* prepared, const S* x, bool relu, A* sum, bool add, A* scratch) {
  const LinearPlan<A> plan(linear);
  Pieces<A> pieces{scratch};
  A* flat = pieces.take(linear.pixels() * linear.inputs);
  A* picked = pieces.take(linear.out_pixels() * plan.inputs);
  A* part = pieces.take(linear.out_pixels() * plan.filled[0]);
  const int32_t* places = reinterpret_cast<const int32_t*>(prepared + plan.places());
  const int pixels = int(linear.out_pixels());
  Ahead ahead;
  for (int number = 0; number < plan.products; ++number) {
    if (plan.columns[number] == 0) continue;
    const A* seen = linear_pixels(plan, number, x, relu, flat, picked);
    const int filled = plan.filled[number];
    const bool direct = plan.whole(number);
    product(seen, plan.inputs, plan.inputs, prepared + plan.straight(number), filled, direct ? sum : part,
            places + number * pixels, pixels, direct && add, ahead);
    if (direct) continue;
    for (int pixel = 0; pixel < pixels; ++pixel)
      for (int n = 0; n < plan.columns[number]; ++n) {
        A& to = sum[int64_t(pixel) * linear.outputs + plan.first(number) + n];
        const A value = part[int64_t(pixel) * filled + n];
        to = add ? to + value : value;
      }
  }
}

template <class S, class A>
void linear_backward(const Linear& linear, const A* prepared, const S* x, bool relu, const A* dz, A* dx, A* gradients,
                     A* scratch) {
  const LinearPlan<A> plan(linear);
  Pieces<A> pieces{scratch};
  A* flat = pieces.take(linear.pixels() * linear.inputs);
  A* picked = pieces.take(linear.out_pixels() * plan.inputs);
  A* part = pieces.take(linear.out_pixels() * plan.filled[0]);
  A* back = pieces.take(linear.out_pixels() * plan.inputs);
  const int32_t* places = reinterpret_cast<const int32_t*>(prepared + plan.places());
  const int pixels = int(linear.out_pixels());
  Ahead ahead;
  for (int number = 0; number < plan.products; ++number) {
    if (plan.columns[number] == 0) continue;
    const A* seen = linear_pixels(plan, number, x, relu, flat, picked);
    const int filled = plan.filled[number];
    const A* part_dz = dz;
    if (!plan.whole(number)) {
      for (int pixel = 0; pixel < pixels; ++pixel)
        for (int n = 0; n < filled; ++n)
          part[int64_t(pixel) * filled + n] =
              n < plan.columns[number] ? dz[int64_t(pixel) * linear.outputs + plan.first(number) + n] : A(0);
      part_dz = part;
    }
    outer(seen, plan.inputs, plan.inputs, part_dz, filled, filled, pixels, gradients + plan.weight(number), ahead);
    if (dx == nullptr) continue;
    product(part_dz, filled, filled, prepared + plan.transposed(number), plan.inputs, back,
            places + 2 * pixels, pixels, false, ahead);
    if (!linear.reduced && plan.inputs == linear.inputs) {
      each<A>(linear.pixels() * linear.inputs, 1, 0, [&]<class T>(int64_t i, int) {
        const T gradient = get<T>(back + i);
        put(dx + i, get<T>(dx + i) + (!relu ? gradient : get<T>(seen + i) > T{} ? gradient : T{}));
      });
      continue;
    }
    const int step = linear.reduced ? 2 : 1;
    for (int row = 0, pixel = 0; row < linear.out_height(); ++row)
      for (int column = 0; column < linear.out_width(); ++column, ++pixel) {
        const int to_row = step * row + number, to_column = step * column + number;
        if (to_row >= linear.height || to_column >= linear.width) continue;
        A* to = dx + (int64_t(to_row) * linear.width + to_column) * linear.inputs;
        const int64_t from = int64_t(pixel) * plan.inputs;
        for (int k = 0; k < linear.inputs; ++k)
          if (!relu || seen[from + k] > A(0)) to[k] += back[from + k];
      }
  }
}

}  // namespace enas::ENAS_LEVEL
