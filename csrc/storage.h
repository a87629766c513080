// How images are stored (float, double, BFloat16), and the type that is computed with (float, or double for double).
#pragma once
#include <cstdint>

namespace enas {

struct BFloat16 {
  uint16_t bits;
};
template <class S>
struct ArithmeticOf {
  typedef S type;
};
template <>
struct ArithmeticOf<BFloat16> {
  typedef float type;
};
template <class S>
using Arithmetic = typename ArithmeticOf<S>::type;

// The types of storage. csrc/cuda (ENAS_CUDA) has float64 only where it is built for the host, to be compared exactly:
// nobody trains in it on a device, and it would be a third of what nvcc has to compile.
#if defined(ENAS_CUDA)
#define ENAS_STORAGE_TYPES(apply) apply(float) apply(BFloat16)
#else
#define ENAS_STORAGE_TYPES(apply) apply(float) apply(double) apply(BFloat16)
#endif

}  // namespace enas
