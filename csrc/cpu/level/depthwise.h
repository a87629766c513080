// Depthwise convolution of one image, and its weight gradient, vectorised over whole rows of pixels and channels.
//
// The image lies in a plane with a border of zeros: rows of `pitch` numbers, a pixel's channels side by side. A row is
// one vector after the other, whatever the channels: weights are repeated ("expanded") to a period that is a multiple
// of both. With stride 2 a row holds its even columns first and its odd ones after them, so that every tap of every
// output still reads neighbours.
#pragma once
#include <utility>

#include "elementwise.h"

namespace enas::ENAS_LEVEL {

template <class A>
struct Plane {
  const A* first;          // the first input row that the first output row reads
  int64_t pitch;           // from an input row to the one that the next tap below reads
  const int32_t* columns;  // where tap column dx begins in a row
};

// R rows of output, `step` pitches of input apart, of `lanes` numbers each.
template <class V, class A, int K, int R, int step>
inline void depthwise_rows(const Plane<A>& in, const A* expanded, int period, A* out, int64_t out_pitch, int lanes) {
  constexpr int ROWS = (R - 1) * step + K, LANES = sizeof(V) / sizeof(A);
  const int64_t pitch = in.pitch;
  const A* columns[K];
#pragma GCC unroll 8
  for (int dx = 0; dx < K; ++dx) columns[dx] = in.first + in.columns[dx];
  int phase = 0;
  for (int lane = 0; lane < lanes; lane += LANES) {
    V sums[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[r] = V{};
#pragma GCC unroll 8
    for (int dx = 0; dx < K; ++dx) {
      V taps[K];
#pragma GCC unroll 8
      for (int dy = 0; dy < K; ++dy) taps[dy] = get<V>(expanded + (dy * K + dx) * period + phase);
      const A* column = columns[dx] + lane;
#pragma GCC unroll 32
      for (int row = 0; row < ROWS; ++row) {
        const V x = get<V>(column + row * pitch);
#pragma GCC unroll 8
        for (int dy = 0; dy < K; ++dy)
          if ((row - dy) % step == 0 && row >= dy && (row - dy) / step < R) sums[(row - dy) / step] += x * taps[dy];
      }
    }
    const int left = lanes - lane;
    if (left >= LANES) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) put(out + r * out_pitch + lane, sums[r]);
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V last = sums[r];  // a copy: else all sums of every lane would go through memory
        memcpy(out + r * out_pitch + lane, &last, left * sizeof(A));
      }
    }
    phase += LANES;
    if (phase == period) phase = 0;
  }
}

template <class A, int K, int step>
inline void depthwise_of(Plane<A> in, int64_t in_step, const A* expanded, int period, A* out, int64_t out_pitch,
                         int rows, int lanes) {
  constexpr int MOST = K == 7 ? 4 : 8;
  // With 3 x 3 taps there are few products for each load.
  typedef A V __attribute__((vector_size(K == 3 ? sizeof(ShortVector<A>) : sizeof(Vector<A>)), may_alias));
  while (rows > 0) {
    int done = 1;
    if (rows >= MOST) {
      depthwise_rows<V, A, K, MOST, step>(in, expanded, period, out, out_pitch, lanes);
      done = MOST;
    } else if (rows >= 4) {
      depthwise_rows<V, A, K, 4, step>(in, expanded, period, out, out_pitch, lanes);
      done = 4;
    } else if (rows >= 2) {
      depthwise_rows<V, A, K, 2, step>(in, expanded, period, out, out_pitch, lanes);
      done = 2;
    } else {
      depthwise_rows<V, A, K, 1, step>(in, expanded, period, out, out_pitch, lanes);
    }
    in.first += done * in_step;
    out += done * out_pitch;
    rows -= done;
  }
}

// `rows` rows of output. `step` is how many tap rows lie between two output rows: 1, or 2 with stride 2.
template <class A>
inline void depthwise(int kernel, int step, const Plane<A>& in, const A* expanded, int period, A* out,
                      int64_t out_pitch, int rows, int lanes) {
  const int64_t in_step = step * in.pitch;
  if (step == 1) {
    if (kernel == 3) depthwise_of<A, 3, 1>(in, in_step, expanded, period, out, out_pitch, rows, lanes);
    if (kernel == 5) depthwise_of<A, 5, 1>(in, in_step, expanded, period, out, out_pitch, rows, lanes);
    if (kernel == 7) depthwise_of<A, 7, 1>(in, in_step, expanded, period, out, out_pitch, rows, lanes);
  } else {
    if (kernel == 3) depthwise_of<A, 3, 2>(in, in_step, expanded, period, out, out_pitch, rows, lanes);
    if (kernel == 5) depthwise_of<A, 5, 2>(in, in_step, expanded, period, out, out_pitch, rows, lanes);
    if (kernel == 7) depthwise_of<A, 7, 2>(in, in_step, expanded, period, out, out_pitch, rows, lanes);
  }
}

// Adds to `sums` [K * K][period] the products of input and output gradient, lane by lane, for output rows that are one
// tap row apart. A column of taps slides down the rows of the image, not those of its border, which are zero: each input
// row meets the K rows of the gradient around it, kept in registers.
template <class A, int K>
inline void depthwise_weight_gradient_dense(const Plane<A>& in, const A* gradient, int64_t gradient_pitch, A* sums,
                                            int period, int rows, int lanes) {
  constexpr int GROUP = K == 7 ? 1 : K;  // columns of taps at once: 25 sums and 5 gradients fill the registers
  constexpr int MIDDLE = K / 2;
  const int64_t pitch = in.pitch, spacing = in.columns[1] - in.columns[0];
  for (int phase = 0; phase < period; phase += LANES<A>) {
    for (int first = 0; first < K; first += GROUP) {
      Vector<A> totals[K * GROUP];
#pragma GCC unroll 32
      for (int tap = 0; tap < K * GROUP; ++tap) totals[tap] = Vector<A>{};
      for (int lane = phase; lane < lanes; lane += period) {
        Vector<A> window[K];  // row r of the gradient at place r % K
#pragma GCC unroll 8
        for (int row = 0; row < K; ++row)
          window[row] = row < MIDDLE && row < rows ? load(gradient + row * gradient_pitch + lane) : Vector<A>{};
        const A* x = in.first + MIDDLE * pitch + in.columns[first] + lane;
        const A* next = gradient + MIDDLE * gradient_pitch + lane;
        const auto step = [&]<int turn>(bool inside) __attribute__((always_inline)) {
          window[(turn + MIDDLE) % K] = inside ? load(next) : Vector<A>{};
#pragma GCC unroll 8
          for (int dx = 0; dx < GROUP; ++dx) {
            const Vector<A> seen = load(x + dx * spacing);
#pragma GCC unroll 8
            for (int dy = 0; dy < K; ++dy) totals[dy * GROUP + dx] += seen * window[(turn + MIDDLE - dy + K) % K];
          }
          x += pitch;
          next += gradient_pitch;
        };
        const auto steps = [&]<int... turn>(int row, std::integer_sequence<int, turn...>) __attribute__((always_inline)) {
          ((row + turn < rows && (step.template operator()<turn>(row + turn + MIDDLE < rows), true)) && ...);
        };
        for (int row = 0; row < rows; row += K) steps(row, std::make_integer_sequence<int, K>{});
      }
#pragma GCC unroll 8
      for (int dy = 0; dy < K; ++dy)
#pragma GCC unroll 8
        for (int dx = 0; dx < GROUP; ++dx) {
          A* sum = sums + (dy * K + first + dx) * period + phase;
          store(sum, load(sum) + totals[dy * GROUP + dx]);
        }
    }
  }
}

// The same for stride 2: rows of taps of which each meets every row of the gradient.
template <class A, int K>
inline void depthwise_weight_gradient_strided(const Plane<A>& in, const A* gradient, int64_t gradient_pitch, A* sums,
                                              int period, int rows, int lanes) {
  constexpr int GROUP = K == 3 ? 3 : 1;  // rows of taps at once
  for (int first = 0; first < K; first += GROUP)
    for (int phase = 0; phase < period; phase += LANES<A>) {
      Vector<A> totals[GROUP * K];
#pragma GCC unroll 16
      for (int tap = 0; tap < GROUP * K; ++tap) totals[tap] = load(sums + (first * K + tap) * period + phase);
      for (int row = 0; row < rows; ++row)
        for (int lane = phase; lane < lanes; lane += period) {
          const Vector<A> number = load(gradient + row * gradient_pitch + lane);
#pragma GCC unroll 4
          for (int dy = 0; dy < GROUP; ++dy)
#pragma GCC unroll 8
            for (int dx = 0; dx < K; ++dx)
              totals[dy * K + dx] += load(in.first + (2 * row + first + dy) * in.pitch + in.columns[dx] + lane) * number;
        }
#pragma GCC unroll 16
      for (int tap = 0; tap < GROUP * K; ++tap) store(sums + (first * K + tap) * period + phase, totals[tap]);
    }
}

// The gradient's rows must end in at least one vector of zeros after their `lanes` numbers.
template <class A>
inline void depthwise_weight_gradient(int kernel, int step, const Plane<A>& in, const A* gradient,
                                      int64_t gradient_pitch, A* sums, int period, int rows, int lanes) {
  const auto of = [&]<int K>() {
    if (step == 2) depthwise_weight_gradient_strided<A, K>(in, gradient, gradient_pitch, sums, period, rows, lanes);
    else depthwise_weight_gradient_dense<A, K>(in, gradient, gradient_pitch, sums, period, rows, lanes);
  };
  if (kernel == 3) of.template operator()<3>();
  else if (kernel == 5) of.template operator()<5>();
  else of.template operator()<7>();
}

}  // namespace enas::ENAS_LEVEL
