// What is done to every number of an image, channel by channel: pixels lie one after the other, [pixels][channels].
//
// A per-channel array is repeated to a period that is a multiple of both the channels and the vector, so that whole
// vectors run over pixels of any number of channels.
#pragma once
#include <type_traits>

#include "vector.h"

namespace enas::ENAS_LEVEL {

// The period of `channels`: at least four vectors, so that sums over it do not wait for one another.
template <class A>
inline int period_of(int channels) {
  // The least common multiple; LANES is a power of two. This is asked for with every image.
  const int shared = channels & -channels;
  int period = shared < LANES<A> ? channels * (LANES<A> / shared) : channels;
  while (period < 4 * LANES<A>) period *= 2;
  return period;
}

// Numbers that a repeated array takes; one vector more than the period, for loads that begin anywhere in it.
template <class A>
inline int repeated_size(int channels) {
  return period_of<A>(channels) + LANES<A>;
}

template <class A>
inline void repeat(const A* values, int channels, A* repeated) {
  const int size = repeated_size<A>(channels);
  if (channels % LANES<A> == 0) {  // whole vectors: images may be so small that this counts
    for (int lane = 0; lane < size; lane += channels)
      for (int i = 0; i < channels && lane + i < size; i += LANES<A>) store(repeated + lane + i, load(values + i));
    return;
  }
  for (int lane = 0, channel = 0; lane < size; ++lane) {
    repeated[lane] = values[channel];
    if (++channel == channels) channel = 0;
  }
}

// One number, a whole vector or a part of one, as the loops below ask for it.
template <class T, class A>
inline T get(const A* from) {
  if constexpr (sizeof(T) == sizeof(A)) return *from;
  T vector;
  memcpy(&vector, from, sizeof vector);
  return vector;
}
template <class T, class S>
inline T get_stored(const S* from) {
  if constexpr (sizeof(T) == sizeof(Arithmetic<S>)) return widen(*from);
  else if constexpr (std::is_same_v<S, Arithmetic<S>>) return get<T>(from);
  else return load_stored(from);
}
template <class T, class A>
inline void put(A* to, T value) {
  memcpy(to, &value, sizeof value);
}
template <class T, class S>
inline void put_stored(S* to, T value) {
  if constexpr (sizeof(T) == sizeof(Arithmetic<S>)) narrow(value, to);
  else store_stored(to, value);
}
template <class T>
inline T positive(T value) {
  return value < T{} ? T{} : value;  // a NaN stays one, as in torch
}

// body.operator()<T>(i, phase) for all i of [0, size), T a vector or, at the end, a number; `phase` is the place of i in
// a repeated array.
template <class A, class F>
inline void each(int64_t size, int period, int phase, F body) {
  int64_t i = 0;
  for (; i + LANES<A> <= size; i += LANES<A>) {
    body.template operator()<Vector<A>>(i, phase);
    phase += LANES<A>;
    if (phase >= period) phase -= period;
  }
  for (; i < size; ++i) {
    body.template operator()<A>(i, phase);
    if (++phase == period) phase = 0;
  }
}

// first[c] and second[c] become the sums over the pixels of the two numbers that pair.operator()<T>(i, phase, one, two)
// adds to `one` and `two`.
template <class A, int vectors, class F>
inline void sum_pairs_of(int64_t size, int channels, A* first, A* second, F pair) {
  constexpr int PERIOD = vectors * LANES<A>;
  Vector<A> one[vectors], two[vectors];
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) one[v] = two[v] = Vector<A>{};
  int64_t i = 0;
  for (; i + PERIOD <= size; i += PERIOD) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      pair.template operator()<Vector<A>>(i + v * LANES<A>, v * LANES<A>, one[v], two[v]);
  }
  for (int channel = 0; channel < channels; ++channel) first[channel] = second[channel] = A(0);
  if (channels % LANES<A> == 0) {  // whole vectors: the images may be so small that this counts
    for (int v = 0, channel = 0; v < vectors; ++v) {
      store(first + channel, load(first + channel) + one[v]);
      store(second + channel, load(second + channel) + two[v]);
      if ((channel += LANES<A>) == channels) channel = 0;
    }
  } else {
    for (int v = 0, channel = 0; v < vectors; ++v)
      for (int lane = 0; lane < LANES<A>; ++lane) {
        first[channel] += one[v][lane];
        second[channel] += two[v][lane];
        if (++channel == channels) channel = 0;
      }
  }
  for (int phase = 0, channel = 0; i < size; ++i, ++phase) {
    pair.template operator()<A>(i, phase, first[channel], second[channel]);
    if (++channel == channels) channel = 0;
  }
}

template <class A, class F>
inline void sum_pairs(int64_t size, int channels, A* first, A* second, F pair) {
  switch (period_of<A>(channels) / LANES<A>) {
    case 4: return sum_pairs_of<A, 4>(size, channels, first, second, pair);
    case 5: return sum_pairs_of<A, 5>(size, channels, first, second, pair);
    case 6: return sum_pairs_of<A, 6>(size, channels, first, second, pair);
    case 9: return sum_pairs_of<A, 9>(size, channels, first, second, pair);
    case 10: return sum_pairs_of<A, 10>(size, channels, first, second, pair);
    case 15: return sum_pairs_of<A, 15>(size, channels, first, second, pair);
  }
  for (int channel = 0; channel < channels; ++channel) first[channel] = second[channel] = A(0);
  const int period = period_of<A>(channels);
  int phase = 0, channel = 0;
  for (int64_t i = 0; i < size; ++i) {
    pair.template operator()<A>(i, phase, first[channel], second[channel]);
    if (++phase == period) phase = 0;
    if (++channel == channels) channel = 0;
  }
}

// Pixels of `from_channels` to pixels of `to_channels`: more channels are filled with zeros, fewer are cut off.
template <class A>
inline void change_channels(const A* from, int from_channels, A* to, int to_channels, int64_t pixels) {
  const int shared = from_channels < to_channels ? from_channels : to_channels;
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    memcpy(to + pixel * to_channels, from + pixel * from_channels, shared * sizeof(A));
    for (int channel = shared; channel < to_channels; ++channel) to[pixel * to_channels + channel] = A(0);
  }
}

}  // namespace enas::ENAS_LEVEL
