// Matrix products of pixels with small weight matrices: 1x1 convolutions, and backward to what they were given.
//
// All counts of channels are multiples of four. A vector holds four output channels of PIXELS pixels; a tile of GROUPS
// vectors of pixels by QUADS vectors of channels stays in registers while the depth is run through.
#pragma once
#include "pairs.h"

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
      const V number = broadcast<V>(in[p * in_pitch + k]);
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

}  // namespace enas::ENAS_LEVEL
