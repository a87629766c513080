// Matrix products of pixels with small weight matrices: 1x1 convolutions and their gradients.
//
// All counts of channels are multiples of four. A vector holds four output channels of PIXELS pixels; a tile of GROUPS
// vectors of pixels by QUADS vectors of channels stays in registers while the depth is run through.
#pragma once
#include "vector.h"

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

// The same of whole vectors of outputs: each number of a pixel meets a row of weights, and a pixel is stored at once.
template <class A, int pixels, int full>
inline void product_full_tile(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                              const int32_t* places, bool add, Ahead& ahead) {
  Vector<A> sums[pixels][full];
#pragma GCC unroll 16
  for (int p = 0; p < pixels; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) sums[p][v] = Vector<A>{};
  for (int k = 0; k < depth; ++k, weights += outputs) {
    ahead.touch();
    Vector<A> row[full];
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) row[v] = load(weights + v * LANES<A>);
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) {
      const Vector<A> number = broadcast(in[p * in_pitch + k]);
#pragma GCC unroll 8
      for (int v = 0; v < full; ++v) sums[p][v] += number * row[v];
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < pixels; ++p) {
    A* to = out + places[p];
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v)
      store(to + v * LANES<A>, add ? load(to + v * LANES<A>) + sums[p][v] : sums[p][v]);
  }
}

template <class A, int full>
inline void product_full(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                         const int32_t* places, int pixels, bool add, Ahead& ahead) {
  constexpr int MOST = full <= (VECTOR_BYTES == 64 ? 3 : 1) ? 8 : 4;  // pixels whose sums fit the registers
  int pixel = 0;
  const auto tile = [&]<int count>() {
    product_full_tile<A, count, full>(in + pixel * in_pitch, in_pitch, depth, weights, outputs, out, places + pixel,
                                      add, ahead);
    pixel += count;
  };
  while (pixel + MOST <= pixels) tile.template operator()<MOST>();
  if (MOST > 4 && pixel + 4 <= pixels) tile.template operator()<4>();
  if (pixel + 2 <= pixels) tile.template operator()<2>();
  if (pixel < pixels) tile.template operator()<1>();
}

// f.operator()<vectors>(begin) for stretches of `numbers`, which are whole vectors, of as many vectors as is good at once.
template <class A, class F>
inline void each_full(int numbers, F f) {
  constexpr int MOST = VECTOR_BYTES == 64 ? 5 : 3;
  int begin = 0;
  while (begin < numbers) {
    const int left = (numbers - begin) / LANES<A>;
    const auto next = [&]<int vectors>() {
      f.template operator()<vectors>(begin);
      begin += vectors * LANES<A>;
    };
    if (left >= MOST) next.template operator()<MOST>();
    else if (left == 4) next.template operator()<MOST < 4 ? MOST : 4>();
    else if (left == 3) next.template operator()<3>();
    else if (left == 2) next.template operator()<2>();
    else next.template operator()<1>();
  }
}

// out[places[p] + n] (+)= sum over k of in[p * in_pitch + k] * weights[k * outputs + n].
template <class A>
inline void product(const A* in, int64_t in_pitch, int depth, const A* weights, int outputs, A* out,
                    const int32_t* places, int pixels, bool add, Ahead& ahead) {
  if (outputs % LANES<A> == 0)
    return each_full<A>(outputs, [&]<int vectors>(int n) {
      product_full<A, vectors>(in, in_pitch, depth, weights + n, outputs, out + n, places, pixels, add, ahead);
    });
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

// The same where a pixel of `right` fills `full` vectors and has `part` numbers more: no pixel has to be gathered, and
// few pixels do not leave most of the time to the sums over lanes.
template <class A, int depths, int full, int part>
inline void outer_full_tile(const A* left, int64_t left_pitch, const A* right, int64_t right_pitch, int pixels, A* sums,
                            int outputs, Ahead& ahead) {
  typedef A Part __attribute__((vector_size((part ? part : 4) * sizeof(A)), may_alias));
  Vector<A> totals[depths][full];
  Part parts[depths];
#pragma GCC unroll 16
  for (int k = 0; k < depths; ++k) {
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) totals[k][v] = load(sums + k * outputs + v * LANES<A>);
    parts[k] = Part{};
    if constexpr (part) memcpy(&parts[k], sums + k * outputs + full * LANES<A>, sizeof parts[k]);
  }
  for (int pixel = 0; pixel < pixels; ++pixel) {
    ahead.touch();
    Vector<A> row[full];
    Part last{};
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) row[v] = load(right + pixel * right_pitch + v * LANES<A>);
    if constexpr (part) memcpy(&last, right + pixel * right_pitch + full * LANES<A>, sizeof last);
#pragma GCC unroll 16
    for (int k = 0; k < depths; ++k) {
      const A number = left[pixel * left_pitch + k];
#pragma GCC unroll 8
      for (int v = 0; v < full; ++v) totals[k][v] += broadcast(number) * row[v];
      if constexpr (part) parts[k] += number * last;
    }
  }
#pragma GCC unroll 16
  for (int k = 0; k < depths; ++k) {
#pragma GCC unroll 8
    for (int v = 0; v < full; ++v) store(sums + k * outputs + v * LANES<A>, totals[k][v]);
    if constexpr (part) memcpy(sums + k * outputs + full * LANES<A>, &parts[k], sizeof parts[k]);
  }
}

// `full` whole vectors of outputs: as many depths at once as the registers hold, but no more than hide a sum's latency.
template <class A, int full, int part = 0>
inline void outer_full(const A* left, int64_t left_pitch, int depth, const A* right, int64_t right_pitch, int outputs,
                       int pixels, A* sums, Ahead& ahead) {
  constexpr int MOST = VECTOR_BYTES == 64 ? (full == 1 ? 16 : full <= 3 ? 8 : 4) : full == 1 ? 8 : 4;
  int k = 0;
  for (; k + MOST <= depth; k += MOST)
    outer_full_tile<A, MOST, full, part>(left + k, left_pitch, right, right_pitch, pixels, sums + k * outputs, outputs,
                                         ahead);
  for (; k < depth; k += 4)
    outer_full_tile<A, 4, full, part>(left + k, left_pitch, right, right_pitch, pixels, sums + k * outputs, outputs,
                                      ahead);
}

// sums[k * outputs + n] += sum over pixels of left[p * left_pitch + k] * right[p * right_pitch + n].
template <class A>
inline void outer(const A* left, int64_t left_pitch, int depth, const A* right, int64_t right_pitch, int outputs,
                  int pixels, A* sums, Ahead& ahead) {
  const auto full = [&]<int vectors, int part>(int n) {
    outer_full<A, vectors, part>(left, left_pitch, depth, right + n, right_pitch, outputs, pixels, sums + n, ahead);
  };
  const auto whole = [&]<int vectors>(int n) { full.template operator()<vectors, 0>(n); };
  if (outputs % LANES<A> == 0) return each_full<A>(outputs, whole);
  if constexpr (LANES<A> == 16)
    if (outputs % 80 == 40) {
      each_full<A>(outputs - 40, whole);
      return full.template operator()<2, 8>(outputs - 40);
    }
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
