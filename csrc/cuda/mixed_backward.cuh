// The backward of what mixed.cuh computes: the gradients of the weights from the sums of batch norms, and what an
// edge's operations send to its source.
#pragma once
#include "mixed.cuh"

namespace enas::mixed {

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

// affine [M][norms][2][channels] of all batch norms; gain and bias are [norms][channels].
template <class A>
__global__ void make_affine(int64_t numbers, int norms, int channels, const A* used, const A* gain, const A* bias,
                            A* affine) {
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= numbers) return;
  const int64_t norm = i / channels, channel = i % channels;
  const int64_t at = norm * 2 * channels + channel, own = norm % norms * channels + channel;
  const Affine<A> result = norm_affine(used[at], used[at + channels], gain[own], bias[own]);
  affine[at] = result.factor;
  affine[at + channels] = result.offset;
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

// What the backward of a term's batch norm is made of, and along [terms][M][channels], the sum of dy * what the
// operation gave. Grid: (channels / LANES, terms, M).
template <class S>
__global__ void finish_terms(Sizes sizes, int64_t chunks, Terms<S> terms, const Arithmetic<S>* sums, bool given,
                             const Arithmetic<S>* used, const Arithmetic<S>* gain, const Arithmetic<S>* bias,
                             Arithmetic<S>* coefficients, Arithmetic<S>* dnorms, double* along) {
  using A = Arithmetic<S>;
  SharedMemory memory;
  double* shared = memory.take<double>(THREADS);
  const int channel = int(blockIdx.x) * LANES + batch_norm::lane_of_thread(), channels = sizes.channels;
  const int slice = batch_norm::slice_of_thread();
  const int t = int(blockIdx.y);
  const int64_t child = blockIdx.z;
  double sum = 0, centred = 0;
  if (channel < channels)
    for (int64_t chunk = slice_begin(chunks, slice); chunk < slice_begin(chunks, slice + 1); ++chunk) {
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
  const S* x = senders.x + number.child * senders.step + image * sizes.in.pixels() * sizes.channels + number.channel;
  const int64_t node_image =
      (number.child * int64_t(sizes.images) + image) * sizes.out.pixels() * sizes.channels + number.channel;
  A total[1] = {sum[number.i]};
  for (int s = 0; s < senders.count; ++s) {
    const Sender<S>& sender = senders.sender[s];
    if (sender.kind == WHOLE) total[0] += widen(sender.gradient[number.i]);
    else if (sender.kind == IDENTICAL) total[0] += senders.mixing[sender.place] * widen(sender.gradient[number.i]);
    else
      pool_back<1>(x, sizes.in, sender.gradient + node_image, sizes.out, sizes.channels, senders.stride,
                   sender.maximum, A(1), y, column, total);
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
