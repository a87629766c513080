// Kernels that try the shim itself: what must work, and mistakes that it must tell. Each becomes an operation
// check_NAME(Tensor x) -> Tensor over float32 [n], in blocks of 64 threads with 64 numbers of shared memory.
#include "cuda/launch.h"
#include "cuda/program.cuh"

namespace {
using namespace enas;

constexpr int THREADS = 64;
constexpr unsigned ALL = 0xffffffffu;

__device__ int64_t position() { return int64_t(blockIdx.x) * THREADS + threadIdx.x; }

__global__ void reverse(const float* x, float* y, int64_t n) {
  SharedMemory memory;
  float* turned = memory.take<float>(THREADS);
  const int64_t i = position();
  turned[threadIdx.x] = i < n ? x[i] : 0.0f;
  __syncthreads();
  if (i < n) y[i] = turned[THREADS - 1 - threadIdx.x];
}

__global__ void reverse_without_barrier(const float* x, float* y, int64_t n) {
  SharedMemory memory;
  float* turned = memory.take<float>(THREADS);
  const int64_t i = position();
  turned[threadIdx.x] = i < n ? x[i] : 0.0f;
  if (i < n) y[i] = turned[THREADS - 1 - threadIdx.x];
}

// The sum of its block, for every thread.
__global__ void sum(const float* x, float* y, int64_t n) {
  SharedMemory memory;
  float* of_warp = memory.take<float>(THREADS);
  const int64_t i = position();
  float value = i < n ? x[i] : 0.0f;
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_down_sync(ALL, value, distance);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warp[threadIdx.x % 2];
  value += __shfl_xor_sync(ALL, value, 1);
  value = __shfl_sync(ALL, value, 7);
  if (i < n) y[i] = value;
}

// Every lane gets its neighbour's number, by shared memory that only its warp uses.
__global__ void swap_neighbours(const float* x, float* y, int64_t n) {
  SharedMemory memory;
  float* numbers = memory.take<float>(THREADS);
  const int64_t i = position();
  numbers[threadIdx.x] = i < n ? __ldg(x + i) : 0.0f;
  __syncwarp();
  if (i < n) y[i] = numbers[threadIdx.x ^ 1];
}

// How many lanes before this one have a positive number; lanes of two halves of a warp talk apart from one another.
__global__ void rank(const float* x, float* y, int64_t n) {
  const int64_t i = position();
  const unsigned half = threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u;
  const bool positive = i < n && x[i] > 0.0f;
  unsigned ballot;
  if (half == 0xffffu) ballot = __ballot_sync(half, positive);
  else ballot = __ballot_sync(half, positive);
  if (i < n) y[i] = float(__popc(ballot & ((1u << threadIdx.x % 32) - 1)));
}

// A number of its own for each thread of the block, from whichever comes first.
__global__ void tickets(const float*, float* y, int64_t n) {
  SharedMemory memory;
  int* next = memory.take<int>(1);
  if (threadIdx.x == 0) *next = 0;
  __syncthreads();
  const int ticket = atomicAdd(next, 1);
  if (position() < n) y[position()] = float(ticket);
}

__global__ void unwritten(const float*, float* y, int64_t n) {
  SharedMemory memory;
  const float* nothing = memory.take<float>(THREADS);
  if (position() < n) y[position()] = nothing[threadIdx.x];
}

__global__ void leaves_early(const float* x, float* y, int64_t n) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  if (position() < n) y[position()] = x[position()];
}

__global__ void half_a_warp(const float* x, float* y, int64_t n) {
  float value = position() < n ? x[position()] : 0.0f;
  if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(ALL, value, 1);
  if (position() < n) y[position()] = value;
}

__global__ void two_barriers(const float* x, float* y, int64_t n) {
  if (threadIdx.x < 32) __syncthreads();
  else __syncthreads();
  if (position() < n) y[position()] = x[position()];
}

__global__ void too_much(const float*, float* y, int64_t) {
  SharedMemory memory;
  memory.take<float>(THREADS / 2);
  y[0] = memory.take<float>(THREADS)[0];
}

__global__ void outside_tensor(const float* x, float* y, int64_t n) {
  if (position() == 0) y[0] = x[n];
}

__global__ void outside_shared(const float* x, float* y, int64_t) {
  SharedMemory memory;
  float* first = memory.take<float>(THREADS / 2);
  memory.take<float>(THREADS / 2);
  first[threadIdx.x] = x[0];
  __syncthreads();
  y[0] = first[0];
}

__global__ void overflow(const float* x, float* y, int64_t) {
  const int large = 2147483647 - int(x[0] == x[0]);
  y[0] = float(large + int(threadIdx.x));
}

// Every block writes its numbers, and then each reads those of the next one.
__global__ void next_block(const float* x, float* y, int64_t n) {
  if (position() < n) y[position()] = x[position()];
  meet_grid();
  const int64_t other = (position() + THREADS) % n;
  const float value = y[other];
  meet_grid();
  if (position() < n) y[position()] = value;
}

__global__ void next_block_without_barrier(const float* x, float* y, int64_t n) {
  if (position() < n) y[position()] = x[position()];
  __syncthreads();
  const float value = y[(position() + THREADS) % n];
  meet_grid();
  if (position() < n) y[position()] = value;
}

__global__ void a_block_stays_away(const float* x, float* y, int64_t) {
  if (blockIdx.x == 1) return;
  meet_grid();
  y[0] = x[0];
}

__global__ void two_meetings(const float* x, float* y, int64_t) {
  if (blockIdx.x == 1) cooperative_groups::this_grid().sync();
  else cooperative_groups::this_grid().sync();
  y[0] = x[0];
}

__global__ void meets_alone(const float* x, float* y, int64_t) {
  meet_grid();
  y[0] = x[0];
}

// Two divisions of shared memory, of which the second has more arrays than both together could have.
__global__ void divides_anew(const float* x, float* y, int64_t n) {
  {
    SharedMemory memory;
    memory.take<float>(THREADS)[threadIdx.x] = 1.0f;
  }
  SharedMemory::divide_anew();
  SharedMemory memory;
  float *first = memory.take<float>(THREADS / 2), *second = memory.take<float>(THREADS / 2);
  const int lane = int(threadIdx.x);
  const bool clean = lane < THREADS / 2 ? first[lane] != first[lane] : second[lane - THREADS / 2] != second[lane - 32];
  if (position() < n) y[position()] = clean ? x[position()] : 0.0f;
}

__global__ void another_array(const float* x, float* y, int64_t) {
  SharedMemory memory;
  y[0] = x[0] + memory.take<float>(threadIdx.x == 3 ? 1 : 2)[0];
}

__global__ void of_an_old_division(const float* x, float* y, int64_t) {
  SharedMemory memory;
  const float* numbers = memory.take<float>(THREADS);
  SharedMemory::divide_anew();
  y[0] = x[0] + numbers[0];
}

__global__ void may_have_little(const float* x, float* y, int64_t) { y[0] = x[0]; }

template <void (*KERNEL)(const float*, float*, int64_t), bool COOPERATIVE>
Tensor check(const Tensor& x) {
  Tensor y = torch::stable::empty_like(x);
  if constexpr (KERNEL == may_have_little)
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(KERNEL),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, THREADS));
  launch(x, {blocks_of(x.numel(), THREADS), THREADS, shared_bytes<float>(THREADS), COOPERATIVE}, KERNEL,
         pointer<float>(x), pointer<float>(y), x.numel());
  return y;
}
}  // namespace

#define CHECKS(DO)                                                                                                \
  DO(reverse) DO(reverse_without_barrier) DO(sum) DO(swap_neighbours) DO(rank) DO(tickets) DO(unwritten)          \
  DO(leaves_early) DO(half_a_warp) DO(two_barriers) DO(too_much) DO(outside_tensor) DO(outside_shared) DO(overflow) \
  DO(meets_alone) DO(divides_anew) DO(another_array) DO(of_an_old_division) DO(may_have_little)
#define COOPERATIVE_CHECKS(DO) \
  DO(next_block) DO(next_block_without_barrier) DO(a_block_stays_away) DO(two_meetings)

#define DEFINE(name) m.def("check_" #name "(Tensor x) -> Tensor");
STABLE_TORCH_LIBRARY_FRAGMENT(enas_shim, m) { CHECKS(DEFINE) COOPERATIVE_CHECKS(DEFINE) }
#define IMPLEMENT(name) m.impl("check_" #name, TORCH_BOX((&check<name, false>)));
#define IMPLEMENT_COOPERATIVE(name) m.impl("check_" #name, TORCH_BOX((&check<name, true>)));
STABLE_TORCH_LIBRARY_IMPL(enas_shim, CUDA, m) { CHECKS(IMPLEMENT) COOPERATIVE_CHECKS(IMPLEMENT_COOPERATIVE) }
