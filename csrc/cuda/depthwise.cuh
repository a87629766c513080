// From images to a tile in shared memory: pixels as they are or, of a depthwise convolution, its results.
#pragma once
#include "tiles.cuh"

namespace enas {

// The pixels that a tile is made of: rows x columns of them, `step` apart, from (y, x) on; 0 outside the image.
struct Window {
  Plane plane;
  int y, x, rows, columns, step;
};

// Reads `count` channels of a window and calls write(position, channel, value[V], inside). Channels run fastest over
// threads; each has BATCH accesses on their way at once.
template <int V, class S, class Write>
__device__ inline void read_window(const S* image, const Window& window, int channels, int count, Write write) {
  using A = Arithmetic<S>;
  constexpr int BATCH = 4;
  const int groups = count / V, lanes = THREADS / groups;
  const int channel = int(threadIdx.x) % groups * V, lane = int(threadIdx.x) / groups;
  if (lane >= lanes) return;
  int row = lane / window.columns, column = lane % window.columns, position = lane;
  while (row < window.rows) {
    A values[BATCH][V];
    int positions[BATCH];
    bool inside[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      const int y = window.y + row * window.step, x = window.x + column * window.step;
      positions[i] = row < window.rows ? position : -1;
      inside[i] = row < window.rows && unsigned(y) < unsigned(window.plane.height) &&
                  unsigned(x) < unsigned(window.plane.width);
#pragma unroll
      for (int v = 0; v < V; ++v) values[i][v] = A(0);
      if (inside[i]) load<V>(image + (int64_t(y) * window.plane.width + x) * channels + channel, values[i]);
      position += lanes;
      column += lanes;
      while (column >= window.columns) {
        column -= window.columns;
        ++row;
      }
    }
#pragma unroll
    for (int i = 0; i < BATCH; ++i)
      if (positions[i] >= 0) write(positions[i], channel, values[i], inside[i]);
  }
}

// Writes a window, with the affine map and the ReLU of its source, to to[position * pixel_pitch + channel * pitch].
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void load_window(const S* image, const Window& window, int channels, int first, int count,
                                   const A* affine, bool rectify, A* to, int pixel_pitch, int pitch) {
  read_window<V>(image + first, window, channels, count,
                 [&](int position, int channel, const A(&value)[V], bool inside) {
#pragma unroll
                   for (int v = 0; v < V; ++v) {
                     A result = value[v];
                     const int c = first + channel + v;
                     if (affine != nullptr && inside) result = affine[c] * result + affine[channels + c];
                     to[position * pixel_pitch + (channel + v) * pitch] = rectify ? relu(result) : result;
                   }
                 });
}

// middle[channel][pixel] of `count` channels from window[position][count]; `weights` [k][k][channels]. A thread
// computes a row of a tile. Where stride and dilation are 1 it reads each pixel of the window once for each row of
// weights.
template <int K, class A>
__device__ inline void convolve(const A* window, const A* weights, int channels, int count, A* middle) {
  constexpr int COLUMNS = SIDE + K - 1;
  const int channel = int(threadIdx.x) % count, row = int(threadIdx.x) / count;
  if (row >= SIDE) return;
  A sum[SIDE] = {};
#pragma unroll
  for (int ky = 0; ky < K; ++ky) {
    A values[COLUMNS];
#pragma unroll
    for (int x = 0; x < COLUMNS; ++x) values[x] = window[((row + ky) * COLUMNS + x) * count + channel];
#pragma unroll
    for (int kx = 0; kx < K; ++kx) {
      const A weight = weights[(ky * K + kx) * channels + channel];
#pragma unroll
      for (int x = 0; x < SIDE; ++x) sum[x] += weight * values[x + kx];
    }
  }
  store<SIDE>(middle + channel * PITCH + row * SIDE, sum);
}

// The same at any stride and dilation.
template <class A>
__device__ inline void convolve(const A* window, const A* weights, int channels, int count, int kernel, int stride,
                                int dilation, A* middle) {
  const int columns = extent(kernel, stride, dilation);
  const int channel = int(threadIdx.x) % count, row = int(threadIdx.x) / count;
  if (row >= SIDE) return;
  A sum[SIDE] = {};
  for (int ky = 0; ky < kernel; ++ky)
#pragma unroll 1
    for (int kx = 0; kx < kernel; ++kx) {
      const A weight = weights[(ky * kernel + kx) * channels + channel];
      const A* from = window + ((row * stride + ky * dilation) * columns + kx * dilation) * count + channel;
#pragma unroll
      for (int x = 0; x < SIDE; ++x) sum[x] += weight * from[x * stride * count];
    }
  store<SIDE>(middle + channel * PITCH + row * SIDE, sum);
}

// middle[channel][pixel] of channels first ... first + count of a product's source at a tile. `area` is shared memory
// of window_numbers(). Ends with all threads past their reading of `area`, but not with a barrier after `middle`.
template <class S, class A = Arithmetic<S>>
__device__ inline void make_middle(const Source<S>& source, const Tile& tile, int channels, int first, int count,
                                   bool vector, A* area, A* middle) {
  const S* image = source.x + int64_t(tile.image) * source.plane.pixels() * channels;
  const int border = source.dilation * (source.kernel / 2);
  const int side = source.kernel == 1 ? SIDE : extent(source.kernel, source.stride, source.dilation);
  const Window window{source.plane,
                      tile.y * source.stride - border + source.shift,
                      tile.x * source.stride - border + source.shift,
                      side,
                      side,
                      source.kernel == 1 ? source.stride : 1};
  A* to = source.kernel == 1 ? middle : area;
  const int pixel_pitch = source.kernel == 1 ? 1 : count, pitch = source.kernel == 1 ? PITCH : 1;
  if (vector)
    load_window<WIDE>(image, window, channels, first, count, source.affine, source.relu, to, pixel_pitch, pitch);
  else load_window<1>(image, window, channels, first, count, source.affine, source.relu, to, pixel_pitch, pitch);
  if (source.kernel == 1) return;
  __syncthreads();
  const A* weights = source.depthwise + first;
  if (source.stride > 1 || source.dilation > 1)
    convolve(area, weights, channels, count, source.kernel, source.stride, source.dilation, middle);
  else if (source.kernel == 3) convolve<3>(area, weights, channels, count, middle);
  else if (source.kernel == 5) convolve<5>(area, weights, channels, count, middle);
  else convolve<7>(area, weights, channels, count, middle);
}

}  // namespace enas
