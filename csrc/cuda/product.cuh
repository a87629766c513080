// Products of pixels and weights with their batch norm's statistics: halves of separable convolutions, factorised
// reductions, the projection of loose ends. One block computes a chunk of tiles for 10 * N outputs of one child.
#pragma once
#include "depthwise.cuh"

namespace enas {

// Calls f(integral constant N) for N of choose_number.
template <class S, class F>
__device__ inline void with_number(int outputs, F f) {
  if constexpr (std::is_same_v<S, double>) {
    f(std::integral_constant<int, 4>());
  } else {
    const int number = choose_number<S>(outputs);
    if (number == 2) f(std::integral_constant<int, 2>());
    else if (number == 4) f(std::integral_constant<int, 4>());
    else f(std::integral_constant<int, 8>());
  }
}

// sums[pixel][output] += middle[channel][pixel] * weights[channel][output].
template <int N, int MOST, class A>
__device__ inline void multiply(const A* middle, const A* weights, int count, A (&sums)[QUAD][MOST]) {
  const A* pixels = middle + int(threadIdx.x) % 16 * QUAD;
  const A* outputs = weights + int(threadIdx.x) / 16 * N;
#pragma unroll 2
  for (int c = 0; c < count; ++c) {
    A x[QUAD], w[N];
    load<QUAD>(pixels + c * PITCH, x);
    load<N>(outputs + c * WIDTH<N>, w);
#pragma unroll
    for (int i = 0; i < QUAD; ++i)
#pragma unroll
      for (int n = 0; n < N; ++n) sums[i][n] += x[i] * w[n];
  }
}

// Writes stage[pixel][output] (`pitch` apart) to z.
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void store_tile(const A* stage, int pitch, const Tile& tile, int channels, int first, int count,
                                  S* z) {
  const int groups = count / V;
  for (int i = int(threadIdx.x); i < PIXELS * groups; i += THREADS) {
    const int pixel = i / groups, channel = i % groups * V;
    if (!tile.inside(pixel)) continue;
    A values[V];
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = stage[pixel * pitch + channel + v];
    store<V>(z + tile.pixel(pixel) * channels + first + channel, values);
  }
}

// Mean, biased variance and the affine map of `count` outputs, from the moments [chunks][4][outputs] of the chunks: a
// shift, the sums of (z - shift) and its square, the number of pixels. All are brought to the first chunk's shift.
template <class S, class A = Arithmetic<S>>
__device__ inline void finish_norm(const Cell<S>& cell, const Product<S>& product, int chunks, const A* moments,
                                   int first, int count, double* shared) {
  const int outputs = cell.outputs, parts = THREADS / count;
  const int part = int(threadIdx.x) / count, output = first + int(threadIdx.x) % count;
  const int64_t norm = cell.norm(product.child, product.norm);
  double mean = 0, variance = 0;
  if (cell.given == nullptr) {
    double sum = 0, squares = 0, pixels = 0;
    const double shift = moments[output];
    if (part < parts)
      for (int chunk = part; chunk < chunks; chunk += parts) {
        const A* own = moments + int64_t(chunk) * 4 * outputs + output;
        const double distance = double(own[0]) - shift, one = own[outputs], n = own[3 * outputs];
        sum += one + n * distance;
        squares += double(own[2 * outputs]) + distance * (2 * one + n * distance);
        pixels += n;
      }
    sum = sum_parts(sum, count, parts, shared);
    squares = sum_parts(squares, count, parts, shared);
    pixels = sum_parts(pixels, count, parts, shared);
    mean = shift + sum / pixels;
    variance = (squares - sum * (sum / pixels)) / pixels;
    if (!(variance >= 0)) variance = variance < 0 ? 0 : variance;
  } else if (int(threadIdx.x) < count) {
    mean = cell.given[norm + output];
    variance = cell.given[norm + outputs + output];
  }
  if (int(threadIdx.x) >= count) return;
  cell.used[norm + output] = A(mean);
  cell.used[norm + outputs + output] = A(variance);
  if (product.gain == nullptr) return;
  const Affine<A> affine = norm_affine(A(mean), A(variance), product.gain[output], product.bias[output]);
  cell.affine[norm + output] = affine.factor;
  cell.affine[norm + outputs + output] = affine.offset;
}

// Blocks: (chunks x pieces of outputs, jobs). `moments` is [jobs][chunks][4][outputs], `tickets` [jobs][pieces of
// outputs]. All widths share one body, whose registers the kernel has anyway; only the sums are formed by each.
template <class S>
__device__ inline void compute_products(const uint3& block, const Cell<S>& cell, Phase phase, int node,
                                        const ProductPlan& plan, Arithmetic<S>* moments, int* tickets) {
  using A = Arithmetic<S>;
  constexpr int MOST = std::is_same_v<S, double> ? 4 : 8;
  const int each = choose_number<S>(cell.outputs), W = 10 * each, STAGE = W + 1;  // outputs of a thread, of the block
  const Product<S> product = find_product(cell, phase, node, int(block.y));
  if (product.sources == 0) return;
  const int channels = cell.channels, chunk = int(block.x) / plan.output_pieces;
  const int output_piece = int(block.x) % plan.output_pieces, first = output_piece * W;
  const int outputs = cell.outputs - first < W ? cell.outputs - first : W;

  SharedMemory memory;
  A* area = memory.take<A>(plan.area);  // windows and, when they are done with, the tile of z
  A* middle = memory.take<A>(plan.piece * PITCH);
  A* weights = memory.take<A>(plan.piece * W);
  double* shared = memory.take<double>(THREADS);
  int* flag = memory.take<int>(1);

  const int parts = THREADS / W, part = int(threadIdx.x) / W, output = int(threadIdx.x) % W;
  A shift = A(0), sum = A(0), squares = A(0), pixels = A(0);
  for (int64_t number = plan.tiling.begin(chunk); number < plan.tiling.begin(chunk + 1); ++number) {
    const Tile tile(plan.tiling, number);
    A sums[QUAD][MOST] = {};
    for (int index = 0; index < product.sources; ++index) {
      const Source<S> source = find_source(cell, product, index);
      if (source.x == nullptr) continue;
      for (int c = 0; c < channels; c += plan.piece) {
        const int count = channels - c < plan.piece ? channels - c : plan.piece;
        __syncthreads();
        for (int i = int(threadIdx.x); i < count * W; i += THREADS) {
          const int o = first + i % W;
          weights[i] =
              o >= source.first && o < source.last ? source.weight[int64_t(c + i / W) * cell.outputs + o] : A(0);
        }
        make_middle(source, tile, channels, c, count, cell.vector, area, middle);
        __syncthreads();
        with_number<S>(cell.outputs, [&](auto n) { multiply<decltype(n)::value>(middle, weights, count, sums); });
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < QUAD; ++i)
#pragma unroll
      for (int n = 0; n < MOST; ++n)
        if (n < each)
          area[(int(threadIdx.x) % 16 * QUAD + i) * STAGE + int(threadIdx.x) / 16 * each + n] =
              widen(narrow<S>(sums[i][n]));
    __syncthreads();
    if (cell.vector) store_tile<WIDE>(area, STAGE, tile, cell.outputs, first, outputs, product.z);
    else store_tile<1>(area, STAGE, tile, cell.outputs, first, outputs, product.z);
    if (cell.given == nullptr && part < parts) {
      if (number == plan.tiling.begin(chunk)) shift = area[output];
      for (int pixel = part; pixel < PIXELS; pixel += parts)
        if (tile.inside(pixel)) {
          const A distance = area[pixel * STAGE + output] - shift;
          sum += distance;
          squares += distance * distance;
          pixels += A(1);
        }
    }
  }
  A* own = moments + int64_t(block.y) * plan.tiling.chunks * 4 * cell.outputs;
  if (cell.given == nullptr) {
    A* exchange = area;  // at least THREADS numbers
    sum = sum_parts(sum, W, parts, exchange);
    squares = sum_parts(squares, W, parts, exchange);
    pixels = sum_parts(pixels, W, parts, exchange);
    if (int(threadIdx.x) < outputs) {
      A* to = own + int64_t(chunk) * 4 * cell.outputs + first + threadIdx.x;
      to[0] = shift;
      to[cell.outputs] = sum;
      to[2 * cell.outputs] = squares;
      to[3 * cell.outputs] = pixels;
    }
    if (!last_block(tickets + block.y * plan.output_pieces + output_piece, plan.tiling.chunks, flag)) return;
  } else if (chunk != 0) {
    return;
  }
  finish_norm(cell, product, plan.tiling.chunks, own, first, outputs, shared);
}

}  // namespace enas
