// How a launch is divided: images into tiles of 8 x 8 pixels, tiles into chunks, a chunk to each block; and how the
// blocks' sums meet. The division depends on sizes only, so that equal calls sum in equal order.
#pragma once
#include "cell.cuh"

namespace enas {

constexpr int THREADS = 160;         // a multiple of 20 and of 16: see PIECE and the register tiles of product.cuh
constexpr int SIDE = 8;              // of a tile
constexpr int PIXELS = SIDE * SIDE;  // of a tile
constexpr int PIECE = 20;            // the most channels that are in shared memory at once
constexpr int PITCH = PIXELS + 4;    // between channels of a tile that stands pixel by pixel: no bank conflicts
constexpr int64_t MOST_CHUNKS = 256;

// All images of one child, tile by tile.
struct Tiling {
  Plane plane;
  int columns, per_image, chunks;
  int64_t tiles;

  Tiling() = default;
  Tiling(Plane plane, int images, int64_t most_chunks = MOST_CHUNKS)
      : plane(plane),
        columns((plane.width + SIDE - 1) / SIDE),
        per_image(columns * ((plane.height + SIDE - 1) / SIDE)),
        tiles(int64_t(per_image) * images) {
    chunks = int(tiles < most_chunks ? tiles : most_chunks);
  }
  __device__ int64_t begin(int chunk) const { return chunk * tiles / chunks; }
};

struct Tile {
  int image, y, x;  // of its first pixel
  Plane plane;

  __device__ Tile(const Tiling& tiling, int64_t tile) : plane(tiling.plane) {
    image = int(tile / tiling.per_image);
    const int place = int(tile % tiling.per_image);
    y = place / tiling.columns * SIDE;
    x = place % tiling.columns * SIDE;
  }
  __device__ bool inside(int pixel) const { return y + pixel / SIDE < plane.height && x + pixel % SIDE < plane.width; }
  __device__ int64_t pixel(int pixel) const {
    return (int64_t(image) * plane.height + y + pixel / SIDE) * plane.width + x + pixel % SIDE;
  }
};

// Whether this block is the last of `blocks` to come here; what the others wrote before is then visible. The ticket is
// 0 again afterwards, for the next launch. To be called by all threads; `shared` is one integer of shared memory.
__device__ inline bool last_block(int* ticket, int blocks, int* shared) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    *shared = atomicAdd(ticket, 1) == blocks - 1;
    if (*shared) *ticket = 0;
  }
  __syncthreads();
  const bool last = *shared != 0;
  if (last) __threadfence();
  return last;
}

// Sums `value` over the parts of a block, thread = part * width + column, in their order; the result is that of part 0.
template <class T>
__device__ inline T sum_parts(T value, int width, int parts, T* shared) {
  __syncthreads();
  shared[threadIdx.x] = value;
  __syncthreads();
  T sum = 0;
  if (int(threadIdx.x) < width)
    for (int part = 0; part < parts; ++part) sum += shared[part * width + threadIdx.x];
  return sum;
}

}  // namespace enas
