// Depthwise convolution of one image, and its weight gradient, vectorised over whole rows of pixels and channels.
//
// The image lies in a plane with a border of zeros: rows of `pitch` numbers, a pixel's channels side by side. A row is
// one vector after the other, whatever the channels: weights are repeated ("expanded") to a period that is a multiple
// of both. With stride 2 a row holds its even columns first and its odd ones after them, so that every tap of every
// output still reads neighbours.
#pragma once
#include "elementwise.h"

namespace enas::ENAS_LEVEL {

template <class A>
struct Plane {
  const A* first;          // the first input row that the first output row reads
  int64_t pitch;           // from an input row to the one that the next tap below reads
  const int32_t* columns;  // where tap column dx begins in a row
};

// Few products for each load: then vectors of half a cache line are faster, of which fewer lie across two lines.
template <class A, int K>
struct DepthwiseVector {
  static constexpr int BYTES = K == 3 && VECTOR_BYTES > 32 ? 32 : sizeof(Vector<A>);
  typedef A type __attribute__((vector_size(BYTES), may_alias));
};

// R rows of output, `step` pitches of input apart, of `lanes` numbers each.
template <class V, class A, int K, int R, int step>
inline void depthwise_rows(const Plane<A>& in, const A* expanded, int period, A* out, int64_t out_pitch, int lanes) {
  constexpr int ROWS = (R - 1) * step + K, LANES = sizeof(V) / sizeof(A);
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
      const A* column = in.first + in.columns[dx] + lane;
#pragma GCC unroll 32
      for (int row = 0; row < ROWS; ++row) {
        const V x = get<V>(column + row * in.pitch);
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
      for (int r = 0; r < R; ++r) memcpy(out + r * out_pitch + lane, &sums[r], left * sizeof(A));
    }
    phase += LANES;
    if (phase == period) phase = 0;
  }
}

template <class A, int K, int step>
inline void depthwise_of(Plane<A> in, int64_t in_step, const A* expanded, int period, A* out, int64_t out_pitch,
                         int rows, int lanes) {
  constexpr int MOST = K == 7 ? 4 : 8;
  using V = typename DepthwiseVector<A, K>::type;
  while (rows > 0) {
    int done = 1;
    if (rows >= MOST) {
      depthwise_rows<V, A, K, MOST, step>(in, expanded, period, out, out_pitch, lanes);
      done = MOST;
    } else if (rows >= 4) {
      depthwise_rows<V, A, K, 4, step>(in, expanded, period, out, out_pitch, lanes);
      done = 4;
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
// tap row apart. A column of taps slides down: each input row meets the K last rows of the gradient, kept in registers.
template <class A, int K>
inline void depthwise_weight_gradient_dense(const Plane<A>& in, const A* gradient, int64_t gradient_pitch, A* sums,
                                            int period, int rows, int lanes) {
  constexpr int GROUP = K == 7 ? 1 : K;  // columns of taps at once: 25 sums and 5 gradients fill the registers
  for (int phase = 0; phase < period; phase += LANES<A>) {
    for (int first = 0; first < K; first += GROUP) {
      Vector<A> totals[K * GROUP];
#pragma GCC unroll 32
      for (int tap = 0; tap < K * GROUP; ++tap) totals[tap] = Vector<A>{};
      for (int lane = phase; lane < lanes; lane += period) {
        Vector<A> window[K];
#pragma GCC unroll 8
        for (int dy = 0; dy < K; ++dy) window[dy] = Vector<A>{};
        for (int base = 0; base < rows + K - 1; base += K) {
#pragma GCC unroll 8
          for (int turn = 0; turn < K; ++turn) {
            const int row = base + turn;
            if (row >= rows + K - 1) break;
            window[turn] = row < rows ? load(gradient + row * gradient_pitch + lane) : Vector<A>{};
#pragma GCC unroll 8
            for (int dx = 0; dx < GROUP; ++dx) {
              const Vector<A> x = load(in.first + row * in.pitch + in.columns[first + dx] + lane);
#pragma GCC unroll 8
              for (int dy = 0; dy < K; ++dy) totals[dy * GROUP + dx] += x * window[(turn - dy + K) % K];
            }
          }
        }
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

// The same for stride 2, tap by tap.
template <class A>
inline void depthwise_weight_gradient_strided(int kernel, const Plane<A>& in, const A* gradient,
                                              int64_t gradient_pitch, A* sums, int period, int rows, int lanes) {
  for (int dy = 0; dy < kernel; ++dy)
    for (int dx = 0; dx < kernel; ++dx)
      for (int phase = 0; phase < period; phase += LANES<A>) {
        A* sum = sums + (dy * kernel + dx) * period + phase;
        Vector<A> total = load(sum);
        for (int row = 0; row < rows; ++row)
          for (int lane = phase; lane < lanes; lane += period)
            total += load(in.first + (2 * row + dy) * in.pitch + in.columns[dx] + lane) *
                     load(gradient + row * gradient_pitch + lane);
        store(sum, total);
      }
}

// The gradient's rows must end in at least one vector of zeros after their `lanes` numbers.
template <class A>
inline void depthwise_weight_gradient(int kernel, int step, const Plane<A>& in, const A* gradient,
                                      int64_t gradient_pitch, A* sums, int period, int rows, int lanes) {
  if (step == 2)
    depthwise_weight_gradient_strided(kernel, in, gradient, gradient_pitch, sums, period, rows, lanes);
  else if (kernel == 3)
    depthwise_weight_gradient_dense<A, 3>(in, gradient, gradient_pitch, sums, period, rows, lanes);
  else if (kernel == 5)
    depthwise_weight_gradient_dense<A, 5>(in, gradient, gradient_pitch, sums, period, rows, lanes);
  else
    depthwise_weight_gradient_dense<A, 7>(in, gradient, gradient_pitch, sums, period, rows, lanes);
}

}  // namespace enas::ENAS_LEVEL
