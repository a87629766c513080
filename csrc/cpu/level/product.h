// Matrix products of pixels with small weight matrices: 1x1 convolutions and their gradients.
//
// All counts of channels are multiples of four. A vector holds four output channels of PIXELS pixels; a tile of GROUPS
// vectors of pixels by QUADS vectors of channels stays in registers while the depth is run through.
#pragma once
#include "elementwise.h"

namespace enas::ENAS_LEVEL {

constexpr int GROUPS = VECTOR_BYTES == 64 ? 4 : 2;
constexpr int QUADS = 5;
// Of an image too small for such a tile: one vector of pixels by more channels, or each sum would wait for the last.
constexpr int FEW_QUADS = 8;

template <class A, int groups, int quads>
inline void product_tile(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                         const int32_t* places, bool add, Ahead& ahead) {
  Vector<A> sums[groups][quads];
#pragma GCC unroll 8
  for (int g = 0; g < groups; ++g)
#pragma GCC unroll 8
    for (int q = 0; q < quads; ++q) sums[g][q] = Vector<A>{};
  for (int k = 0; k < depth; k += 4) {
    Vector<A> x[groups];
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) x[g] = gather_pixels(in + g * PIXELS<A> * in_pitch + k, in_pitch);
    const auto one = [&]<int channel>() __attribute__((always_inline)) {
      ahead.touch();
      Vector<A> row[quads];
#pragma GCC unroll 8
      for (int q = 0; q < quads; ++q) row[q] = repeat_four(weights + (k + channel) * outputs + 4 * q);
#pragma GCC unroll 8
      for (int g = 0; g < groups; ++g) {
        const Vector<A> left = spread<A, channel>(x[g]);
#pragma GCC unroll 8
        for (int q = 0; q < quads; ++q) sums[g][q] += left * row[q];
      }
    };
    one.template operator()<0>();
    one.template operator()<1>();
    one.template operator()<2>();
    one.template operator()<3>();
  }
#pragma GCC unroll 8
  for (int g = 0; g < groups; ++g)
#pragma GCC unroll 8
    for (int pixel = 0; pixel < PIXELS<A>; ++pixel) {
      A* to = out + places[g * PIXELS<A> + pixel];
#pragma GCC unroll 8
      for (int q = 0; q < quads; ++q) {
        typedef A Four __attribute__((vector_size(4 * sizeof(A)), aligned(sizeof(A)), may_alias));
        Four four;
        memcpy(&four, reinterpret_cast<const A*>(&sums[g][q]) + 4 * pixel, sizeof four);
        Four& there = *reinterpret_cast<Four*>(to + 4 * q);
        there = add ? there + four : four;
      }
    }
}

template <class A, int quads>
inline void product_columns(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                            const int32_t* places, int pixels, bool add, Ahead& ahead) {
  int pixel = 0;
  if constexpr (quads <= QUADS)
    for (; pixel + GROUPS * PIXELS<A> <= pixels; pixel += GROUPS * PIXELS<A>)
      product_tile<A, GROUPS, quads>(in + pixel * in_pitch, in_pitch, depth, weights, outputs, out, places + pixel, add,
                                      ahead);
  for (; pixel + PIXELS<A> <= pixels; pixel += PIXELS<A>)
    product_tile<A, 1, quads>(in + pixel * in_pitch, in_pitch, depth, weights, outputs, out, places + pixel, add,
                                    ahead);
  for (; pixel < pixels; ++pixel) {  // the same order of sums, one pixel's vector repeated
    int32_t same[PIXELS<A>];
    for (int32_t& place : same) place = places[pixel];
    if (add) {  // all copies write the same sum only if they start from the same number
      A start[4 * quads];
      memcpy(start, out + places[pixel], sizeof start);
      product_tile<A, 1, quads>(in + pixel * in_pitch, 0, depth, weights, outputs, out, same, false, ahead);
      for (int n = 0; n < 4 * quads; ++n) out[places[pixel] + n] += start[n];
    } else {
      product_tile<A, 1, quads>(in + pixel * in_pitch, 0, depth, weights, outputs, out, same, false, ahead);
    }
  }
}

// The same of whole vectors V of outputs: each number of a pixel meets a row of weights, and a pixel is stored at once.
template <class V, class A, int pixels, int full>
inline void product_full_tile(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                              const int32_t* places, bool add, Ahead& ahead) {
  constexpr int LANES = sizeof(V) / sizeof(A);
  V sums[pixels][full];
#pragma GCC unroll 16
  for (int p = 0; p < pixels; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) sums[p][v] = V{};
  for (int k = 0; k < depth; ++k, weights += outputs) {
    ahead.touch();
    V row[full];
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) row[v] = get<V>(weights + v * LANES);
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) {
      const V number = in[p * in_pitch + k] - V{};
#pragma GCC unroll 8
      for (int v = 0; v < full; ++v) sums[p][v] += number * row[v];
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < pixels; ++p) {
    A* to = out + places[p];
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) put(to + v * LANES, add ? get<V>(to + v * LANES) + sums[p][v] : sums[p][v]);
  }
}

template <class V, class A, int full>
inline void product_full(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                         const int32_t* places, int pixels, bool add, Ahead& ahead) {
  constexpr int MOST = full <= (VECTOR_BYTES == 64 ? 3 : 1) ? 8 : 4;  // pixels whose sums fit the registers
  int pixel = 0;
  const auto tile = [&]<int count>() {
    product_full_tile<V, A, count, full>(in + pixel * in_pitch, in_pitch, depth, weights, outputs, out, places + pixel,
                                         add, ahead);
    pixel += count;
  };
  while (pixel + MOST <= pixels) tile.template operator()<MOST>();
  if (MOST > 4 && pixel + 4 <= pixels) tile.template operator()<4>();
  if (pixel + 2 <= pixels) tile.template operator()<2>();
  if (pixel < pixels) tile.template operator()<1>();
}

// f.operator()<vectors>(begin) for stretches of `numbers`, which are whole vectors V, of as many vectors as is good at
// once.
template <class V, class A, class F>
inline void each_full(int numbers, F f) {
  constexpr int MOST = VECTOR_BYTES == 64 ? 5 : 3, LANES = sizeof(V) / sizeof(A);
  int begin = 0;
  while (begin < numbers) {
    const int left = (numbers - begin) / LANES;
    const auto next = [&]<int vectors>() {
      f.template operator()<vectors>(begin);
      begin += vectors * LANES;
    };
    if (left >= MOST) next.template operator()<MOST>();
    else if (left == 4) next.template operator()<MOST < 4 ? MOST : 4>();
    else if (left == 3) next.template operator()<3>();
    else if (left == 2) next.template operator()<2>();
    else next.template operator()<1>();
  }
}

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
    const V one = first - V{}, two = second - V{};
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

// Prepares weights [real_depth][pitch], of which each row has `real` numbers, as [depth][row_size<A>(outputs)]: what is
// filled up is zero.
template <class A>
inline void put_rows(const A* weights, int64_t pitch, int real_depth, int real, int depth, int outputs, A* prepared) {
  const int size = row_size<A>(outputs);
  for (int k = 0; k < depth; ++k, prepared += size) {
    const int count = k < real_depth ? real : 0;
    if (count > 0) memcpy(prepared, weights + k * pitch, count * sizeof(A));
    memset(prepared + count, 0, (outputs - count) * sizeof(A));
    if (size > outputs) memcpy(prepared + outputs, prepared, outputs * sizeof(A));
  }
}
// The same of their transpose: weights are [real][pitch], of which `real_depth` numbers of a row.
template <class A>
inline void put_columns(const A* weights, int64_t pitch, int real_depth, int real, int depth, int outputs, A* prepared) {
  const int size = row_size<A>(outputs);
  for (int k = 0; k < depth; ++k, prepared += size) {
    for (int n = 0; n < outputs; ++n) prepared[n] = k < real_depth && n < real ? weights[n * pitch + k] : A(0);
    if (size > outputs) memcpy(prepared + outputs, prepared, outputs * sizeof(A));
  }
}

// `pixels` is 2 * pairs, or one fewer.
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

// out[places[p] + n] (+)= sum over k of in[p * in_pitch + k] * the k-th row of weights, each of row_size<A>(outputs).
template <class A>
inline void product(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                    const int32_t* places, int pixels, bool add, Ahead& ahead) {
  const auto full = [&]<class V>() {
    each_full<V, A>(outputs, [&]<int vectors>(int n) {
      product_full<V, A, vectors>(in, in_pitch, depth, weights + n, outputs, out + n, places, pixels, add, ahead);
    });
  };
  if (outputs % LANES<A> == 0) return full.template operator()<Vector<A>>();
  if constexpr (sizeof(ShortVector<A>) < sizeof(Vector<A>))
    if (outputs % (LANES<A> / 2) == 0) return full.template operator()<ShortVector<A>>();
  if constexpr (Pair<A>::EXISTS)
    if (outputs == Pair<A>::OUTPUTS)
      return product_pairs(in, in_pitch, depth, weights, out, places, pixels, add, ahead);
  const bool few = pixels < GROUPS * PIXELS<A>;
  for (int n = 0; n < outputs;) {
    const int quads = (outputs - n) / 4;
    const auto columns = [&]<int count>() {
      product_columns<A, count>(in, in_pitch, depth, weights + n, outputs, out + n, places, pixels, add, ahead);
      n += 4 * count;
    };
    if (few && quads >= FEW_QUADS) columns.template operator()<FEW_QUADS>();
    else if (quads >= 5) columns.template operator()<5>();
    else if (quads == 4) columns.template operator()<4>();
    else if (quads == 3) columns.template operator()<3>();
    else if (quads == 2) columns.template operator()<2>();
    else columns.template operator()<1>();
  }
}

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
      const V number = left[pixel * left_pitch + k] - V{};
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

// The same of pixels in pairs, which follow one another without gaps.
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
