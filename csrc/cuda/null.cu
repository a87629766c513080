// `null` on CUDA.
#include "launch.cuh"

namespace {
using torch::stable::Tensor;

template <class T>
__global__ void copy(const T* from, T* to, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = from[i];
}

Tensor null(const Tensor& x) { return torch::stable::clone(x); }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) { m.impl("null", TORCH_BOX(&null)); }
