// The shared memory of a block. A thread may leave its kernel only where none of its block waits for it any more.
#pragma once
#include "device.h"

namespace enas {

// The shared memory of a block, as its kernel divides it: arrays follow one another, each of shared_bytes. Every thread
// takes the same arrays in the same order. What they hold at first is left over.
class SharedMemory {
 public:
  template <class T>
  __device__ T* take(int64_t count) {
#if defined(__CUDACC__)
    extern __shared__ __align__(16) unsigned char enas_shared_memory[];
    T* array = reinterpret_cast<T*>(enas_shared_memory + taken_);
    taken_ += shared_bytes<T>(count);
    return array;
#else
    return static_cast<T*>(shim::shared_array(taken_++, size_t(count) * sizeof(T)));
#endif
  }

  // Ends what the arrays that this block has taken are good for: the next ones are another division of the same memory.
  // To be called by all threads.
  static __device__ void divide_anew() {
    __syncthreads();
#if !defined(__CUDACC__)
    shim::divide_anew();
#endif
  }

 private:
  size_t taken_ = 0;
};

}  // namespace enas
