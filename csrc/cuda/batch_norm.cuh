// Batch norms of [M][pixels][channels]: statistics from moments of tiles, the map itself, and both sums of backward.
// Whatever is summed over tiles, chunks or children is summed in their order.
#pragma once
#include "access.cuh"
#include "block.cuh"

namespace enas::batch_norm {

constexpr int LANES = 8, SLICES = 32;   // of a block that sums: neighbours in memory, and parts of what is summed
constexpr int THREADS = LANES * SLICES;  // of every block

__device__ inline int lane_of_thread() { return int(threadIdx.x) % LANES; }
__device__ inline int slice_of_thread() { return int(threadIdx.x) / LANES; }

// The sum over slices, in their order; that of slice 0 is right. `shared` has THREADS numbers.
template <class T>
__device__ inline T sum_slices(T value, T* shared) {
  __syncthreads();
  shared[threadIdx.x] = value;
  __syncthreads();
  if (slice_of_thread() == 0)
    for (int slice = 1; slice < SLICES; ++slice) value += shared[slice * LANES + lane_of_thread()];
  return value;
}

// Slice `slice` of `count`.
__device__ inline int64_t slice_begin(int64_t count, int slice) { return count * slice / SLICES; }

// used [M][2][channels] (mean, biased variance) from moments [M][tiles][3][channels] of tiles of `rows` pixels: a
// shift, the sums of (z - shift) and its square. A constant channel has variance 0.
// Blocks: (channels / LANES, M).
template <class A>
__device__ inline void finish_forward(const uint3& block, int64_t pixels, int channels, int rows, int64_t tiles,
                                      const A* moments, A* used) {
  SharedMemory memory;
  double* shared = memory.take<double>(THREADS);
  const int channel = int(block.x) * LANES + lane_of_thread(), slice = slice_of_thread();
  const int64_t at = int64_t(block.y) * 2 * channels + channel;
  double shift = 0, sum = 0, squares = 0;
  if (channel < channels) {
    const A* own = moments + int64_t(block.y) * tiles * 3 * channels + channel;
    shift = own[0];
    for (int64_t tile = slice_begin(tiles, slice); tile < slice_begin(tiles, slice + 1); ++tile) {
      const A* moment = own + tile * 3 * channels;
      const double count = pixels - tile * rows < rows ? double(pixels - tile * rows) : double(rows);
      const double distance = double(moment[0]) - shift, one = moment[channels];
      sum += one + count * distance;
      squares += double(moment[2 * channels]) + distance * (2 * one + count * distance);
    }
  }
  sum = sum_slices(sum, shared);
  squares = sum_slices(squares, shared);
  if (slice != 0 || channel >= channels) return;
  const double variance = (squares - sum * (sum / double(pixels))) / double(pixels);
  used[at] = A(shift + sum / double(pixels));
  used[at + channels] = A(variance < 0 ? 0 : variance);
}

// out = (z - mean) * gain / sqrt(variance + EPSILON) + bias; as factor * z + offset a channel that hardly varies would
// lose all its digits. Blocks: (chunks of `rows` pixels, M).
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void apply(const uint3& block, int64_t pixels, int channels, int rows, const S* z, const A* used,
                             const A* gain, const A* bias, S* out) {
  SharedMemory memory;
  A *means = memory.take<A>(channels), *factors = memory.take<A>(channels), *biases = memory.take<A>(channels);
  for (int i = int(threadIdx.x); i < channels; i += THREADS) {
    const A* own = used + int64_t(block.y) * 2 * channels + i;
    means[i] = own[0];
    factors[i] = norm_affine(own[0], own[channels], gain[i], bias[i]).factor;
    biases[i] = bias[i];
  }
  __syncthreads();
  const int64_t first = int64_t(block.x) * rows, begin = (block.y * pixels + first) * channels;
  const int groups = channels / V, count = (pixels - first < rows ? int(pixels - first) : rows) * groups;
  for (int i = int(threadIdx.x); i < count; i += THREADS) {
    const int channel = i % groups * V;
    A values[V];
    load<V>(z + begin + int64_t(i) * V, values);
#pragma unroll
    for (int v = 0; v < V; ++v)
      values[v] = (values[v] - means[channel + v]) * factors[channel + v] + biases[channel + v];
    store<V>(out + begin + int64_t(i) * V, values);
  }
}

// sums [M][chunks][2][channels] of dy and dy * (z - mean). Blocks: (chunks of `rows` pixels, channels / THREADS, M).
template <class S, class A = Arithmetic<S>>
__device__ inline void sum_gradients(const uint3& block, int64_t pixels, int channels, int64_t rows, int64_t chunks,
                                     const S* dy, const S* z, const A* used, A* sums) {
  SharedMemory memory;
  A* shared = memory.take<A>(2 * THREADS);
  const int first = int(block.y) * THREADS, width = channels - first < THREADS ? channels - first : THREADS;
  const int slices = THREADS / width, slice = int(threadIdx.x) / width, channel = int(threadIdx.x) % width;
  const int64_t child = block.z, begin = int64_t(block.x) * rows;
  const int64_t end = begin + rows < pixels ? begin + rows : pixels;
  A sum = A(0), centred = A(0);
  if (slice < slices) {
    const A mean = used[child * 2 * channels + first + channel];
    for (int64_t pixel = begin + slice; pixel < end; pixel += slices) {
      const int64_t i = (child * pixels + pixel) * channels + first + channel;
      const A value = widen(dy[i]);
      sum += value;
      centred += value * (widen(z[i]) - mean);
    }
  }
  shared[threadIdx.x] = sum;
  shared[THREADS + threadIdx.x] = centred;
  __syncthreads();
  if (slice != 0) return;
  for (int other = 1; other < slices; ++other) {
    sum += shared[other * width + channel];
    centred += shared[THREADS + other * width + channel];
  }
  A* to = sums + (child * chunks + block.x) * 2 * channels + first + channel;
  to[0] = sum;
  to[channels] = centred;
}

// factors [M][3][channels], see NormBackward, and each child's gradients of gain and bias [M][2][channels], from the
// sums of `chunks`. Blocks: (channels / LANES, M).
template <class A>
__device__ inline void finish_backward(const uint3& block, int64_t pixels, int channels, int64_t chunks, const A* sums,
                                       const A* used, const A* gain, bool given, A* factors, A* gradients) {
  SharedMemory memory;
  double* shared = memory.take<double>(THREADS);
  const int channel = int(block.x) * LANES + lane_of_thread(), slice = slice_of_thread();
  const int64_t child = block.y;
  double sum = 0, centred = 0;
  if (channel < channels)
    for (int64_t chunk = slice_begin(chunks, slice); chunk < slice_begin(chunks, slice + 1); ++chunk) {
      const A* own = sums + (child * chunks + chunk) * 2 * channels + channel;
      sum += own[0];
      centred += own[channels];
    }
  sum = sum_slices(sum, shared);
  centred = sum_slices(centred, shared);
  if (slice != 0 || channel >= channels) return;
  const A* own = used + child * 2 * channels + channel;
  const auto backward =
      norm_backward<double>(own[0], own[channels], gain[channel], sum, centred, double(pixels), given);
  A* factor = factors + child * 3 * channels + channel;
  factor[0] = A(backward.on_grad);
  factor[channels] = A(backward.on_z);
  factor[2 * channels] = A(backward.constant);
  gradients[child * 2 * channels + channel] = A(backward.dgain);
  gradients[(child * 2 + 1) * channels + channel] = A(backward.dbias);
}

// to[number] = the sum over rows, `pitch` apart.
template <class A>
struct RowSums {
  int64_t numbers, rows, pitch;
  const A* from;
  A* to;
};
// Blocks: (numbers / LANES).
template <class A>
__device__ inline void sum_rows(const uint3& block, const RowSums<A>& sums) {
  SharedMemory memory;
  A* shared = memory.take<A>(THREADS);
  const int slice = slice_of_thread();
  const int64_t number = int64_t(block.x) * LANES + lane_of_thread();
  A sum = A(0);
  if (number < sums.numbers)
    for (int64_t row = slice_begin(sums.rows, slice); row < slice_begin(sums.rows, slice + 1); ++row)
      sum += sums.from[row * sums.pitch + number];
  sum = sum_slices(sum, shared);
  if (slice == 0 && number < sums.numbers) sums.to[number] = sum;
}

}  // namespace enas::batch_norm
