// Gradients of the weights of the products in matrix.cuh: chunks of pixels, each summed by its own blocks.
#pragma once
#include "matrix.cuh"

namespace enas::matrix {

constexpr int64_t MOST_CHUNKS = 256;  // of a child
constexpr int STEP = 64;              // pixels that are in shared memory at once

// Pixels of a chunk; by sizes only, so that equal calls sum in equal order.
inline int64_t chunk_pixels(const Shape& shape) {
  const int64_t pixels = (shape.out_pixels() + MOST_CHUNKS - 1) / MOST_CHUNKS;
  return (pixels + STEP - 1) / STEP * STEP;
}

// A tile of COLUMNS inputs x COLUMNS outputs: S x S threads hold FIVE x FIVE numbers each, and GROUPS of them share out
// the pixels.
template <int S>
constexpr int GROUPS = THREADS / (S * S);

template <int S, class A>
size_t weights_bytes() {
  return 2 * shared_bytes<A>(STEP * COLUMNS<S>) + shared_bytes<A>(COLUMNS<S> * COLUMNS<S>) + shared_bytes<Pixel>(STEP);
}

// chunks [M][chunks][depth][outputs] of the gradients of weights [depth][outputs].
// Blocks: (chunks, tiles of depth x tiles of outputs, M).
template <int S, class T, class A = Arithmetic<T>>
__device__ inline void backward_weights(const uint3& block, const Shape& shape, Gradient<T> gradient, const T* x,
                                        int64_t chunk, A* chunks) {
  constexpr int SIDE = COLUMNS<S>;
  SharedMemory memory;
  A* left = memory.take<A>(STEP * SIDE);   // [pixel][row of the weights]
  A* right = memory.take<A>(STEP * SIDE);  // [pixel][output]
  A* result = memory.take<A>(SIDE * SIDE);
  Pixel* pixels = memory.take<Pixel>(STEP);
  const int depth = shape.depth(), thread = int(threadIdx.x), group = thread / (S * S);
  const int row = thread % (S * S) / S * FIVE, column = thread % S * FIVE;
  const int output_tiles = shape.tiles(SIDE), first = int(block.y) / output_tiles * SIDE;
  const OutputTile outputs(shape, SIDE, int(block.y) % output_tiles);
  const int64_t child = block.z, begin = int64_t(block.x) * chunk;
  const int64_t end = begin + chunk < shape.out_pixels() ? begin + chunk : shape.out_pixels();
  const T* own = x + child * shape.pixels() * shape.inputs;
  gradient.dy += child * shape.out_pixels() * shape.outputs;
  gradient.z += child * shape.out_pixels() * shape.outputs;
  gradient.factors += child * 3 * shape.outputs;

  A sums[FIVE][FIVE] = {};
  for (int64_t at = begin; at < end; at += STEP) {
    __syncthreads();
    if (thread < STEP) pixels[thread] = at + thread < end ? Pixel(shape, at + thread) : Pixel();
    __syncthreads();
    for (int i = thread; i < STEP * SIDE; i += THREADS) {
      const Pixel& pixel = pixels[i / SIDE];
      left[i] = find_input(shape, own, pixel, outputs.part, first + i % SIDE);
      const bool inside = pixel.y >= 0 && i % SIDE < outputs.count;
      right[i] = inside ? gradient.at(shape, pixel.out(shape), outputs.first + i % SIDE) : A(0);
    }
    __syncthreads();
    for (int pixel = group; pixel < STEP; pixel += GROUPS<S>) {
      A b[FIVE];
#pragma unroll
      for (int j = 0; j < FIVE; ++j) b[j] = right[pixel * SIDE + column + j];
#pragma unroll
      for (int i = 0; i < FIVE; ++i) {
        const A a = left[pixel * SIDE + row + i];
#pragma unroll
        for (int j = 0; j < FIVE; ++j) sums[i][j] += a * b[j];
      }
    }
  }
  for (int turn = 0; turn < GROUPS<S>; ++turn) {
    if (group == turn)
      for (int i = 0; i < FIVE; ++i)
        for (int j = 0; j < FIVE; ++j) {
          A& number = result[(row + i) * SIDE + column + j];
          number = turn == 0 ? sums[i][j] : number + sums[i][j];
        }
    __syncthreads();
  }
  A* to = chunks + (child * shape.tiles_of_rows(int(chunk)) + block.x) * depth * shape.outputs;
  for (int i = thread; i < SIDE * SIDE; i += THREADS)
    if (first + i / SIDE < depth && i % SIDE < outputs.count)
      to[int64_t(first + i / SIDE) * shape.outputs + outputs.first + i % SIDE] = result[i];
}

}  // namespace enas::matrix
