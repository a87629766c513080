// One half of a separable convolution on one image: [affine,] ReLU, depthwise, pointwise; and its backward, in which the
// depthwise result is computed again.
#pragma once
#include <type_traits>

#include "depthwise.h"
#include "elementwise.h"
#include "product.h"
#include "weights.h"

namespace enas::ENAS_LEVEL {

inline int fours(int channels) { return (channels + 3) / 4 * 4; }

// Where everything lies: the activated image in a plane with a border of zeros, the weights, the gradients.
//
// Taps further out than the image reaches meet nothing but the border, so the kernel is cut to the others: on an image of
// 2 x 2 pixels 5 x 5 taps are no more than 3 x 3.
template <class A>
struct HalfPlan {
  Half half;                                     // with the cut kernel
  int whole_kernel;
  int channels, outputs, taps, period, border;  // channels and outputs filled up to whole fours
  int split;                                     // with stride 2: where the odd columns of a row begin
  int64_t pitch, plane;                          // of the activated image
  int64_t gradient_pitch, gradient_plane;        // of the depthwise gradient, at the size of the input
  int64_t rows_pitch;                            // of the depthwise gradient with stride 2, at the size of the output
  int phases, step;                              // rows of taps: see depthwise.h
  int32_t columns[7], gradient_columns[7];

  explicit HalfPlan(const Half& given) : half(given), whole_kernel(given.kernel) {
    const int reach = (given.height > given.width ? given.height : given.width) - 1;
    while (half.kernel > 3 && half.dilation * (half.kernel / 2) > reach) half.kernel -= 2;
    const Half& h = half;
    channels = fours(h.channels);
    outputs = fours(h.outputs);
    taps = h.kernel * h.kernel;
    period = period_of<A>(channels);
    border = h.dilation * (h.kernel / 2);
    const int padded = h.width + 2 * border;
    split = (padded + 1) / 2 * channels;
    pitch = aligned(h.stride == 1 ? int64_t(padded) * channels : 2 * int64_t(split));
    plane = (h.height + 2 * border) * pitch + LANES<A>;
    gradient_pitch = aligned(int64_t(padded) * channels);
    gradient_plane = (h.height + 2 * border) * gradient_pitch + LANES<A>;
    rows_pitch = aligned(int64_t(h.out_width()) * channels);
    phases = h.stride == 1 ? h.dilation : 1;
    step = h.stride > h.dilation ? 2 : 1;
    for (int dx = 0; dx < h.kernel; ++dx) {
      const int at = dx * h.dilation;
      gradient_columns[dx] = at * channels;
      columns[dx] = h.stride == 1 ? at * channels : (at & 1) * split + (at >> 1) * channels;
    }
  }

  // The place of a tap in the whole kernel.
  int whole_tap(int tap) const {
    const int cut = (whole_kernel - half.kernel) / 2;
    return (tap / half.kernel + cut) * whole_kernel + tap % half.kernel + cut;
  }
  static int64_t aligned(int64_t numbers) { return (numbers + LANES<A> - 1) / LANES<A> * LANES<A> + LANES<A>; }
  int64_t depthwise_size() const { return int64_t(taps) * (period + LANES<A>); }
  int64_t pointwise_size() const { return int64_t(channels) * row_size<A>(outputs); }
  int64_t transposed_size() const { return int64_t(outputs) * row_size<A>(channels); }
  int64_t places_size() const { return (half.out_pixels() * sizeof(int32_t) + sizeof(A) - 1) / sizeof(A); }

  // The prepared weights: depthwise, the same turned by 180 degrees (backward only), pointwise (backward: its transpose),
  // where the product's pixels are stored.
  int64_t turned() const { return depthwise_size(); }
  int64_t pointwise() const { return 2 * depthwise_size(); }
  int64_t places() const {
    return pointwise() + (pointwise_size() > transposed_size() ? pointwise_size() : transposed_size());
  }
  int64_t prepared() const { return places() + places_size(); }
  const int32_t* places_of(const A* prepared) const { return reinterpret_cast<const int32_t*>(prepared + places()); }
};

template <class A>
void half_prepare(const Half& half, Pass pass, const A* depthwise, const A* pointwise, A* prepared) {
  const HalfPlan<A> plan(half);
  const bool back = pass == Pass::BACKWARD;
  for (int tap = 0; tap < plan.taps; ++tap)
    for (int lane = 0, channel = 0; lane < plan.period; ++lane) {
      const A weight = channel < half.channels ? depthwise[plan.whole_tap(tap) * half.channels + channel] : A(0);
      prepared[tap * plan.period + lane] = weight;
      if (back) prepared[plan.turned() + (plan.taps - 1 - tap) * plan.period + lane] = weight;
      if (++channel == plan.channels) channel = 0;
    }
  if (back)
    put_columns(pointwise, half.outputs, half.outputs, half.channels, plan.outputs, plan.channels,
                prepared + plan.pointwise());
  else
    put_rows(pointwise, half.outputs, half.channels, half.outputs, plan.channels, plan.outputs,
             prepared + plan.pointwise());
  // The gradient of a strided half is first stored in rows of its own.
  int32_t* places = reinterpret_cast<int32_t*>(prepared + plan.places());
  for (int row = 0, pixel = 0; row < half.out_height(); ++row)
    for (int column = 0; column < half.out_width(); ++column, ++pixel) {
      if (!back) places[pixel] = pixel * plan.outputs;
      else
        places[pixel] = half.stride == 1
                            ? int32_t((row + plan.border) * plan.gradient_pitch + (column + plan.border) * plan.channels)
                            : int32_t(row * plan.rows_pitch + column * plan.channels);
    }
}

// Zeros around the rows of a plane, `used` numbers of a row from `begin` on excepted.
template <class A>
inline void clear_border(A* plane, int64_t pitch, int height, int border, int64_t begin, int64_t used) {
  memset(plane, 0, border * pitch * sizeof(A));
  for (int row = border; row < height + border; ++row) {
    memset(plane + row * pitch, 0, begin * sizeof(A));
    memset(plane + row * pitch + begin + used, 0, (pitch - begin - used) * sizeof(A));
  }
  memset(plane + (height + border) * pitch, 0, (border * pitch + LANES<A>) * sizeof(A));
}

// relu(factor * x + offset) of `size` numbers that begin at place `phase` of the repeated arrays.
template <class S, class A>
inline void activate(int64_t size, int period, int phase, const S* x, Load<A> load, A* to) {
  if (load.factor == nullptr)
    each<A>(size, period, 0, [&]<class T>(int64_t i, int) { put(to + i, positive(get_stored<T>(x + i))); });
  else
    each<A>(size, period, phase, [&]<class T>(int64_t i, int at) {
      put(to + i, positive(get_stored<T>(x + i) * get<T>(load.factor + at) + get<T>(load.offset + at)));
    });
}

// The activated image with its border.
template <class S, class A>
void fill_plane(const HalfPlan<A>& plan, const S* x, Load<A> load, A* plane, A* row_scratch) {
  const Half& half = plan.half;
  const int period = period_of<A>(half.channels), size = half.width * half.channels;
  const bool direct = half.stride == 1 && plan.channels == half.channels;
  if (half.stride == 1)
    clear_border(plane, plan.pitch, half.height, plan.border, plan.border * plan.channels,
                 int64_t(half.width) * plan.channels);
  else
    memset(plane, 0, plan.plane * sizeof(A));
  for (int row = 0; row < half.height; ++row) {
    A* to = plane + (row + plan.border) * plan.pitch;
    const int phase = int(int64_t(row) * size % period);
    if (direct) {
      activate(size, period, phase, x + int64_t(row) * size, load, to + plan.border * plan.channels);
      continue;
    }
    activate(size, period, phase, x + int64_t(row) * size, load, row_scratch);
    if (half.stride == 1) {
      change_channels(row_scratch, half.channels, to + plan.border * plan.channels, plan.channels, half.width);
    } else {
      for (int column = 0; column < half.width; ++column) {
        const int at = column + plan.border;
        memcpy(to + (at & 1) * plan.split + (at >> 1) * plan.channels, row_scratch + column * half.channels,
               half.channels * sizeof(A));
      }
    }
  }
}

// The depthwise result, [out_pixels][channels].
template <class A>
void depthwise_image(const HalfPlan<A>& plan, const A* plane, const A* prepared, A* out) {
  const int lanes = plan.half.out_width() * plan.channels;
  for (int phase = 0; phase < plan.phases; ++phase)
    depthwise<A>(plan.half.kernel, plan.step, {plane + phase * plan.pitch, plan.half.dilation * plan.pitch, plan.columns},
                 prepared, plan.period, out + phase * lanes, int64_t(plan.phases) * lanes,
                 (plan.half.out_height() - phase + plan.phases - 1) / plan.phases, lanes);
}

// z = sum in storage; moments [3][channels]: the first pixel, and the sums of the distances to it and of their squares.
// Where the types are the same, `sum` may be z.
template <class S, class A>
void finish(int64_t pixels, int channels, const A* sum, S* z, A* moments, A* scratch) {
  S first[1];
  for (int channel = 0; channel < channels; ++channel) {
    narrow(sum[channel], first);
    moments[channel] = widen(first[0]);
  }
  repeat(moments, channels, scratch);
  sum_pairs(pixels * channels, channels, moments + channels, moments + 2 * channels,
            [&]<class T>(int64_t i, int phase, T& one, T& two) {
              T stored = get<T>(sum + i);
              put_stored(z + i, stored);
              if constexpr (!std::is_same_v<S, A>) stored = get_stored<T>(z + i);
              const T distance = stored - get<T>(scratch + phase);
              one += distance;
              two += distance * distance;
            });
}

template <class A>
int64_t half_scratch(const Half& half) {
  const HalfPlan<A> plan(half);
  const int64_t inside = half.pixels(), outside = half.out_pixels();
  return plan.plane + plan.gradient_plane + half.out_height() * plan.rows_pitch + LANES<A> +
         outside * (plan.channels + 2 * plan.outputs) + 2 * inside * plan.channels +
         int64_t(half.width) * half.channels + 8 * repeated_size<A>(plan.channels + 0) +
         8 * repeated_size<A>(half.channels) + 8 * repeated_size<A>(half.outputs) + 64 * LANES<A>;
}

// Hands out pieces of scratch.
template <class A>
struct Pieces {
  A* next;
  A* take(int64_t numbers) {
    A* piece = next;
    next += (numbers + LANES<A> - 1) / LANES<A> * LANES<A>;
    return piece;
  }
  const A* repeated(const A* values, int channels) {
    if (values == nullptr) return nullptr;
    A* piece = take(repeated_size<A>(channels));
    repeat(values, channels, piece);
    return piece;
  }
  Load<A> repeated(Load<A> load, int channels) {
    return {repeated(load.factor, channels), repeated(load.offset, channels)};
  }
};

template <class S, class A>
void half_forward(const Half& half, const A* prepared, const S* x, Load<A> load, S* z, A* moments, A* scratch) {
  const HalfPlan<A> plan(half);
  Pieces<A> pieces{scratch};
  A* plane = pieces.take(plan.plane);
  A* depthwise = pieces.take(half.out_pixels() * plan.channels);
  A* sum = pieces.take(half.out_pixels() * plan.outputs);
  A* narrow = pieces.take(half.out_pixels() * half.outputs);
  if constexpr (std::is_same_v<S, A>) {
    narrow = z;
    if (plan.outputs == half.outputs) sum = z;
  }
  fill_plane(plan, x, pieces.repeated(load, half.channels), plane, pieces.take(int64_t(half.width) * half.channels));
  // The next image lies behind this one.
  const int64_t in = half.pixels() * half.channels;
  Ahead ahead({x + in, half.stride == 1 ? z : nullptr}, in * int64_t(sizeof(S)));
  depthwise_image(plan, plane, prepared, depthwise);
  product(depthwise, plan.channels, plan.channels, prepared + plan.pointwise(), plan.outputs, sum,
          plan.places_of(prepared), int(half.out_pixels()), false, ahead);
  if (plan.outputs != half.outputs) {
    change_channels(sum, plan.outputs, narrow, half.outputs, half.out_pixels());
    sum = narrow;
  }
  finish(half.out_pixels(), half.outputs, sum, z, moments, pieces.take(repeated_size<A>(half.outputs)));
}

}  // namespace enas::ENAS_LEVEL
