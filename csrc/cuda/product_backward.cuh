// Backward of products: from the gradient of a batch norm's output to that of the depthwise results (or of the pixels,
// where there is no depthwise convolution), recomputing what was multiplied; and the gradient of the weights, a sum for
// each chunk of tiles.
#pragma once
#include "cell_backward.h"
#include "product.cuh"

namespace enas {

constexpr int PAIR = 2;  // channels of a thread

// gradient[output][pixel] = dz of a tile, outputs first ... first + W; 0 where there is no pixel or output.
template <int V, int W, class S, class A = Arithmetic<S>>
__device__ inline void load_gradient(const CellBackward<S>& backward, const Product<S>& product, const Tile& tile,
                                     int first, A* gradient) {
  const Cell<S>& cell = backward.cell;
  const int outputs = cell.outputs, count = outputs - first < W ? outputs - first : W;
  const Pixels<S> dy = find_gradient(backward, product);
  const A scale = scaled(product) ? cell.scale_of(product.child, product.edge, tile.image) : A(1);
  const A* coefficients =
      backward.coefficients == nullptr ? nullptr : backward.coefficients_of(product.child, product.norm) + first;
  const int64_t image = tile.image * cell.out.pixels();
  const Window window{cell.out, tile.y, tile.x, SIDE, SIDE, 1};
  const auto write = [&](int position, int channel, const A(&value)[V], bool inside) {
    A z[V] = {};
    if (inside && coefficients != nullptr) load<V>(product.z + tile.pixel(position) * outputs + first + channel, z);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      A result = scale * value[v];
      if (coefficients != nullptr && inside) {
        const A* own = coefficients + channel + v;
        result = own[0] * result + own[outputs] * z[v] + own[2 * outputs];
      }
      gradient[(channel + v) * PITCH + position] = result;
    }
  };
  read_window<V>(dy.data + image * dy.pitch + first, window, int(dy.pitch), count, write);
  for (int i = count * PIXELS + int(threadIdx.x); i < W * PIXELS; i += THREADS)
    gradient[i / PIXELS * PITCH + i % PIXELS] = A(0);
}

// sums[pixel][channel] = the tile's dz times the weights' transpose, weights [output][PIECE].
template <int W, class A>
__device__ inline void multiply_transposed(const A* gradient, const A* weights, A (&sums)[QUAD][PAIR]) {
  const A* pixels = gradient + int(threadIdx.x) % 16 * QUAD;
  const A* channels = weights + int(threadIdx.x) / 16 * PAIR;
#pragma unroll 4
  for (int o = 0; o < W; ++o) {
    A x[QUAD], w[PAIR];
    load<QUAD>(pixels + o * PITCH, x);
    load<PAIR>(channels + o * PIECE, w);
#pragma unroll
    for (int i = 0; i < QUAD; ++i)
#pragma unroll
      for (int c = 0; c < PAIR; ++c) sums[i][c] += x[i] * w[c];
  }
}

// The gradient of weights: a thread has PAIR channels and every 16th output.
template <int W>
constexpr int SHARE = (W + 15) / 16;

template <int W, class A>
__device__ inline void multiply_pixels(const A* middle, const A* gradient, A (&sums)[PAIR][SHARE<W>]) {
  const A* channels = middle + int(threadIdx.x) / 16 * PAIR * PITCH;
  const A* outputs = gradient + int(threadIdx.x) % 16 * PITCH;
#pragma unroll 2
  for (int pixel = 0; pixel < PIXELS; pixel += QUAD) {
    A x[PAIR][QUAD];
#pragma unroll
    for (int c = 0; c < PAIR; ++c) load<QUAD>(channels + c * PITCH + pixel, x[c]);
#pragma unroll
    for (int j = 0; j < SHARE<W>; ++j) {
      if (16 * j + int(threadIdx.x) % 16 >= W) break;
      A g[QUAD];
      load<QUAD>(outputs + 16 * j * PITCH + pixel, g);
#pragma unroll
      for (int c = 0; c < PAIR; ++c)
#pragma unroll
        for (int i = 0; i < QUAD; ++i) sums[c][j] += x[c][i] * g[i];
    }
  }
}

// Where the gradient of a source goes.
template <class S>
__device__ S* find_destination(const CellBackward<S>& backward, const Product<S>& product, int index) {
  if (product.phase == OUTPUT) return backward.slot(product.child, index);
  if (product.phase == LOOSE) return backward.loose_input(product.child, product.edge);
  if (product.reduction()) return backward.edge(product.child, product.edge);
  return backward.side(backward.depthwise, product.child, product.edge);
}

// Writes stage[pixel][channel] to the gradient of a source, or adds to it. Where the source is every second pixel of an
// image, the first of the two sources also clears the pixels between.
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void store_gradient(const A* stage, int pitch, const Tile& tile, const Source<S>& source, bool spread,
                                      int channels, int first, int count, bool add, S* to) {
  const int groups = count / V;
  for (int i = int(threadIdx.x); i < PIXELS * groups; i += THREADS) {
    const int pixel = i / groups, channel = i % groups * V;
    if (!tile.inside(pixel)) continue;
    A values[V], before[V];
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = stage[pixel * pitch + channel + v];
    const auto put = [&](int64_t at) {
      S* address = to + at * channels + first + channel;
      if (add) {
        load<V>(address, before);
#pragma unroll
        for (int v = 0; v < V; ++v) values[v] += before[v];
      }
      store<V>(address, values);
    };
    if (!spread) {
      put(tile.pixel(pixel));
      continue;
    }
    const int y = 2 * (tile.y + pixel / SIDE), x = 2 * (tile.x + pixel % SIDE), width = source.plane.width;
    const int64_t at = (int64_t(tile.image) * source.plane.height + y) * width + x;
    const bool right = x + 1 < width, below = y + 1 < source.plane.height;
    if (source.shift == 0) {
      put(at);
      const A zero[V] = {};
      if (right) store<V>(to + (at + 1) * channels + first + channel, zero);
      if (below) store<V>(to + (at + width) * channels + first + channel, zero);
    } else if (right && below) {
      put(at + width + 1);
    }
  }
}

// Blocks: (chunks, jobs), a job of OUTPUT is a slot. `partial` is [jobs][chunks][channels][outputs].
template <int N, class S>
__device__ inline void compute_product_gradients(const uint3& block, const CellBackward<S>& backward, Phase phase,
                                                 int node, const ProductPlan& plan, Arithmetic<S>* partial) {
  using A = Arithmetic<S>;
  constexpr int W = WIDTH<N>;
  const Cell<S>& cell = backward.cell;
  const int slots = phase == OUTPUT ? cell.slots() : 1, slot = int(block.y) % slots;
  const Product<S> product = find_product(cell, phase, node, int(block.y) / slots);
  if (product.sources == 0) return;
  if (phase == OUTPUT && find_source(cell, product, slot).x == nullptr) return;
  const int channels = cell.channels, outputs = cell.outputs, chunk = int(block.x);
  const int stage_pitch = plan.piece + 1;

  SharedMemory memory;
  A* area = memory.take<A>(plan.area);
  A* middle = memory.take<A>(max(plan.piece * PITCH, PIXELS * stage_pitch));
  A* weights = memory.take<A>(W * PIECE);
  A* gradient = memory.take<A>(W * PITCH);

  const int channel = int(threadIdx.x) / 16 * PAIR, output = int(threadIdx.x) % 16;
  const int64_t begin = plan.tiling.begin(chunk), end = plan.tiling.begin(chunk + 1);
  const bool whole = channels <= plan.piece && outputs <= W && product.sources == slots;  // the sums stay in registers
  A* own = partial + (int64_t(block.y) * plan.tiling.chunks + chunk) * channels * outputs;
  A share[PAIR][SHARE<W>] = {};
  for (int64_t number = begin; number < end; ++number) {
    const Tile tile(plan.tiling, number);
    for (int first = 0; first < outputs; first += W) {
      __syncthreads();
      if (cell.vector) load_gradient<WIDE, W>(backward, product, tile, first, gradient);
      else load_gradient<1, W>(backward, product, tile, first, gradient);
      for (int index = slot; index < product.sources; index += slots) {
        const Source<S> source = find_source(cell, product, index);
        for (int c = 0; c < channels; c += plan.piece) {
          const int count = channels - c < plan.piece ? channels - c : plan.piece;
          __syncthreads();
          for (int i = int(threadIdx.x); i < count * W; i += THREADS) {
            const int o = first + i % W;
            weights[i % W * PIECE + i / W] =
                o >= source.first && o < source.last ? source.weight[int64_t(c + i / W) * outputs + o] : A(0);
          }
          make_middle(source, tile, channels, c, count, cell.vector, area, middle);
          __syncthreads();
          A sums[QUAD][PAIR] = {};
          if (channel < count) {
            multiply_pixels<W>(middle, gradient, share);
            multiply_transposed<W>(gradient, weights, sums);
            if (phase == OUTPUT) {
#pragma unroll
              for (int i = 0; i < QUAD; ++i)
#pragma unroll
                for (int k = 0; k < PAIR; ++k)
                  if (middle[(channel + k) * PITCH + output * QUAD + i] <= A(0)) sums[i][k] = A(0);
            }
            if (!whole || number == end - 1) {
#pragma unroll
              for (int k = 0; k < PAIR; ++k)
#pragma unroll
                for (int j = 0; j < SHARE<W>; ++j) {
                  const int o = first + output + 16 * j;
                  if (output + 16 * j < W && channel + k < count && o >= source.first && o < source.last) {
                    A* to = own + int64_t(c + channel + k) * outputs + o;
                    *to = whole || number == begin ? share[k][j] : *to + share[k][j];
                  }
                  share[k][j] = A(0);
                }
            }
          }
          __syncthreads();
          if (channel < count) {
#pragma unroll
            for (int i = 0; i < QUAD; ++i)
#pragma unroll
              for (int k = 0; k < PAIR; ++k)
                if (channel + k < count) middle[(output * QUAD + i) * stage_pitch + channel + k] = sums[i][k];
          }
          __syncthreads();
          S* to = find_destination(backward, product, index);
          if (cell.vector)
            store_gradient<WIDE>(middle, stage_pitch, tile, source, product.reduction(), channels, c, count, first > 0,
                                 to);
          else
            store_gradient<1>(middle, stage_pitch, tile, source, product.reduction(), channels, c, count, first > 0,
                              to);
        }
      }
    }
  }
}

}  // namespace enas
