// Products of 20 channels, the published number, which fill neither whole vectors nor short ones: two pixels together do.
#pragma once
#include "elementwise.h"

namespace enas::ENAS_LEVEL {

// Two pixels of 20 outputs fill five short vectors, the third of which is shared by both.
template <class A>
struct Pair {
  using V = ShortVector<A>;
  static constexpr int OUTPUTS = 20, LANES = sizeof(V) / sizeof(A), VECTORS = 5, MIDDLE = 2;
  static constexpr bool EXISTS = VECTOR_BYTES == 64 && sizeof(A) == 4;

  // What the five vectors are multiplied with.
  template <int v>
  static inline V number(V first, V second) {
    if constexpr (v < MIDDLE) return first;
    else if constexpr (v > MIDDLE) return second;
    else return typename VectorOf<A>::ShortMask{-1, -1, -1, -1, 0, 0, 0, 0} ? first : second;
  }
  // sums[v] += the row of a pair times both numbers.
  static inline void add(V (&sums)[VECTORS], const V (&row)[VECTORS], A first, A second) {
    const V one = broadcast<V>(first), two = broadcast<V>(second);
    sums[0] += number<0>(one, two) * row[0];
    sums[1] += number<1>(one, two) * row[1];
    sums[2] += number<2>(one, two) * row[2];
    sums[3] += number<3>(one, two) * row[3];
    sums[4] += number<4>(one, two) * row[4];
  }
};

// Numbers in a row of prepared weights: it is written twice where pixels are multiplied in pairs.
template <class A>
inline int row_size(int outputs) {
  return Pair<A>::EXISTS && outputs == Pair<A>::OUTPUTS ? 2 * outputs : outputs;
}

// One tile; `pixels` is 2 * pairs, or one fewer.
template <class A, int pairs>
inline void product_pairs_tile(const A* in, int64_t in_pitch, int depth, const A* weights, A* out,
                               const int32_t* places, int pixels, bool add, Ahead& ahead) {
  using P = Pair<A>;
  using V = typename P::V;
  const A* from[2 * pairs];
#pragma GCC unroll 16
  for (int p = 0; p < 2 * pairs; ++p) from[p] = in + (p < pixels ? p : p - 1) * in_pitch;
  V sums[pairs][P::VECTORS];
#pragma GCC unroll 8
  for (int g = 0; g < pairs; ++g)
#pragma GCC unroll 8
    for (int v = 0; v < P::VECTORS; ++v) sums[g][v] = V{};
  for (int k = 0; k < depth; ++k, weights += 2 * P::OUTPUTS) {
    ahead.touch();
    V row[P::VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < P::VECTORS; ++v) row[v] = get<V>(weights + v * P::LANES);
#pragma GCC unroll 8
    for (int g = 0; g < pairs; ++g) P::add(sums[g], row, from[2 * g][k], from[2 * g + 1][k]);
  }
#pragma GCC unroll 8
  for (int g = 0; g < pairs; ++g) {
    A* to = out + places[2 * g];
    if (!add && 2 * g + 1 < pixels && places[2 * g + 1] == places[2 * g] + P::OUTPUTS) {
#pragma GCC unroll 8
      for (int v = 0; v < P::VECTORS; ++v) put(to + v * P::LANES, sums[g][v]);
      continue;
    }
    A both[2 * P::OUTPUTS];
#pragma GCC unroll 8
    for (int v = 0; v < P::VECTORS; ++v) put(both + v * P::LANES, V(sums[g][v]));
    for (int p = 0; p < 2 && 2 * g + p < pixels; ++p)
      for (int n = 0; n < P::OUTPUTS; ++n) {
        A& there = out[places[2 * g + p] + n];
        there = add ? there + both[p * P::OUTPUTS + n] : both[p * P::OUTPUTS + n];
      }
  }
}

// out[places[p] + n] (+)= sum over k of in[p * in_pitch + k] * the k-th row of weights.
template <class A>
inline void product_pairs(const A* in, int64_t in_pitch, int depth, const A* weights, A* out, const int32_t* places,
                          int pixels, bool add, Ahead& ahead) {
  constexpr int MOST = 4;
  int pixel = 0;
  const auto tile = [&]<int pairs>(int count) {
    product_pairs_tile<A, pairs>(in + pixel * in_pitch, in_pitch, depth, weights, out, places + pixel, count, add, ahead);
    pixel += count;
  };
  while (pixel + 2 * MOST <= pixels) tile.template operator()<MOST>(2 * MOST);
  while (pixel < pixels) tile.template operator()<1>(pixel + 1 < pixels ? 2 : 1);
}

// sums[k * 20 + n] += sum over pixels of left[p * left_pitch + k] * right[p * 20 + n].
template <class A>
inline void outer_pairs(const A* left, int64_t left_pitch, int depth, const A* right, int pixels, A* sums,
                        Ahead& ahead) {
  using P = Pair<A>;
  using V = typename P::V;
  constexpr int DEPTHS = 4, SIZE = 2 * P::OUTPUTS;
  A last[SIZE] = {};  // an odd pixel, and zeros
  if (pixels % 2) memcpy(last, right + (pixels - 1) * P::OUTPUTS, P::OUTPUTS * sizeof(A));
  for (int first = 0; first < depth; first += DEPTHS) {
    V totals[DEPTHS][P::VECTORS];
#pragma GCC unroll 8
    for (int k = 0; k < DEPTHS; ++k)
#pragma GCC unroll 8
      for (int v = 0; v < P::VECTORS; ++v) totals[k][v] = V{};
    const auto add = [&](const A* one, const A* two, const A* from) __attribute__((always_inline)) {
      V row[P::VECTORS];
#pragma GCC unroll 8
      for (int v = 0; v < P::VECTORS; ++v) row[v] = get<V>(from + v * P::LANES);
#pragma GCC unroll 8
      for (int k = 0; k < DEPTHS; ++k) P::add(totals[k], row, one[k], two[k]);
    };
    const A* from = left + first;
    for (int pixel = 0; pixel + 2 <= pixels; pixel += 2) {
      ahead.touch();
      add(from + pixel * left_pitch, from + (pixel + 1) * left_pitch, right + pixel * P::OUTPUTS);
    }
    if (pixels % 2) add(from + (pixels - 1) * left_pitch, from + (pixels - 1) * left_pitch, last);
#pragma GCC unroll 8
    for (int k = 0; k < DEPTHS; ++k) {
      A both[SIZE];
#pragma GCC unroll 8
      for (int v = 0; v < P::VECTORS; ++v) put(both + v * P::LANES, V(totals[k][v]));
      for (int n = 0; n < P::OUTPUTS; ++n) sums[(first + k) * P::OUTPUTS + n] += both[n] + both[P::OUTPUTS + n];
    }
  }
}

}  // namespace enas::ENAS_LEVEL
