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

}  // namespace enas
