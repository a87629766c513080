// Tiles of 8 x 8 pixels, and how the sums of blocks meet.
#pragma once
#include "access.cuh"
#include "block.cuh"
#include "plans.h"

namespace enas {

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
