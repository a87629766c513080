// Neighbouring numbers in one access, and where that is possible.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "device.h"

namespace enas {

// V neighbours in one access.
template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
  T values[V];
};

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
