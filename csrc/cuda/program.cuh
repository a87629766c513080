// What the kernel of a program does with its steps.
#pragma once
#include <cooperative_groups.h>

#include "block.cuh"
#include "steps.h"

namespace enas {

// Waits for all blocks of a cooperative launch; what they wrote before is then visible.
__device__ inline void meet_grid() { cooperative_groups::this_grid().sync(); }

// Calls f(step, block) for the blocks of all steps that fall to this block of the launch. f takes shared memory anew
// each time; what is true of a kernel is true of f: a thread may return where none of its block waits for it any more.
template <class F>
__device__ inline void each_block(const Steps& steps, F f) {
  for (int i = 0; i < steps.count; ++i) {
    const Step& step = steps.step[i];
    if (i > 0 && step.waits) meet_grid();
    for (unsigned number = blockIdx.x; number < step.blocks(); number += gridDim.x) {
      f(step, uint3{number % step.x, number / step.x % step.y, number / step.x / step.y});
      SharedMemory::divide_anew();
    }
  }
}

}  // namespace enas
