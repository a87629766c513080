// Vectors of the instruction set that this file is compiled for, in the compiler's own vector types: a file compiled for
// x86-64-v4 has 16 floats in one, for x86-64-v3 8, elsewhere 4.
//
// A vector is also seen as PIXELS groups of four channels, one group for each of as many pixels: so a matrix with any
// multiple of four columns fills whole vectors (20 channels do not fill vectors of 16).
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "../../formulas.h"
#include "../level.h"

namespace enas::ENAS_LEVEL {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

template <class A>
struct VectorOf;
template <>
struct VectorOf<float> {
  static constexpr int LANES = VECTOR_BYTES / 4;
  typedef float Aligned __attribute__((vector_size(LANES * 4), may_alias));
  typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
  typedef int32_t Mask __attribute__((vector_size(LANES * 4)));
  typedef int32_t ShortMask __attribute__((vector_size(32)));
};
template <>
struct VectorOf<double> {
  static constexpr int LANES = VECTOR_BYTES < 32 ? 4 : VECTOR_BYTES / 8;
  typedef double Aligned __attribute__((vector_size(LANES * 8), may_alias));
  typedef double Loose __attribute__((vector_size(LANES * 8), aligned(8), may_alias));
  typedef int64_t Mask __attribute__((vector_size(LANES * 8)));
};

template <class A>
using Vector = typename VectorOf<A>::Aligned;
// No longer than half a cache line. Where numbers do not fill whole vectors these may, fewer of their loads lie across two
// lines, and what is shuffled between their products costs less of the time of those.
template <class A>
struct ShortVectorOf {
  typedef A Type __attribute__((vector_size(VECTOR_BYTES > 32 ? 32 : sizeof(Vector<A>)), may_alias));
};
template <class A>
using ShortVector = typename ShortVectorOf<A>::Type;
template <class A>
constexpr int LANES = VectorOf<A>::LANES;
template <class A>
constexpr int PIXELS = LANES<A> / 4;

template <class A>
inline Vector<A> load(const A* from) {
  return *reinterpret_cast<const typename VectorOf<A>::Loose*>(from);
}
template <class A>
inline void store(A* to, Vector<A> vector) {
  *reinterpret_cast<typename VectorOf<A>::Loose*>(to) = vector;
}
template <class V, class A>
inline V broadcast(A number) {
  return number - V{};  // plus zero would be computed, since that makes another number of -0
}

// Memory that will be asked for soon, called up a line at a time by the loops that compute: they leave the memory idle,
// and the loops that only move data wait for it. Addresses past the end of an array are harmless.
class Ahead {
 public:
  Ahead() = default;
  // Several arrays of `bytes` each, one line of each in turn.
  Ahead(std::initializer_list<const void*> arrays, int64_t bytes) : left_(bytes / LINE) {
    for (const void* array : arrays)
      if (array != nullptr) next_[count_++] = static_cast<const char*>(array);
    if (count_ == 0) left_ = 0;
  }
  inline void touch() {
    if (left_ <= 0) return;
    for (int i = 0; i < count_; ++i) {
      __builtin_prefetch(next_[i], 0, 2);
      next_[i] += LINE;
    }
    --left_;
  }

 private:
  static constexpr int64_t LINE = 64;
  const char* next_[4] = {};
  int count_ = 0;
  int64_t left_ = 0;
};

// One number of storage as a number of arithmetic, and back. bfloat16 is kept as its bits.
inline float widen(float number) { return number; }
inline double widen(double number) { return number; }
inline float widen(BFloat16 number) { return from_bfloat16(number.bits); }
inline void narrow(float number, float* to) { *to = number; }
inline void narrow(double number, double* to) { *to = number; }
inline void narrow(float number, BFloat16* to) { to->bits = to_bfloat16(number); }

inline Vector<float> load_stored(const float* from) { return load(from); }
inline Vector<double> load_stored(const double* from) { return load(from); }
inline Vector<float> load_stored(const BFloat16* from) {
  typedef uint16_t Half __attribute__((vector_size(LANES<float> * 2)));
  typedef uint32_t Whole __attribute__((vector_size(LANES<float> * 4)));
  Half half;
  memcpy(&half, from, sizeof half);
  return Vector<float>(__builtin_convertvector(half, Whole) << 16);
}
inline void store_stored(float* to, Vector<float> vector) { store(to, vector); }
inline void store_stored(double* to, Vector<double> vector) { store(to, vector); }
inline void store_stored(BFloat16* to, Vector<float> vector) {
  typedef uint16_t Half __attribute__((vector_size(LANES<float> * 2)));
  typedef uint32_t Whole __attribute__((vector_size(LANES<float> * 4)));
  const Whole bits = Whole(vector);
  const Whole rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Whole nan = Whole(vector != vector);
  const Half half = __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0), Half);
  memcpy(to, &half, sizeof half);
}

// Four channels of each of PIXELS pixels that lie `pitch` apart.
template <class A>
inline Vector<A> gather_pixels(const A* from, int64_t pitch) {
#if defined(__AVX512F__)
  if constexpr (sizeof(A) == 4) {
    __m512 all = _mm512_castps128_ps512(_mm_loadu_ps(from));
    all = _mm512_insertf32x4(all, _mm_loadu_ps(from + pitch), 1);
    all = _mm512_insertf32x4(all, _mm_loadu_ps(from + 2 * pitch), 2);
    return Vector<A>(_mm512_insertf32x4(all, _mm_loadu_ps(from + 3 * pitch), 3));
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(A) == 4) {
    const __m256 first = _mm256_castps128_ps256(_mm_loadu_ps(from));
    return Vector<A>(_mm256_insertf128_ps(first, _mm_loadu_ps(from + pitch), 1));
  }
#endif
  Vector<A> all;
  for (int pixel = 0; pixel < PIXELS<A>; ++pixel)
    memcpy(reinterpret_cast<A*>(&all) + 4 * pixel, from + pixel * pitch, 4 * sizeof(A));
  return all;
}

// The same four numbers for every pixel.
template <class A>
inline Vector<A> repeat_four(const A* from) {
#if defined(__AVX512F__)
  if constexpr (sizeof(A) == 4) return Vector<A>(_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(from)));
#elif defined(__AVX2__)
  if constexpr (sizeof(A) == 4) return Vector<A>(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(from)));
#endif
  Vector<A> all;
  for (int pixel = 0; pixel < PIXELS<A>; ++pixel) memcpy(reinterpret_cast<A*>(&all) + 4 * pixel, from, 4 * sizeof(A));
  return all;
}

// Each pixel's channel `channel` of its four, four times.
template <class A, int channel>
inline Vector<A> spread(Vector<A> pixels) {
  typename VectorOf<A>::Mask mask;
  for (int lane = 0; lane < LANES<A>; ++lane) mask[lane] = (lane & ~3) + channel;
  return __builtin_shuffle(pixels, mask);
}

// The sum over the pixels of each of the four channels.
template <class A>
inline void add_pixels(A* to, const Vector<A>& pixels) {
  for (int pixel = 0; pixel < PIXELS<A>; ++pixel)
    for (int channel = 0; channel < 4; ++channel) to[channel] += pixels[4 * pixel + channel];
}

}  // namespace enas::ENAS_LEVEL
