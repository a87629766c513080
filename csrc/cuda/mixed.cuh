// The kernels of a mixed cell beside its convolutions: pools, statistics, the weighted sum of an edge's operations, and
// their backward. Weights are read on the device. Whatever is summed over chunks or children is summed in their order.
#pragma once
#include "../mixed.h"
#include "batch_norm.cuh"
#include "edges.cuh"

namespace enas::mixed {

using batch_norm::LANES;
using batch_norm::SLICES;
using batch_norm::sum_slices;

constexpr int THREADS = 256;
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

// What an edge's source gets back from one operation.
enum SenderKind : int { WHOLE, POOL, IDENTICAL };
template <class S>
struct Sender {
  SenderKind kind;
  const S* gradient;  // [M] of the size of the source, or of the node where there is work left to do
  bool maximum;
  int place;  // of the weight of an identity
};
template <class S>
struct Senders {
  Sender<S> sender[MOST_TERMS];
  int count;
  const S* x;
  int64_t step;
  int stride;
  const Arithmetic<S>* mixing;
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

// affine [M][norms][2][channels] of all batch norms; gain and bias are [norms][channels].
template <class A>
__global__ void make_affine(int64_t numbers, int norms, int channels, const A* used, const A* gain, const A* bias,
                            A* affine) {
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= numbers) return;
  const int64_t norm = i / channels, at = norm * 2 * channels + i % channels, own = norm % norms * channels + i % channels;
  const Affine<A> result = norm_affine(used[at], used[at + channels], gain[own], bias[own]);
  affine[at] = result.factor;
  affine[at + channels] = result.offset;
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

// sums [M][chunks][2][channels] of z minus its first pixel and of its square. Grid: (chunks of `rows` pixels, channels /
// THREADS, M).
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

// Batch norm `norm` of all children from those sums, or as it is given. Grid: (channels / LANES, M), threads: (LANES,
// SLICES).
template <class S>
__global__ void finish_moments(Sizes sizes, int64_t chunks, const S* z, const Arithmetic<S>* sums, int norm,
                               const Arithmetic<S>* given, const Arithmetic<S>* gain, const Arithmetic<S>* bias,
                               Arithmetic<S>* used, Arithmetic<S>* affine) {
  using A = Arithmetic<S>;
  SharedMemory memory;
  double* shared = memory.take<double>(LANES * SLICES);
  const int channel = int(blockIdx.x) * LANES + int(threadIdx.x), slice = int(threadIdx.y), channels = sizes.channels;
  const int64_t child = blockIdx.y, at = (child * sizes.norms + norm) * 2 * channels + channel;
  double sum = 0, squares = 0;
  if (channel < channels && given == nullptr)
    for (int64_t chunk = batch_norm::slice_begin(chunks, slice); chunk < batch_norm::slice_begin(chunks, slice + 1); ++chunk) {
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

// The gradient of a node: that of the output, and what its readers sent.
template <class S>
__global__ void begin_node(Sizes sizes, const S* grad, const Arithmetic<S>* sent, int place, int nodes, S* to) {
  const Number number(sizes.out_size(), sizes.channels);
  if (number.child >= sizes.children) return;
  const S own = grad[(number.i / sizes.channels * nodes + place) * sizes.channels + number.channel];
  to[number.i] = narrow<S>(widen(own) + sent[number.i]);
}

// sums [M][chunks][1 + terms][channels] of dy, and of dy * (z - mean) for each term. Grid: (chunks of `rows` pixels,
// channels / THREADS, M).
template <class S>
__global__ void sum_terms(Sizes sizes, int64_t rows, Terms<S> terms, const S* dy, const Arithmetic<S>* used,
                          Arithmetic<S>* sums) {
  using A = Arithmetic<S>;
  SharedMemory memory;
  A* shared = memory.take<A>(THREADS);
  const int first = int(blockIdx.y) * THREADS, channels = sizes.channels;
  const int width = channels - first < THREADS ? channels - first : THREADS, slices = THREADS / width;
  const int slice = int(threadIdx.x) / width, channel = first + int(threadIdx.x) % width;
  const int64_t child = blockIdx.z, begin = blockIdx.x * rows;
  const int64_t end = begin + rows < sizes.pixels() ? begin + rows : sizes.pixels();
  A total[1 + MOST_TERMS] = {}, mean[MOST_TERMS] = {};
#pragma unroll
  for (int t = 0; t < MOST_TERMS; ++t)
    if (t < terms.count && terms.term[t].norm >= 0)
      mean[t] = used[(child * sizes.norms + terms.term[t].norm) * 2 * channels + channel];
  if (slice < slices)
    for (int64_t pixel = begin + slice; pixel < end; pixel += slices) {
      const int64_t at = pixel * channels + channel;
      const A value = widen(dy[child * sizes.out_size() + at]);
      total[MOST_TERMS] += value;
#pragma unroll
      for (int t = 0; t < MOST_TERMS; ++t)
        if (t < terms.count) total[t] += value * (widen(terms.term[t].z[child * terms.term[t].step + at]) - mean[t]);
    }
  A* to = sums + (child * gridDim.x + blockIdx.x) * (1 + terms.count) * channels + channel;
#pragma unroll
  for (int t = 0; t <= MOST_TERMS; ++t) {
    if (t >= terms.count && t < MOST_TERMS) continue;
    __syncthreads();
    shared[threadIdx.x] = total[t];
    __syncthreads();
    if (slice != 0) continue;
    A sum = total[t];
    for (int other = 1; other < slices; ++other) sum += shared[other * width + threadIdx.x];
    to[t < MOST_TERMS ? (1 + t) * channels : 0] = sum;
  }
}

// What the backward of a term's batch norm is made of, and along [terms][M][channels], the sum of dy * what the operation
// gave. Grid: (channels / LANES, terms, M), threads: (LANES, SLICES).
template <class S>
__global__ void finish_terms(Sizes sizes, int64_t chunks, Terms<S> terms, const Arithmetic<S>* sums, bool given,
                             const Arithmetic<S>* used, const Arithmetic<S>* gain, const Arithmetic<S>* bias,
                             Arithmetic<S>* coefficients, Arithmetic<S>* dnorms, double* along) {
  using A = Arithmetic<S>;
  SharedMemory memory;
  double* shared = memory.take<double>(LANES * SLICES);
  const int channel = int(blockIdx.x) * LANES + int(threadIdx.x), slice = int(threadIdx.y), channels = sizes.channels;
  const int t = int(blockIdx.y);
  const int64_t child = blockIdx.z;
  double sum = 0, centred = 0;
  if (channel < channels)
    for (int64_t chunk = batch_norm::slice_begin(chunks, slice); chunk < batch_norm::slice_begin(chunks, slice + 1); ++chunk) {
      const A* own = sums + (child * chunks + chunk) * (1 + terms.count) * channels + channel;
      sum += own[0];
      centred += own[(1 + t) * channels];
    }
  sum = sum_slices(sum, shared);
  centred = sum_slices(centred, shared);
  if (slice != 0 || channel >= channels) return;
  double* to = along + (t * int64_t(sizes.children) + child) * channels + channel;
  const int norm = terms.term[t].norm;
  *to = centred;
  if (norm < 0) return;
  const int64_t own = child * sizes.norms + norm;
  const A* statistics = used + own * 2 * channels + channel;
  const double weight = terms.mixing[terms.term[t].place], own_gain = gain[norm * channels + channel];
  const auto backward = norm_backward<double>(statistics[0], statistics[channels], own_gain, weight * sum,
                                              weight * centred, double(sizes.pixels()), given);
  // sum(dy * y) with y = gain * normal + bias.
  const double inverse = 1.0 / sqrt(double(statistics[channels]) + EPSILON);
  *to = own_gain * inverse * centred + double(bias[norm * channels + channel]) * sum;
  A* coefficient = coefficients + own * 3 * channels + channel;
  coefficient[0] = A(weight * backward.on_grad);
  coefficient[channels] = A(backward.on_z);
  coefficient[2 * channels] = A(backward.constant);
  A* dnorm = dnorms + own * 2 * channels + channel;
  dnorm[0] = A(backward.dgain);
  dnorm[channels] = A(backward.dbias);
}

// The gradients of an edge's weights. Grid: (terms), threads: THREADS.
template <class S>
__global__ void sum_along(Terms<S> terms, int64_t numbers, const double* along, Arithmetic<S>* dmixing) {
  SharedMemory memory;
  double* shared = memory.take<double>(THREADS);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < numbers; i += THREADS) sum += along[blockIdx.x * numbers + i];
  shared[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < THREADS; ++other) sum += shared[other];
  dmixing[terms.term[blockIdx.x].place] = Arithmetic<S>(sum);
}

// dz of a batch norm, from the gradient of its node.
template <class S>
__global__ void pass_norm(Sizes sizes, Term<S> term, const S* dy, const Arithmetic<S>* coefficients, S* dz) {
  using A = Arithmetic<S>;
  const Number number(sizes.out_size(), sizes.channels);
  if (number.child >= sizes.children) return;
  const A* own = coefficients + (int64_t(number.child) * sizes.norms + term.norm) * 3 * sizes.channels + number.channel;
  const A z = widen(term.z[number.child * term.step + number.i - number.child * sizes.out_size()]);
  dz[number.i] = narrow<S>(own[0] * widen(dy[number.i]) + own[sizes.channels] * z + own[2 * sizes.channels]);
}

// sum [M] of the size of the source += what all operations of an edge send there.
template <class S>
__global__ void gather(Sizes sizes, Senders<S> senders, Arithmetic<S>* sum) {
  using A = Arithmetic<S>;
  const Number number(sizes.in_size(), sizes.channels);
  if (number.child >= sizes.children) return;
  const int64_t image = number.pixel / sizes.in.pixels(), at = number.pixel % sizes.in.pixels();
  const int y = int(at / sizes.in.width), column = int(at % sizes.in.width);
  A total[1] = {sum[number.i]};
  for (int s = 0; s < senders.count; ++s) {
    const Sender<S>& sender = senders.sender[s];
    if (sender.kind == WHOLE) total[0] += widen(sender.gradient[number.i]);
    else if (sender.kind == IDENTICAL) total[0] += senders.mixing[sender.place] * widen(sender.gradient[number.i]);
    else
      pool_back<1>(senders.x + number.child * senders.step + image * sizes.in.pixels() * sizes.channels + number.channel,
                   sizes.in,
                   sender.gradient + (number.child * int64_t(sizes.images) + image) * sizes.out.pixels() * sizes.channels +
                       number.channel,
                   sizes.out, sizes.channels, senders.stride, sender.maximum, A(1), y, column, total);
  }
  sum[number.i] = total[0];
}

// The gradient of an input, which `children` share; `size` numbers.
template <class S>
__global__ void finish_input(int64_t size, int children, const Arithmetic<S>* sum, S* dx) {
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= size) return;
  Arithmetic<S> total(0);
  for (int child = 0; child < children; ++child) total += sum[child * size + i];
  dx[i] = narrow<S>(total);
}

// dgain and dbias [norms][channels] from dnorms [M][norms][2][channels].
template <class A>
__global__ void sum_norms(int children, int norms, int channels, const A* dnorms, A* dgain, A* dbias) {
  const int i = int(blockIdx.x) * THREADS + int(threadIdx.x), norm = i / channels, channel = i % channels;
  if (norm >= norms) return;
  A gain(0), bias(0);
  for (int child = 0; child < children; ++child) {
    const A* own = dnorms + (int64_t(child) * norms + norm) * 2 * channels + channel;
    gain += own[0];
    bias += own[channels];
  }
  dgain[i] = gain;
  dbias[i] = bias;
}

}  // namespace enas::mixed
