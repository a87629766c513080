// Dense convolutions of stride 1, on one image.
//
// The image is copied into a frame of zeros, as wide as the kernel needs. One row of the kernel then sees, at each pixel,
// `kernel` pixels that lie side by side: a product of depth kernel * inputs whose pixels overlap, over all rows of the
// image at once. What the product makes of places in the frame is left out afterwards.
#pragma once
#include "half_backward.h"

namespace enas::ENAS_LEVEL {

template <class A>
struct DensePlan {
  Dense dense;
  int inputs, outputs;  // filled up to whole fours
  int pitch, rows;      // of the frame, in pixels
  int pixels;           // from the first real one to the last, those of the frame between them included
  explicit DensePlan(const Dense& d) : dense(d) {
    inputs = fours(d.inputs);
    outputs = fours(d.outputs);
    pitch = d.width + d.kernel - 1;
    rows = d.height + d.kernel - 1;
    pixels = (d.height - 1) * pitch + d.width;
  }
  int before() const { return dense.kernel / 2; }  // pixels of frame above and to the left, where the input is framed
  int after() const { return dense.kernel - 1 - before(); }
  int64_t frame() const { return int64_t(rows) * pitch; }
  int64_t weights() const { return int64_t(dense.kernel) * dense.kernel * inputs * outputs; }
  int64_t row_weights() const { return int64_t(dense.kernel) * inputs * outputs; }
  // Prepared: the kernel, the kernel turned around and transposed, where pixels are stored in outputs and in inputs; of both
  // kernels one row of taps after the other.
  int64_t straight_row() const { return int64_t(dense.kernel) * inputs * row_size<A>(outputs); }
  int64_t turned_row() const { return int64_t(dense.kernel) * outputs * row_size<A>(inputs); }
  int64_t turned() const { return dense.kernel * straight_row(); }
  int64_t places() const { return turned() + dense.kernel * turned_row(); }
  int64_t prepared() const {
    return places() + (2 * pixels * int64_t(sizeof(int32_t)) + int64_t(sizeof(A)) - 1) / int64_t(sizeof(A));
  }
};

template <class A>
int64_t dense_prepared(const Dense& dense) {
  return DensePlan<A>(dense).prepared();
}
template <class A>
int64_t dense_gradients(const Dense& dense) {
  return DensePlan<A>(dense).weights();
}
template <class A>
int64_t dense_scratch(const Dense& dense) {
  const DensePlan<A> plan(dense);
  const int64_t widest = plan.inputs > plan.outputs ? plan.inputs : plan.outputs;
  return plan.frame() * (plan.inputs + plan.outputs + widest) + 16 * LANES<A>;
}

template <class A>
void dense_prepare(const Dense& dense, const A* kernel, A* prepared) {
  const DensePlan<A> plan(dense);
  const int taps = dense.kernel * dense.kernel;
  for (int tap = 0; tap < taps; ++tap) {
    const A* own = kernel + int64_t(tap) * dense.inputs * dense.outputs;
    put_rows(own, dense.outputs, dense.inputs, dense.outputs, plan.inputs, plan.outputs,
             prepared + tap * (plan.straight_row() / dense.kernel));
    put_columns(own, dense.outputs, dense.outputs, dense.inputs, plan.outputs, plan.inputs,
                prepared + plan.turned() + (taps - 1 - tap) * (plan.turned_row() / dense.kernel));
  }
  int32_t* places = reinterpret_cast<int32_t*>(prepared + plan.places());
  for (int pixel = 0; pixel < plan.pixels; ++pixel) {
    places[pixel] = pixel * plan.outputs;
    places[plan.pixels + pixel] = pixel * plan.inputs;
  }
}

template <class A>
void dense_add_gradients(const Dense& dense, const A* gradients, A* kernel) {
  const DensePlan<A> plan(dense);
  for (int tap = 0; tap < dense.kernel * dense.kernel; ++tap)
    for (int k = 0; k < dense.inputs; ++k)
      for (int n = 0; n < dense.outputs; ++n)
        kernel[(int64_t(tap) * dense.inputs + k) * dense.outputs + n] +=
            gradients[(int64_t(tap) * plan.inputs + k) * plan.outputs + n];
}

// The image `from` [pixels][real] in its frame [rows][pitch][filled], `before` pixels from the top and the left.
template <class S, class A>
void put_in_frame(const DensePlan<A>& plan, const S* from, int real, int filled, int before, A* frame) {
  memset(frame, 0, plan.frame() * filled * sizeof(A));
  const int width = plan.dense.width;
  for (int row = 0; row < plan.dense.height; ++row) {
    A* to = frame + (int64_t(row + before) * plan.pitch + before) * filled;
    const S* line = from + int64_t(row) * width * real;
    if (filled == real) {
      each<A>(int64_t(width) * real, 1, 0, [&]<class T>(int64_t i, int) { put(to + i, get_stored<T>(line + i)); });
    } else {
      for (int pixel = 0; pixel < width; ++pixel)
        for (int channel = 0; channel < real; ++channel)
          to[int64_t(pixel) * filled + channel] = widen(line[int64_t(pixel) * real + channel]);
    }
  }
}

// store.operator()<T>(place in the image, place in `framed`), for all numbers of the real pixels of [height][pitch][filled].
template <class A, class F>
void take_from_frame(const DensePlan<A>& plan, int real, int filled, F store) {
  for (int row = 0; row < plan.dense.height; ++row) {
    const int64_t to = int64_t(row) * plan.dense.width * real, from = int64_t(row) * plan.pitch * filled;
    if (filled == real) {
      each<A>(int64_t(plan.dense.width) * real, 1, 0,
              [&]<class T>(int64_t i, int) { store.template operator()<T>(to + i, from + i); });
    } else {
      for (int pixel = 0; pixel < plan.dense.width; ++pixel)
        for (int channel = 0; channel < real; ++channel)
          store.template operator()<A>(to + int64_t(pixel) * real + channel, from + int64_t(pixel) * filled + channel);
    }
  }
}

template <class S, class A>
void dense_forward(const Dense& dense, const A* prepared, const S* x, A* sum, A* scratch) {
  const DensePlan<A> plan(dense);
  Pieces<A> pieces{scratch};
  A* frame = pieces.take(plan.frame() * plan.inputs);
  A* made = pieces.take(plan.frame() * plan.outputs);
  const int32_t* places = reinterpret_cast<const int32_t*>(prepared + plan.places());
  put_in_frame(plan, x, dense.inputs, plan.inputs, plan.before(), frame);
  Ahead ahead;
  for (int row = 0; row < dense.kernel; ++row)
    product(frame + int64_t(row) * plan.pitch * plan.inputs, plan.inputs, dense.kernel * plan.inputs,
            prepared + row * plan.straight_row(), plan.outputs, made, places, plan.pixels, row > 0, ahead);
  take_from_frame(plan, dense.outputs, plan.outputs,
                  [&]<class T>(int64_t to, int64_t from) { put(sum + to, get<T>(made + from)); });
}

template <class S, class A>
void dense_backward(const Dense& dense, const A* prepared, const S* x, const A* dz, A* dx, A* gradients, A* scratch) {
  const DensePlan<A> plan(dense);
  Pieces<A> pieces{scratch};
  A* frame = pieces.take(plan.frame() * plan.inputs);
  A* framed = pieces.take(plan.frame() * plan.outputs);
  A* back = pieces.take(plan.frame() * plan.inputs);
  const int32_t* places = reinterpret_cast<const int32_t*>(prepared + plan.places()) + plan.pixels;
  put_in_frame(plan, x, dense.inputs, plan.inputs, plan.before(), frame);
  put_in_frame(plan, dz, dense.outputs, plan.outputs, plan.after(), framed);
  // From the first real pixel of dz on, places in the frame are zeros: they add nothing.
  const A* first = framed + (int64_t(plan.after()) * plan.pitch + plan.after()) * plan.outputs;
  Ahead ahead;
  for (int row = 0; row < dense.kernel; ++row)
    outer(frame + int64_t(row) * plan.pitch * plan.inputs, plan.inputs, dense.kernel * plan.inputs, first, plan.outputs,
          plan.outputs, plan.pixels, gradients + row * plan.row_weights(), ahead);
  if (dx == nullptr) return;
  for (int row = 0; row < dense.kernel; ++row)
    product(framed + int64_t(row) * plan.pitch * plan.outputs, plan.outputs, dense.kernel * plan.outputs,
            prepared + plan.turned() + row * plan.turned_row(), plan.inputs, back, places, plan.pixels, row > 0, ahead);
  take_from_frame(plan, dense.inputs, plan.inputs,
                  [&]<class T>(int64_t to, int64_t from) { put(dx + to, get<T>(dx + to) + get<T>(back + from)); });
}

}  // namespace enas::ENAS_LEVEL
