// Loads and stores of images: neighbouring channels at once where the addresses allow it, and wide arithmetic.
#pragma once
#include "pack.h"

namespace enas {

ENAS_BOTH inline float widen(float value) { return value; }
ENAS_BOTH inline double widen(double value) { return value; }
ENAS_BOTH inline float widen(BFloat16 value) { return from_bfloat16(value.bits); }

template <class S>
ENAS_BOTH inline S narrow(Arithmetic<S> value) {
  if constexpr (std::is_same_v<S, BFloat16>) return BFloat16{to_bfloat16(value)};
  else return value;
}

// Not a number stays one.
template <class A>
ENAS_BOTH inline A relu(A value) {
  return value < A(0) ? A(0) : value;
}

template <int V, class S, class A>
__device__ inline void load(const S* from, A (&to)[V]) {
  const auto pack = *reinterpret_cast<const Pack<S, V>*>(from);
#pragma unroll
  for (int v = 0; v < V; ++v) to[v] = widen(pack.values[v]);
}

template <int V, class S, class A>
__device__ inline void store(S* to, const A (&from)[V]) {
  Pack<S, V> pack;
#pragma unroll
  for (int v = 0; v < V; ++v) pack.values[v] = narrow<S>(from[v]);
  *reinterpret_cast<Pack<S, V>*>(to) = pack;
}

}  // namespace enas
