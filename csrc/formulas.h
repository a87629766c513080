// The formulas of one element, shared by the CPU and the CUDA twin.
#pragma once
#include <cmath>
#include <cstdint>

#include "layout.h"

namespace enas {

constexpr double EPSILON = 1e-5;  // added to a variance before the square root

// A batch norm as a factor and an offset: y = factor * z + offset.
template <class T>
struct Affine {
  T factor, offset;
};

template <class T>
ENAS_BOTH inline Affine<T> norm_affine(T mean, T variance, T gain, T bias) {
  const T inverse = T(1) / sqrt(variance + T(EPSILON));
  return {gain * inverse, bias - mean * gain * inverse};
}

// Backward of a batch norm as dz = on_grad * dy + on_z * z + constant, with the sums over all n pixels of the child
// sum_grad = sum(dy) and sum_centred = sum(dy * (z - mean)); `given` statistics do not depend on z.
template <class T>
struct NormBackward {
  T on_grad, on_z, constant;
  T dgain, dbias;
};

template <class T>
ENAS_BOTH inline NormBackward<T> norm_backward(T mean, T variance, T gain, T sum_grad, T sum_centred, T pixels, bool given) {
  const T inverse = T(1) / sqrt(variance + T(EPSILON));
  const T sum_grad_normal = sum_centred * inverse;  // sum(dy * (z - mean) / std)
  NormBackward<T> out{gain * inverse, T(0), T(0), sum_grad_normal, sum_grad};
  if (!given) {
    out.on_z = -gain * inverse * inverse * sum_grad_normal / pixels;
    out.constant = -gain * inverse * sum_grad / pixels - out.on_z * mean;
  }
  return out;
}

// A stored pixel as a network sees it; mean and std are those of pixel / 255, which is a float whatever their type.
template <class T>
ENAS_BOTH inline T normalised_pixel(uint8_t pixel, T mean, T std) {
  return (T(float(pixel) / 255.0f) - mean) / std;
}

// Mean and sum of squared deviations of n values; merged in a fixed order, so that a constant channel has variance 0.
struct Moments {
  double count, mean, squares;

  // From sums of (z - shift) and (z - shift)^2.
  ENAS_BOTH static Moments shifted(double count, double shift, double sum, double sum_squares) {
    const double mean = sum / count;
    const double squares = sum_squares - sum * mean;
    return {count, shift + mean, squares > 0 ? squares : 0};
  }
  ENAS_BOTH void merge(const Moments& other) {
    const double total = count + other.count, difference = other.mean - mean;
    mean += difference * (other.count / total);
    squares += other.squares + difference * difference * (count * other.count / total);
    count = total;
  }
};

// bfloat16 as its upper half of a float, rounded to nearest even.
ENAS_BOTH inline float from_bfloat16(uint16_t bits) {
  union { uint32_t integer; float number; } both;
  both.integer = uint32_t(bits) << 16;
  return both.number;
}
ENAS_BOTH inline uint16_t to_bfloat16(float number) {
  union { float number; uint32_t integer; } both;
  both.number = number;
  if (number != number) return 0x7fc0;
  return uint16_t((both.integer + 0x7fff + ((both.integer >> 16) & 1)) >> 16);
}

}  // namespace enas
