// Loads and stores of images: neighbouring channels at once where the addresses allow it, and wide arithmetic.
#pragma once
#include "launch.cuh"

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

// V neighbours in one access.
template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
  T values[V];
};

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

constexpr int WIDE = 4;  // channels in one access, where all images of a launch allow it

// Whether every pixel of these images starts where WIDE numbers can be read at once.
template <class S>
inline bool wide(std::initializer_list<const void*> images, std::initializer_list<int64_t> channels) {
  for (const void* image : images)
    if (reinterpret_cast<uintptr_t>(image) % alignof(Pack<S, WIDE>) != 0) return false;
  for (int64_t count : channels)
    if (count % WIDE != 0) return false;
  return true;
}

}  // namespace enas
