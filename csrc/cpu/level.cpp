// Which instruction set this processor runs.
#include <type_traits>

#include "level.h"

namespace enas {

#if defined(__x86_64__)
#define ENAS_LEVELS(apply) apply(level0) apply(level1) apply(level2)
#else
#define ENAS_LEVELS(apply) apply(level0)
#endif

#define ENAS_DECLARE(name)       \
  namespace name {               \
  template <class S>             \
  const Level<S>& table();       \
  template <>                    \
  const Level<float>& table();   \
  template <>                    \
  const Level<double>& table();  \
  template <>                    \
  const Level<BFloat16>& table(); \
  }
ENAS_LEVELS(ENAS_DECLARE)

template <class S>
const Level<S>& level() {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<S, double>) return level0::table<S>();  // the others have none
  static const int best = __builtin_cpu_supports("x86-64-v4") ? 2 : __builtin_cpu_supports("x86-64-v3") ? 1 : 0;
  if (best == 2) return level2::table<S>();
  if (best == 1) return level1::table<S>();
#endif
  return level0::table<S>();
}

template const Level<float>& level<float>();
template const Level<double>& level<double>();
template const Level<BFloat16>& level<BFloat16>();

}  // namespace enas
