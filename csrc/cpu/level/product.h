// Matrix products of pixels with small weight matrices: 1x1 convolutions and their gradients.
//
// All counts of channels are multiples of four. A vector holds four output channels of PIXELS pixels; a tile of GROUPS
// vectors of pixels by QUADS vectors of channels stays in registers while the depth is run through.
#pragma once
#include "vector.h"

namespace enas::ENAS_LEVEL {

constexpr int GROUPS = VECTOR_BYTES == 64 ? 4 : 2;
constexpr int QUADS = 5;

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

// out[places[p] + n] (+)= sum over k of in[p * in_pitch + k] * weights[k * outputs + n].
template <class A>
inline void product(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                    const int32_t* places, int pixels, bool add, Ahead& ahead) {
  for (int n = 0; n < outputs; n += 4 * QUADS) {
    const int quads = (outputs - n) / 4;
    const auto columns = [&]<int count>() {
      product_columns<A, count>(in, in_pitch, depth, weights + n, outputs, out + n, places, pixels, add, ahead);
    };
    if (quads >= 5) columns.template operator()<5>();
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

// The same where whole vectors can be read from `right`: `together` pixels without gaps fill FULL vectors, so that none
// has to be gathered. A vector that ends one pixel and begins the next is multiplied by a number of each.
constexpr int FULL = 5;

template <class A, int together>
inline void outer_full_tile(const A* left, int64_t left_pitch, const A* right, int64_t right_pitch, int pixels, A* sums,
                            int outputs, Ahead& ahead) {
  constexpr int WIDTH = FULL * LANES<A> / together;  // of one pixel
  static_assert(WIDTH >= LANES<A>);
  Vector<A> totals[4][FULL];
#pragma GCC unroll 8
  for (int k = 0; k < 4; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < FULL; ++v) totals[k][v] = Vector<A>{};
  int pixel = 0;
  for (; pixel + together <= pixels; pixel += together) {
    ahead.touch();
    Vector<A> row[FULL];
#pragma GCC unroll 8
    for (int v = 0; v < FULL; ++v) row[v] = load(right + pixel * right_pitch + v * LANES<A>);
#pragma GCC unroll 8
    for (int k = 0; k < 4; ++k) {
      Vector<A> number[together];
#pragma GCC unroll 8
      for (int j = 0; j < together; ++j) number[j] = broadcast(left[(pixel + j) * left_pitch + k]);
#pragma GCC unroll 8
      for (int v = 0; v < FULL; ++v) {
        const int first = v * LANES<A> / WIDTH, last = ((v + 1) * LANES<A> - 1) / WIDTH;
        Vector<A> factor = number[first];
        if (first != last) {
          typename VectorOf<A>::Mask begun;
          for (int lane = 0; lane < LANES<A>; ++lane) begun[lane] = v * LANES<A> + lane < last * WIDTH ? -1 : 0;
          factor = begun ? number[first] : number[last];
        }
        totals[k][v] += factor * row[v];
      }
    }
  }
  for (int k = 0; k < 4; ++k) {
    for (int v = 0; v < FULL; ++v)
      for (int lane = 0; lane < LANES<A>; ++lane) sums[k * outputs + (v * LANES<A> + lane) % WIDTH] += totals[k][v][lane];
    for (int rest = pixel; rest < pixels; ++rest)
      for (int n = 0; n < WIDTH; ++n) sums[k * outputs + n] += left[rest * left_pitch + k] * right[rest * right_pitch + n];
  }
}

// sums[k * outputs + n] += sum over pixels of left[p * left_pitch + k] * right[p * right_pitch + n].
template <class A>
inline void outer(const A* left, int64_t left_pitch, int depth, const A* right, int64_t right_pitch, int outputs,
                  int pixels, A* sums, Ahead& ahead) {
  if (2 * outputs == FULL * LANES<A> && right_pitch == outputs) {
    for (int k = 0; k < depth; k += 4)
      outer_full_tile<A, 2>(left + k, left_pitch, right, right_pitch, pixels, sums + k * outputs, outputs, ahead);
    return;
  }
  int begin = 0;
  for (; begin + FULL * LANES<A> <= outputs; begin += FULL * LANES<A>)
    for (int k = 0; k < depth; k += 4)
      outer_full_tile<A, 1>(left + k, left_pitch, right + begin, right_pitch, pixels, sums + k * outputs + begin, outputs,
                             ahead);
  for (int n = begin; n < outputs; n += 4 * QUADS) {
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
