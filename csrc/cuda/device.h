// What every file of csrc/cuda starts from.
//
// Kernels compile for the host too, where tests/shim runs them. They keep to what both compilers know: no <<< >>> and
// no __shared__, and what only hardware can do stands in one function with a plain equivalent for the host. Torch's
// headers are half of what nvcc has to read of a file: large kernels are in files without, and files without kernels
// are .cpp and spared nvcc.
#pragma once
#include <cuda_runtime.h>

#include "../formulas.h"
#include "../storage.h"

namespace enas {

// Bytes that SharedMemory::take<T>(count) takes: aligned for the widest loads.
template <class T>
ENAS_BOTH constexpr size_t shared_bytes(int64_t count) {
  return (size_t(count) * sizeof(T) + 15) / 16 * 16;
}

// Blocks of `size` that cover `count`.
inline unsigned blocks_of(int64_t count, int64_t size) { return unsigned((count + size - 1) / size); }

}  // namespace enas
