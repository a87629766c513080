// How a program is put together, and launched.
#pragma once
#include <algorithm>

#include "launch.h"
#include "steps.h"

namespace enas {

class Program {
 public:
  // One more step, of `blocks` with `shared` bytes of shared memory each; none where there are no blocks.
  void add(int kind, int phase, int node, bool waits, dim3 blocks, size_t shared) {
    const uint64_t all = uint64_t(blocks.x) * blocks.y * blocks.z;
    STD_TORCH_CHECK(all < uint64_t(1) << 31, "too many blocks in one step of a program");
    if (all == 0) return;
    steps_.push_back({uint8_t(kind), uint8_t(phase), uint8_t(node), waits, blocks.x, blocks.y, blocks.z});
    shared_.push_back(shared);
  }
  // Whether the last step is of this kind.
  bool after(int kind) const { return !steps_.empty() && steps_.back().kind == kind; }

  // Runs kernel(arguments, steps) in blocks of `threads` threads, see each_block of program.cuh.
  template <class Arguments>
  void run(const Tensor& on, int threads, void (*kernel)(Arguments, Steps), const Arguments& arguments) const;

 private:
  std::vector<Step> steps_;
  std::vector<size_t> shared_;
};

// How many blocks of a kernel are on a device at once; 0 where programs go step by step. The device is the current one.
unsigned resident_blocks(const void* kernel, int device, int threads, size_t shared);

template <class Arguments>
void Program::run(const Tensor& on, int threads, void (*kernel)(Arguments, Steps), const Arguments& arguments) const {
  static_assert(sizeof(Arguments) + sizeof(Steps) <= 4096, "a kernel's parameters have at most 4 KiB");
  const CurrentStream current(on.get_device_index());
  for (size_t first = 0, last = 0; first < steps_.size(); first = last) {
    last = std::min(first + MOST_STEPS, steps_.size());
    size_t shared = *std::max_element(shared_.begin() + first, shared_.begin() + last);
    const unsigned resident =
        resident_blocks(reinterpret_cast<const void*>(kernel), on.get_device_index(), threads, shared);
    if (resident == 0) {
      last = first + 1;
      shared = shared_[first];
    }
    Steps steps{};
    unsigned blocks = 0;
    for (size_t i = first; i < last; ++i) {
      steps.step[steps.count++] = steps_[i];
      blocks = std::max(blocks, steps_[i].blocks());
    }
    if (resident > 0) blocks = std::min(blocks, resident);
    launch(on, {blocks, unsigned(threads), shared, resident > 0}, kernel, arguments, steps);
  }
}

}  // namespace enas
