// The backward pass of a half: the gradients of its input, of its depthwise and of its pointwise weights.
#pragma once
#include "half.h"
#include "outer.h"

namespace enas::ENAS_LEVEL {

// dz = scale * on_grad * dy + on_z * z + constant, or scale * dy.
template <class S, class A>
void norm_gradient(int64_t pixels, int channels, const S* z, Gradient<A> gradient, A* dz, A* scratch) {
  const A scale = gradient.scale;
  const A* dy = gradient.dy;
  if (gradient.on_grad == nullptr)
    return each<A>(pixels * channels, 1, 0, [&]<class T>(int64_t i, int) { put(dz + i, get<T>(dy + i) * scale); });
  Pieces<A> pieces{scratch};
  const A* on_grad = pieces.repeated(gradient.on_grad, channels);
  const A* on_z = pieces.repeated(gradient.on_z, channels);
  const A* constant = pieces.repeated(gradient.constant, channels);
  each<A>(pixels * channels, period_of<A>(channels), 0, [&]<class T>(int64_t i, int at) {
    put(dz + i, get<T>(dy + i) * scale * get<T>(on_grad + at) +
                    (get_stored<T>(z + i) * get<T>(on_z + at) + get<T>(constant + at)));
  });
}

template <class S, class A>
void norm_sums(int64_t pixels, int channels, const A* dy, const S* z, const A* centre, A* sums, A* scratch) {
  repeat(centre, channels, scratch);
  sum_pairs(pixels * channels, channels, sums, sums + channels, [&]<class T>(int64_t i, int at, T& one, T& two) {
    const T gradient = get<T>(dy + i);
    one += gradient;
    two += gradient * (get_stored<T>(z + i) - get<T>(scratch + at));
  });
}

// The gradient of the depthwise result, spread over the input's size where the half is strided, with its border.
template <class A>
void spread_gradient(const HalfPlan<A>& plan, const A* rows, A* plane) {
  const Half& half = plan.half;
  memset(plane, 0, plan.gradient_plane * sizeof(A));
  for (int row = 0; row < half.out_height(); ++row)
    for (int column = 0; column < half.out_width(); ++column)
      memcpy(plane + (2 * row + plan.border) * plan.gradient_pitch + (2 * column + plan.border) * plan.channels,
             rows + row * plan.rows_pitch + column * plan.channels, plan.channels * sizeof(A));
}

// dx (+)= du where factor * x + offset is positive; sums of what was added and of it times (x - centre).
template <class S, class A>
void pass_gradient(const Half& half, const S* x, Load<A> load, const A* du, A* dx, bool add, const A* centre, A* sums,
                   int period) {
  const int64_t size = half.pixels() * half.channels;
  const auto passed = [&]<class T>(int64_t i, int at) __attribute__((always_inline)) {
    const T stored = get_stored<T>(x + i);
    const T value = load.factor == nullptr ? stored : stored * get<T>(load.factor + at) + get<T>(load.offset + at);
    return value > T{} ? get<T>(du + i) : T{};
  };
  if (sums == nullptr) {
    each<A>(size, period, 0, [&]<class T>(int64_t i, int at) {
      const T gradient = passed.template operator()<T>(i, at);
      put(dx + i, add ? get<T>(dx + i) + gradient : gradient);
    });
    return;
  }
  sum_pairs(size, half.channels, sums, sums + half.channels, [&]<class T>(int64_t i, int at, T& one, T& two) {
    const T gradient = passed.template operator()<T>(i, at);
    put(dx + i, add ? get<T>(dx + i) + gradient : gradient);
    one += gradient;
    two += gradient * (get_stored<T>(x + i) - get<T>(centre + at));
  });
}

template <class S, class A>
void half_backward(const Half& half, const A* prepared, const S* x, Load<A> load, const S* z, Gradient<A> gradient,
                   A* dx, bool add, const A* centre, A* sums, A* gradients, A* scratch) {
  const HalfPlan<A> plan(half);
  Pieces<A> pieces{scratch};
  const int64_t outside = half.out_pixels();
  A* plane = pieces.take(plan.plane);
  A* gradient_plane = pieces.take(plan.gradient_plane);
  A* rows = pieces.take(half.out_height() * plan.rows_pitch + LANES<A>);
  A* depthwise_out = pieces.take(outside * plan.channels);
  A* dz = pieces.take(outside * plan.outputs);
  A* wide_dz = pieces.take(outside * plan.outputs);
  A* du = pieces.take(half.pixels() * plan.channels);
  A* narrow_du = pieces.take(half.pixels() * plan.channels);
  A* row_scratch = pieces.take(int64_t(half.width) * half.channels);
  load = pieces.repeated(load, half.channels);
  centre = pieces.repeated(centre, half.channels);

  norm_gradient(outside, half.outputs, z, gradient, dz, pieces.next);
  if (plan.outputs != half.outputs) {
    change_channels(dz, half.outputs, wide_dz, plan.outputs, outside);
    dz = wide_dz;
  }
  fill_plane(plan, x, load, plane, row_scratch);
  const int64_t in = half.pixels() * half.channels, out = outside * half.outputs;
  Ahead here({dx}, in * int64_t(sizeof(A)));
  Ahead ahead({x + in, z == nullptr ? nullptr : z + out, gradient.dy + out}, out * int64_t(sizeof(A)));
  depthwise_image(plan, plane, prepared, depthwise_out);
  A* pointwise_gradient = gradients + int64_t(plan.taps) * plan.period;
  outer(depthwise_out, plan.channels, plan.channels, dz, plan.outputs, plan.outputs, int(outside), pointwise_gradient,
        ahead);

  A* spread_to = half.stride == 1 ? gradient_plane : rows;
  if (half.stride == 1)
    clear_border(gradient_plane, plan.gradient_pitch, half.height, plan.border, plan.border * plan.channels,
                 int64_t(half.width) * plan.channels);
  else
    memset(rows, 0, (half.out_height() * plan.rows_pitch + LANES<A>) * sizeof(A));
  product(dz, plan.outputs, plan.outputs, prepared + plan.pointwise(), plan.channels, spread_to,
          plan.places_of(prepared), int(outside), false, here);

  const A* gradient_rows =
      half.stride == 1 ? gradient_plane + plan.border * (plan.gradient_pitch + plan.channels) : rows;
  const int64_t gradient_rows_pitch = half.stride == 1 ? plan.gradient_pitch : plan.rows_pitch;
  for (int phase = 0; phase < plan.phases; ++phase)
    depthwise_weight_gradient<A>(
        plan.half.kernel, plan.step, {plane + phase * plan.pitch, half.dilation * plan.pitch, plan.columns},
        gradient_rows + phase * gradient_rows_pitch, plan.phases * gradient_rows_pitch, gradients, plan.period,
        (half.out_height() - phase + plan.phases - 1) / plan.phases, half.out_width() * plan.channels);

  if (half.stride == 2) spread_gradient(plan, rows, gradient_plane);
  const int lanes = half.width * plan.channels;
  for (int phase = 0; phase < half.dilation; ++phase)
    depthwise<A>(plan.half.kernel, 1,
                 {gradient_plane + phase * plan.gradient_pitch, half.dilation * plan.gradient_pitch,
                  plan.gradient_columns},
                 prepared + plan.turned(), plan.period, du + phase * lanes, int64_t(half.dilation) * lanes,
                 (half.height - phase + half.dilation - 1) / half.dilation, lanes);
  if (plan.channels != half.channels) {
    change_channels(du, plan.channels, narrow_du, half.channels, half.pixels());
    du = narrow_du;
  }
  pass_gradient(half, x, load, du, dx, add, centre, sums, period_of<A>(half.channels));
}

template <class A>
int64_t half_gradients(const Half& half) {
  const HalfPlan<A> plan(half);
  return int64_t(plan.taps) * plan.period + int64_t(plan.channels) * plan.outputs;
}

template <class A>
void half_add_gradients(const Half& half, const A* gradients, A* depthwise, A* pointwise) {
  const HalfPlan<A> plan(half);
  for (int tap = 0; tap < plan.taps; ++tap)
    for (int lane = 0, channel = 0; lane < plan.period; ++lane) {
      if (channel < half.channels)
        depthwise[plan.whole_tap(tap) * half.channels + channel] += gradients[tap * plan.period + lane];
      if (++channel == plan.channels) channel = 0;
    }
  gradients += int64_t(plan.taps) * plan.period;
  for (int k = 0; k < half.channels; ++k)
    for (int n = 0; n < half.outputs; ++n) pointwise[k * half.outputs + n] += gradients[k * plan.outputs + n];
}

}  // namespace enas::ENAS_LEVEL
