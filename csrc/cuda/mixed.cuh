// The kernels of a mixed cell beside its convolutions: pools, statistics, the weighted sum of an edge's operations.
// Weights are read on the device. Whatever is summed over chunks or children is summed in their order.
#pragma once
#include "../mixed.h"
#include "batch_norm.cuh"
#include "edges.cuh"

namespace enas::mixed {

using batch_norm::LANES;
using batch_norm::slice_begin;
using batch_norm::sum_slices;

constexpr int THREADS = batch_norm::THREADS;
constexpr int MOST_TERMS = 16;  // operations of an edge that give something

// Sizes of one edge. `norms` are those of the whole cell, [M][norms][...].
struct Sizes {
  int children, images, channels, norms;
  Plane in, out;  // of the edge's source, and of its node
  ENAS_BOTH int64_t pixels() const { return images * out.pixels(); }
  ENAS_BOTH int64_t in_size() const { return images * in.pixels() * channels; }
  ENAS_BOTH int64_t out_size() const { return pixels() * channels; }
};

// One operation of an edge: weight * norm(z), or weight * z without batch norm.
template <class S>
struct Term {
  const S* z;       // of child 0
  int64_t step;     // to the next child
  int norm, place;  // its last batch norm or -1, and its place among the operations
};
template <class S>
struct Terms {
  using A = Arithmetic<S>;
  Term<S> term[MOST_TERMS];
  int count;
  const A *mixing;  // of this edge
};

// A number of [M][pixels][channels], by the thread.
struct Number {
  int64_t i;  // among all
  int child, channel;
  int64_t pixel;  // of the child
  __device__ Number(int64_t size, int channels)
      : i(int64_t(blockIdx.x) * THREADS + threadIdx.x), child(int(i / size)), channel(int(i % channels)),
        pixel(i % size / channels) {}
};

// used [M][norms][2][channels] of batch norms that nobody sets.
template <class A>
__global__ void start_statistics(A* used, int64_t numbers, int channels) {
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i < numbers) used[i] = A(i / channels % 2);
}

// to [M][B][H'][W'][C] = the pool of the edge's source.
template <class S>
__global__ void compute_pool(Sizes sizes, const S* x, int64_t step, int stride, bool maximum, S* to) {
  using A = Arithmetic<S>;
  const Number number(sizes.out_size(), sizes.channels);
  if (number.child >= sizes.children) return;
  const int64_t image = number.pixel / sizes.out.pixels(), at = number.pixel % sizes.out.pixels();
  const int y = int(at / sizes.out.width) * stride, column = int(at % sizes.out.width) * stride;
  A value[1];
  pool<1>(x + number.child * step + image * sizes.in.pixels() * sizes.channels + number.channel, sizes.in,
          sizes.channels, maximum, y, column, value);
  to[number.i] = narrow<S>(value[0]);
}

// sums [M][chunks][2][channels] of z minus its first pixel and of its square. Grid: (chunks of `rows` pixels,
// channels / THREADS, M).
template <class S>
__global__ void sum_moments(Sizes sizes, int64_t rows, const S* z, Arithmetic<S>* sums) {
  using A = Arithmetic<S>;
  SharedMemory memory;
  A* shared = memory.take<A>(2 * THREADS);
  const int first = int(blockIdx.y) * THREADS, channels = sizes.channels;
  const int width = channels - first < THREADS ? channels - first : THREADS, slices = THREADS / width;
  const int slice = int(threadIdx.x) / width, channel = first + int(threadIdx.x) % width;
  const int64_t begin = blockIdx.x * rows, end = begin + rows < sizes.pixels() ? begin + rows : sizes.pixels();
  const S* own = z + int64_t(blockIdx.z) * sizes.out_size() + channel;
  A sum = A(0), squares = A(0);
  if (slice < slices)
    for (int64_t pixel = begin + slice; pixel < end; pixel += slices) {
      const A distance = widen(own[pixel * channels]) - widen(own[0]);
      sum += distance;
      squares += distance * distance;
    }
  shared[threadIdx.x] = sum;
  shared[THREADS + threadIdx.x] = squares;
  __syncthreads();
  if (slice != 0) return;
  for (int other = 1; other < slices; ++other) {
    sum += shared[other * width + threadIdx.x];
    squares += shared[THREADS + other * width + threadIdx.x];
  }
  A* to = sums + (int64_t(blockIdx.z) * gridDim.x + blockIdx.x) * 2 * channels + channel;
  to[0] = sum;
  to[channels] = squares;
}

// Batch norm `norm` of all children from those sums, or as it is given. Grid: (channels / LANES, M).
template <class S>
__global__ void finish_moments(Sizes sizes, int64_t chunks, const S* z, const Arithmetic<S>* sums, int norm,
                               const Arithmetic<S>* given, const Arithmetic<S>* gain, const Arithmetic<S>* bias,
                               Arithmetic<S>* used, Arithmetic<S>* affine) {
  using A = Arithmetic<S>;
  SharedMemory memory;
  double* shared = memory.take<double>(THREADS);
  const int channel = int(blockIdx.x) * LANES + batch_norm::lane_of_thread(), channels = sizes.channels;
  const int slice = batch_norm::slice_of_thread();
  const int64_t child = blockIdx.y, at = (child * sizes.norms + norm) * 2 * channels + channel;
  double sum = 0, squares = 0;
  if (channel < channels && given == nullptr)
    for (int64_t chunk = slice_begin(chunks, slice); chunk < slice_begin(chunks, slice + 1); ++chunk) {
      const A* own = sums + (child * chunks + chunk) * 2 * channels + channel;
      sum += own[0];
      squares += own[channels];
    }
  sum = sum_slices(sum, shared);
  squares = sum_slices(squares, shared);
  if (slice != 0 || channel >= channels) return;
  if (given != nullptr) {
    used[at] = given[at];
    used[at + channels] = given[at + channels];
  } else {
    const double count = double(sizes.pixels()), variance = (squares - sum * (sum / count)) / count;
    used[at] = A(double(widen(z[child * sizes.out_size() + channel])) + sum / count);
    used[at + channels] = A(variance < 0 ? 0 : variance);
  }
  const Affine<A> result = norm_affine(used[at], used[at + channels], gain[channel], bias[channel]);
  affine[at] = result.factor;
  affine[at + channels] = result.offset;
}

// sum [M][B][H'][W'][C] = or += all that the edge gives.
template <class S>
__global__ void mix(Sizes sizes, Terms<S> terms, const Arithmetic<S>* affine, Arithmetic<S>* sum, bool add) {
  using A = Arithmetic<S>;
  const Number number(sizes.out_size(), sizes.channels);
  if (number.child >= sizes.children) return;
  A total = add ? sum[number.i] : A(0);
  for (int t = 0; t < terms.count; ++t) {
    const Term<S>& term = terms.term[t];
    A value = widen(term.z[number.child * term.step + number.i - number.child * sizes.out_size()]);
    if (term.norm >= 0) {
      const A* own = affine + (int64_t(number.child) * sizes.norms + term.norm) * 2 * sizes.channels + number.channel;
      value = own[0] * value + own[sizes.channels];
    }
    total += terms.mixing[term.place] * value;
  }
  sum[number.i] = total;
}

// A node from its sum: into the cell's output, beside the other nodes, and, where others read it, to `node`.
template <class S>
__global__ void store_node(Sizes sizes, const Arithmetic<S>* sum, S* node, int64_t step, S* out, int place, int nodes) {
  const Number number(sizes.out_size(), sizes.channels);
  if (number.child >= sizes.children) return;
  const S value = narrow<S>(sum[number.i]);
  if (node != nullptr) node[number.child * step + number.i - number.child * sizes.out_size()] = value;
  out[(number.i / sizes.channels * nodes + place) * sizes.channels + number.channel] = value;
}

}  // namespace enas::mixed
