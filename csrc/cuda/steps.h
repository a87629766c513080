// Programs: one launch of a kernel that does many steps, each of which needs what blocks of earlier ones wrote. A step
// is what would be a grid of its own: any number of blocks, which the blocks of the launch share out. Those meet
// between two steps, so that all of them have to be on the device at once: a cooperative launch.
//
// Where a device has no such launches, or ENAS_LAUNCH=step asks for it, each step is a launch of the same kernel.
// Results are the same to the last bit: what is summed by whom depends on the blocks of steps alone.
#pragma once
#include "device.h"

namespace enas {

struct Step {
  uint8_t kind, phase, node;  // what it does; the kernel knows
  bool waits;                 // for all steps before, or goes on beside the last one
  unsigned x, y, z;           // blocks
  ENAS_BOTH unsigned blocks() const { return x * y * z; }
};

// The steps of one launch, as a parameter of the kernel; a longer program takes several.
constexpr int MOST_STEPS = 64;
struct Steps {
  Step step[MOST_STEPS];
  int count;
};

}  // namespace enas
