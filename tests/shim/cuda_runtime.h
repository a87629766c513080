// Stands in for CUDA's own cuda_runtime.h where csrc/cuda is compiled for the host: the part of the language and of the
// run-time library that device code uses. engine.cpp runs it. What a new kernel misses here is to be added, with a
// check in check.cu.
//
// Blocks run one after the other, those of a cooperative launch in turns, the threads of a block in turns, each until
// it waits. Left out on purpose, so that device code with them does not compile here: __shared__ (SharedMemory of
// csrc/cuda/block.cuh knows the bounds of each array), atomics on floating-point numbers (their order is not fixed),
// <<< >>> (not C++).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

// Types.
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Launching.
typedef struct StreamOfShim* cudaStream_t;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid argument";
}
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value);
enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int cooperative;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

namespace shim {

// Where a thread waits.
struct Place {
  const char* file;
  int line;
};

void run(const void* kernel, const cudaLaunchConfig_t& configuration, const std::function<void()>& thread);
// The most bytes of dynamic shared memory that a kernel may be launched with.
size_t allowed_shared(const void* kernel);
// How many multiprocessors this device has, and how many blocks each has at once.
int multiprocessors();
constexpr int BLOCKS_AT_ONCE = 2;
// The array that the block took as its index-th, of exactly this size and full of NaN at first.
void* shared_array(size_t index, size_t bytes);
// This thread takes its arrays anew; those of before are gone as soon as one thread of the block does.
void divide_anew();
void wait_for_block(Place place);
void wait_for_grid(Place place);
// Waits for the lanes of `mask`, this one among them, to come to the same place -> the word of each of the 32 lanes.
// All bits of a word are set where the lane is not of the mask.
const uint64_t* wait_for_lanes(unsigned mask, uint64_t word, Place place);
unsigned lane();

template <class T>
T exchange(unsigned mask, T value, int source, Place place) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  const uint64_t* words = wait_for_lanes(mask, word, place);
  std::memcpy(&value, &words[source], sizeof(T));
  return value;
}

}  // namespace shim

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* configuration, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "parameters are copied to the device as bytes");
  const std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
  static_assert(sizeof(parameters) <= 4096, "a kernel's parameters have at most 4 KiB");
  shim::run(reinterpret_cast<const void*>(kernel), *configuration, [&] { std::apply(kernel, parameters); });
  return cudaSuccess;
}

// What a device can do.
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrCooperativeLaunch };
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? shim::multiprocessors() : 1;
  return cudaSuccess;
}
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int, size_t shared) {
  *blocks = shared <= shim::allowed_shared(kernel) ? shim::BLOCKS_AT_ONCE : 0;
  return cudaSuccess;
}

// Where the running thread stands.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// Waiting. The place is that of the caller.
#define SHIM_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
inline void __syncthreads(SHIM_PLACE) { shim::wait_for_block({file, line}); }
inline void __syncwarp(unsigned mask = 0xffffffffu, SHIM_PLACE) { shim::wait_for_lanes(mask, 0, {file, line}); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SHIM_PLACE) {
  const int first = int(shim::lane()) / width * width;
  return shim::exchange(mask, value, first + (source & (width - 1)), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32, SHIM_PLACE) {
  const int lane = int(shim::lane()), source = lane ^ distance;
  // Lanes of later segments are not read.
  return shim::exchange(mask, value, source / width <= lane / width ? source : lane, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, SHIM_PLACE) {
  const int lane = int(shim::lane()), source = lane + int(distance);
  return shim::exchange(mask, value, source / width == lane / width ? source : lane, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SHIM_PLACE) {
  const uint64_t* words = shim::wait_for_lanes(mask, predicate != 0, {file, line});
  unsigned ballot = 0;
  for (int lane = 0; lane < 32; ++lane) ballot |= unsigned(words[lane] == 1) << lane;
  return ballot;
}
#undef SHIM_PLACE

// Memory. Threads take turns, so that nothing can come in between.
template <class T, class = std::enable_if_t<std::is_integral_v<T> && sizeof(T) >= 4>>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  const T old = *address;
  *address = T(old + value);
  return old;
}
inline void __threadfence() {}
template <class T>
T __ldg(const T* address) {
  return *address;
}

// Arithmetic.
using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
