// Backward of depthwise convolutions: the gradient of their input, the sums that the batch norm in front of them needs,
// and the gradient of their weights, a sum for each chunk of tiles. Tiles are of the input.
#pragma once
#include "cell_backward.h"
#include "product.cuh"

namespace enas {

struct Shape {
  int kernel, stride, dilation;  // stride is 1 or 2
};

template <class A>
struct DepthwiseMemory {
  A *window, *own, *exchange;
  double* shared;
  int* flag;
};

// A row of a tile, of one channel, where stride and dilation are 1: dx += the gradients that met it, through the
// weights, and `share` += those times x. `met` is the window [position][count] from its row on that meets the last tap.
template <int K, class A>
__device__ inline void convolve_back(const A* met, const A* weights, int channels, int count, const A (&value)[SIDE],
                                     A (&dx)[SIDE], A (&share)[K * K]) {
#pragma unroll
  for (int ky = 0; ky < K; ++ky) {
    A gradient[SIDE + K - 1];
#pragma unroll
    for (int i = 0; i < SIDE + K - 1; ++i) gradient[i] = met[((K - 1 - ky) * (SIDE + K - 1) + i) * count];
#pragma unroll
    for (int kx = 0; kx < K; ++kx) {
      const A weight = weights[(ky * K + kx) * channels];
#pragma unroll
      for (int i = 0; i < SIDE; ++i) {
        dx[i] += weight * gradient[i + K - 1 - kx];
        share[ky * K + kx] += value[i] * gradient[i + K - 1 - kx];
      }
    }
  }
}

// The same for one pixel, at any kernel, stride and dilation, of which few taps meet a gradient where the stride is 2.
// The pixel is tap 0 of gradient (y, x) / stride, counted from the window's first; where that does not divide, there is
// none.
template <class A>
__device__ inline A convolve_back(const A* window, const A* weights, int channels, int count, const Shape& shape, int y,
                                  int x, A value, A* share) {
  const int columns = met(shape.kernel, shape.stride, shape.dilation), mask = shape.stride - 1;
  A sum = A(0);
#pragma unroll 1
  for (int ky = 0; ky < shape.kernel; ++ky) {
    const int above = y - ky * shape.dilation;
    if (above & mask) continue;
#pragma unroll 1
    for (int kx = 0; kx < shape.kernel; ++kx) {
      const int left = x - kx * shape.dilation, tap = ky * shape.kernel + kx;
      if (left & mask) continue;
      const A gradient = window[((above >> mask) * columns + (left >> mask)) * count];
      sum += weights[tap * channels] * gradient;
      share[tap] += value * gradient;
    }
  }
  return sum;
}

// From the sums [chunks][2][channels] of dx and of dx * (x - mean): the coefficients of the batch norm in front.
template <class S, class A = Arithmetic<S>>
__device__ inline void finish_sums(const CellBackward<S>& backward, int child, int norm, const A* gain, int chunks,
                                   const A* sums, int channels, int first, int count, double* shared) {
  const Cell<S>& cell = backward.cell;
  const int parts = THREADS / count, part = int(threadIdx.x) / count, channel = first + int(threadIdx.x) % count;
  double one = 0, centred = 0;
  if (part < parts)
    for (int chunk = part; chunk < chunks; chunk += parts) {
      one += sums[int64_t(chunk) * 2 * channels + channel];
      centred += sums[(int64_t(chunk) * 2 + 1) * channels + channel];
    }
  one = sum_parts(one, count, parts, shared);
  centred = sum_parts(centred, count, parts, shared);
  if (int(threadIdx.x) >= count) return;
  if (!backward.centred) {  // of a given affine map: dx * x belongs to its factor
    A* to = backward.dnorms + int64_t(child) * 2 * channels + channel;
    to[0] = A(centred);
    to[channels] = A(one);
    return;
  }
  const A* used = cell.used + cell.norm(child, norm) + channel;
  const auto result = norm_backward<double>(used[0], used[channels], gain[channel], one, centred,
                                            double(cell.images) * double(cell.out.pixels()), backward.given);
  A* coefficients = backward.coefficients_of(child, norm) + channel;
  coefficients[0] = A(result.on_grad);
  coefficients[channels] = A(result.on_z);
  coefficients[2 * channels] = A(result.constant);
  A* dnorm = backward.dnorm_of(child, norm) + channel;
  dnorm[0] = A(result.dgain);
  dnorm[channels] = A(result.dbias);
}

// The chunk of one block, `count` channels from `first` on. K is the kernel where stride and dilation are 1, else 0.
template <int K, class S, class A = Arithmetic<S>>
__device__ inline void go_back(const CellBackward<S>& backward, const Product<S>& product, const Source<S>& source,
                               const Tiling& tiling, int chunk, int first, int count, A* gradients, A* sums,
                               const DepthwiseMemory<A>& memory) {
  const Cell<S>& cell = backward.cell;
  const int channels = cell.channels, thread = int(threadIdx.x);
  const int channel = thread % count, row = thread / count;
  const Shape shape = K > 0 ? Shape{K, 1, 1} : Shape{source.kernel, source.stride, source.dilation};
  const int border = shape.dilation * (shape.kernel / 2), before = shape.dilation * (shape.kernel - 1) - border;
  const int side = K > 0 ? SIDE + K - 1 : met(shape.kernel, shape.stride, shape.dilation), mask = shape.stride - 1;
  const bool active = row < SIDE;
  const S* from = backward.side(backward.depthwise, product.child, product.edge);
  S* to = product.phase == SECOND ? backward.side(backward.between, product.child, product.edge)
                                  : backward.edge(product.child, product.edge);
  A factor = A(1), offset = A(0), centre = A(0);
  if (source.affine != nullptr) {
    factor = source.affine[first + channel];
    offset = source.affine[channels + first + channel];
    if (backward.centred) centre = cell.used[cell.norm(product.child, product.norm - 1) + first + channel];
  }
  const A* weights = source.depthwise + first + channel;
  A share[K > 0 ? K * K : 49] = {}, one = A(0), centred = A(0);
  for (int64_t number = tiling.begin(chunk); number < tiling.begin(chunk + 1); ++number) {
    const Tile tile(tiling, number);
    const int y0 = (tile.y - before) >> mask, x0 = (tile.x - before) >> mask;  // the first gradient that it can meet
    const Window met_window{cell.out, y0, x0, side, side, 1}, own_window{tile.plane, tile.y, tile.x, SIDE, SIDE, 1};
    const S* images = from + int64_t(tile.image) * cell.out.pixels() * channels;
    const S* x_image = source.x + int64_t(tile.image) * tile.plane.pixels() * channels;
    __syncthreads();
    if (cell.vector) {
      load_window<WIDE>(images, met_window, channels, first, count, (const A*)nullptr, false, memory.window, count, 1);
      load_window<WIDE>(x_image, own_window, channels, first, count, (const A*)nullptr, false, memory.own, count, 1);
    } else {
      load_window<1>(images, met_window, channels, first, count, (const A*)nullptr, false, memory.window, count, 1);
      load_window<1>(x_image, own_window, channels, first, count, (const A*)nullptr, false, memory.own, count, 1);
    }
    __syncthreads();
    const auto read = [&](int i, A& x) {  // as the depthwise convolution read it
      x = memory.own[(row * SIDE + i) * count + channel];
      return tile.inside(row * SIDE + i) ? relu(source.affine == nullptr ? x : factor * x + offset) : A(0);
    };
    const auto write = [&](int i, A x, A value, A dx) {
      A result = value <= A(0) ? A(0) : dx;
      if (backward.centred) result = widen(narrow<S>(result));
      one += result;
      centred += result * (x - centre);
      memory.own[(row * SIDE + i) * count + channel] = backward.centred ? result : factor * result;
    };
    if (active && K > 0) {
      A x[SIDE], value[SIDE], dx[SIDE] = {};
#pragma unroll
      for (int i = 0; i < SIDE; ++i) value[i] = read(i, x[i]);
      if constexpr (K > 0)
        convolve_back<K>(memory.window + row * side * count + channel, weights, channels, count, value, dx, share);
#pragma unroll
      for (int i = 0; i < SIDE; ++i) write(i, x[i], value[i], dx[i]);
    } else if (active) {
#pragma unroll 1
      for (int i = 0; i < SIDE; ++i) {
        A x;
        const A value = read(i, x);
        write(i, x, value,
              convolve_back(memory.window + channel, weights, channels, count, shape,
                            tile.y + row + border - (y0 << mask), tile.x + i + border - (x0 << mask), value, share));
      }
    }
    __syncthreads();
    if (cell.vector) store_tile<WIDE>(memory.own, count, tile, channels, first, count, to);
    else store_tile<1>(memory.own, count, tile, channels, first, count, to);
  }
#pragma unroll
  for (int ky = 0; ky < (K > 0 ? K : 7); ++ky) {
    if (ky >= shape.kernel) break;
    __syncthreads();
    if (active)
#pragma unroll
      for (int kx = 0; kx < (K > 0 ? K : 7); ++kx)
        if (kx < shape.kernel) memory.exchange[(kx * SIDE + row) * count + channel] = share[ky * shape.kernel + kx];
    __syncthreads();
    for (int i = thread; i < shape.kernel * count; i += THREADS) {
      A sum = A(0);
#pragma unroll
      for (int r = 0; r < SIDE; ++r) sum += memory.exchange[(i / count * SIDE + r) * count + i % count];
      gradients[(int64_t(chunk) * shape.kernel * shape.kernel + ky * shape.kernel + i / count) * channels + first +
                i % count] = sum;
    }
  }
  if (sums == nullptr) return;
  one = sum_parts(active ? one : A(0), count, SIDE, memory.exchange);
  centred = sum_parts(active ? centred : A(0), count, SIDE, memory.exchange);
  if (thread < count) {
    sums[int64_t(chunk) * 2 * channels + first + channel] = one;
    sums[(int64_t(chunk) * 2 + 1) * channels + first + channel] = centred;
  }
}

// Blocks: (chunks x pieces of channels, jobs). `gradients` is [jobs][chunks][k][k][channels], `sums` [jobs][chunks][2]
// [channels], `tickets` [jobs][pieces of channels].
template <class S>
__device__ inline void compute_depthwise_gradients(const uint3& block, const CellBackward<S>& backward, Phase phase,
                                                   int node, const DepthwisePlan& plan, int taps,
                                                   Arithmetic<S>* gradients, Arithmetic<S>* sums, int* tickets) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const Product<S> product = find_product(cell, phase, node, int(block.y));
  if (product.sources == 0 || product.reduction()) return;
  const Tiling& tiling = plan.tiling(product);
  const int chunk = int(block.x) / plan.pieces, piece = int(block.x) % plan.pieces, first = piece * plan.piece;
  if (chunk >= tiling.chunks) return;
  const int channels = cell.channels, count = channels - first < plan.piece ? channels - first : plan.piece;
  SharedMemory shared;
  DepthwiseMemory<A> memory;
  memory.window = shared.take<A>(plan.area);
  memory.own = shared.take<A>(PIXELS * plan.piece);
  memory.exchange = shared.take<A>(7 * SIDE * plan.piece > THREADS ? 7 * SIDE * plan.piece : THREADS);
  memory.shared = shared.take<double>(THREADS);
  memory.flag = shared.take<int>(1);
  const Source<S> source = find_source(cell, product, 0);
  gradients += int64_t(block.y) * plan.chunks() * taps * channels;
  sums += int64_t(block.y) * plan.chunks() * 2 * channels;
  A* wanted = source.affine == nullptr ? nullptr : sums;
  const auto go = [&](auto kernel) {
    constexpr int K = decltype(kernel)::value;
    go_back<K>(backward, product, source, tiling, chunk, first, count, gradients, wanted, memory);
  };
  constexpr bool SEVEN = !std::is_same_v<S, double>;  // the code for 7 x 7 is large, and in double it is not in a hurry
  if (source.stride > 1 || source.dilation > 1 || (source.kernel == 7 && !SEVEN)) go(std::integral_constant<int, 0>());
  else if (source.kernel == 3) go(std::integral_constant<int, 3>());
  else if (source.kernel == 5) go(std::integral_constant<int, 5>());
  else if constexpr (SEVEN) go(std::integral_constant<int, 7>());
  if (wanted == nullptr || !last_block(tickets + block.y * plan.pieces + piece, tiling.chunks, memory.flag)) return;
  const A* gain = nullptr;
  if (backward.centred)
    gain = cell.separable[product.route.operation == SEPARABLE_5].gain + int64_t(product.route.row) * 2 * channels;
  finish_sums(backward, product.child, product.norm - 1, gain, tiling.chunks, sums, channels, first, count,
              memory.shared);
}

}  // namespace enas
