// Stands in for CUDA's own cooperative_groups.h: of it, the barrier of a cooperative launch.
#pragma once
#include <cuda_runtime.h>

namespace cooperative_groups {

struct grid_group {
  void sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) const {
    shim::wait_for_grid({file, line});
  }
};
inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups
