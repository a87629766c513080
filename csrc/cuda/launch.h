// What every file that launches kernels starts from: tensors, the stream, the one way to launch.
#pragma once
#include "../tensors.h"
#include "device.h"

namespace enas {

// Torch's current stream of a device, which is the current device as long as this lives.
class CurrentStream {
 public:
  explicit CurrentStream(int32_t device);
  ~CurrentStream();
  CurrentStream(const CurrentStream&) = delete;
  CurrentStream& operator=(const CurrentStream&) = delete;
  cudaStream_t stream() const { return stream_; }

 private:
  void* guard_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

inline void check_cuda(cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, "CUDA: ", cudaGetErrorString(error));
}

// Lets a kernel have so many bytes of shared memory, of which some are for the asking only. Never sets a lower bound
// than a kernel has unasked: another launch may count on that.
inline void allow_shared(const void* kernel, size_t bytes) {
  constexpr size_t WITHOUT_ASKING = 48 * 1024;
  if (bytes > WITHOUT_ASKING)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
}

// How many blocks of how many threads, the bytes of shared memory of each block, and whether blocks wait for one
// another: then all of them have to be on the device at once.
struct Grid {
  dim3 blocks, threads;
  size_t shared = 0;
  bool cooperative = false;
};

// Launches kernel(arguments...) on the stream of the device that holds `on`. Without blocks nothing is launched.
template <class... Parameters, class... Arguments>
inline void launch(const Tensor& on, const Grid& grid, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  const CurrentStream current(on.get_device_index());
  allow_shared(reinterpret_cast<const void*>(kernel), grid.shared);
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = grid.blocks;
  configuration.blockDim = grid.threads;
  configuration.dynamicSmemBytes = grid.shared;
  configuration.stream = current.stream();
  configuration.attrs = &cooperative;
  configuration.numAttrs = grid.cooperative ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&configuration, kernel, Parameters(arguments)...));
}

}  // namespace enas
