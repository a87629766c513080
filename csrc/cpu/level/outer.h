// Gradients of the weights of products: sums over pixels of what was multiplied, times the gradient of what came out.
#pragma once
#include "product.h"

namespace enas::ENAS_LEVEL {

template <class A, int quads>
inline void outer_tile(const A* left, int64_t left_pitch, const A* right, int64_t right_pitch, int pixels, A* sums,
                       int outputs, Ahead& ahead) {
  Vector<A> totals[4][quads];
#pragma GCC unroll 8
  for (int k = 0; k < 4; ++k)
#pragma GCC unroll 8
    for (int q = 0; q < quads; ++q) totals[k][q] = Vector<A>{};
  const auto add = [&](Vector<A> x, const A* from, int64_t pitch) __attribute__((always_inline)) {
    Vector<A> row[quads];
#pragma GCC unroll 8
    for (int q = 0; q < quads; ++q) row[q] = gather_pixels(from + 4 * q, pitch);
    const auto one = [&]<int channel>() __attribute__((always_inline)) {
      const Vector<A> number = spread<A, channel>(x);
#pragma GCC unroll 8
      for (int q = 0; q < quads; ++q) totals[channel][q] += number * row[q];
    };
    one.template operator()<0>();
    one.template operator()<1>();
    one.template operator()<2>();
    one.template operator()<3>();
  };
  int pixel = 0;
  for (; pixel + PIXELS<A> <= pixels; pixel += PIXELS<A>) {
    ahead.touch();
    add(gather_pixels(left + pixel * left_pitch, left_pitch), right + pixel * right_pitch, right_pitch);
  }
  if (pixel < pixels) {  // what is left over, with zeros on the left where there is no pixel
    Vector<A> x{};
    memcpy(&x, left + pixel * left_pitch, 4 * sizeof(A));
    for (int more = 1; pixel + more < pixels; ++more)
      memcpy(reinterpret_cast<A*>(&x) + 4 * more, left + (pixel + more) * left_pitch, 4 * sizeof(A));
    alignas(64) A rows[PIXELS<A>][4 * quads] = {};
    for (int more = 0; pixel + more < pixels; ++more)
      memcpy(rows[more], right + (pixel + more) * right_pitch, sizeof rows[0]);
    add(x, rows[0], 4 * quads);
  }
#pragma GCC unroll 8
  for (int k = 0; k < 4; ++k)
#pragma GCC unroll 8
    for (int q = 0; q < quads; ++q) add_pixels(sums + k * outputs + 4 * q, totals[k][q]);
}

// The same where a pixel of `right` fills `full` vectors V: no pixel has to be gathered, and few pixels do not leave most
// of the time to the sums over lanes.
template <class V, class A, int depths, int full>
inline void outer_full_tile(const A* left, int64_t left_pitch, const A* right, int64_t right_pitch, int pixels, A* sums,
                            int outputs, Ahead& ahead) {
  constexpr int LANES = sizeof(V) / sizeof(A);
  V totals[depths][full];
#pragma GCC unroll 16
  for (int k = 0; k < depths; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) totals[k][v] = get<V>(sums + k * outputs + v * LANES);
  for (int pixel = 0; pixel < pixels; ++pixel) {
    ahead.touch();
    V row[full];
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) row[v] = get<V>(right + pixel * right_pitch + v * LANES);
#pragma GCC unroll 16
    for (int k = 0; k < depths; ++k) {
      const V number = broadcast<V>(left[pixel * left_pitch + k]);
#pragma GCC unroll 8
      for (int v = 0; v < full; ++v) totals[k][v] += number * row[v];
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < depths; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) put(sums + k * outputs + v * LANES, totals[k][v]);
}

// `full` whole vectors of outputs: as many depths at once as the registers hold, but no more than hide a sum's latency.
template <class V, class A, int full>
inline void outer_full(const A* left, int64_t left_pitch, int depth, const A* right, int64_t right_pitch, int outputs,
                       int pixels, A* sums, Ahead& ahead) {
  constexpr int MOST = VECTOR_BYTES == 64 ? (full == 1 ? 16 : full <= 3 ? 8 : 4) : full == 1 ? 8 : 4;
  int k = 0;
  for (; k + MOST <= depth; k += MOST)
    outer_full_tile<V, A, MOST, full>(left + k, left_pitch, right, right_pitch, pixels, sums + k * outputs, outputs, ahead);
  for (; k < depth; k += 4)
    outer_full_tile<V, A, 4, full>(left + k, left_pitch, right, right_pitch, pixels, sums + k * outputs, outputs, ahead);
}

// sums[k * outputs + n] += sum over pixels of left[p * left_pitch + k] * right[p * right_pitch + n].
template <class A>
inline void outer(const A* left, int64_t left_pitch, int depth, const A* right, int64_t right_pitch, int outputs,
                  int pixels, A* sums, Ahead& ahead) {
  const auto full = [&]<class V>() {
    each_full<V, A>(outputs, [&]<int vectors>(int n) {
      outer_full<V, A, vectors>(left, left_pitch, depth, right + n, right_pitch, outputs, pixels, sums + n, ahead);
    });
  };
  if (outputs % LANES<A> == 0) return full.template operator()<Vector<A>>();
  if constexpr (sizeof(ShortVector<A>) < sizeof(Vector<A>))
    if (outputs % (LANES<A> / 2) == 0) return full.template operator()<ShortVector<A>>();
  if constexpr (Pair<A>::EXISTS)
    if (outputs == Pair<A>::OUTPUTS && right_pitch == outputs)
      return outer_pairs(left, left_pitch, depth, right, pixels, sums, ahead);
  for (int n = 0; n < outputs; n += 4 * QUADS) {
    const int quads = (outputs - n) / 4;
    for (int k = 0; k < depth; k += 4) {
      const auto tile = [&]<int count>() {
        outer_tile<A, count>(left + k, left_pitch, right + n, right_pitch, pixels, sums + k * outputs + n, outputs,
                             ahead);
      };
      if (quads >= 5) tile.template operator()<5>();
      else if (quads == 4) tile.template operator()<4>();
      else if (quads == 3) tile.template operator()<3>();
      else if (quads == 2) tile.template operator()<2>();
      else tile.template operator()<1>();
    }
  }
}

}  // namespace enas::ENAS_LEVEL
