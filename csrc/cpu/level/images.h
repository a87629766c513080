// What joins the images of a batch: sums and moments of each channel, added up in double in the images' order.
#pragma once
#include <algorithm>
#include <vector>

#include "vector.h"

namespace enas::ENAS_LEVEL {

template <class A>
void sum_images(int64_t images, int64_t size, const A* from, double* totals) {
  std::fill_n(totals, size, 0.0);
  for (int64_t image = 0; image < images; ++image, from += size)
    for (int64_t i = 0; i < size; ++i) totals[i] += double(from[i]);
}

// Distances to the first image's mean keep a constant channel at variance 0.
template <class A>
void merge_moments(int64_t images, int64_t pixels, int channels, const A* moments, A* used) {
  std::vector<double> room(4 * channels, 0.0);
  double *first = room.data(), *sum = first + channels, *squares = sum + channels, *within = squares + channels;
  const double count = double(pixels), share = 1.0 / count;
  for (int c = 0; c < channels && images > 0; ++c) first[c] = double(moments[c]) + double(moments[channels + c]) * share;
  for (int64_t image = 0; image < images; ++image) {
    const A *shift = moments + image * 3 * channels, *one = shift + channels, *two = one + channels;
    for (int c = 0; c < channels; ++c) {
      const double mean = double(one[c]) * share, distance = double(shift[c]) + mean - first[c];
      sum[c] += distance;
      squares[c] += distance * distance;
      within[c] += std::max(double(two[c]) - double(one[c]) * mean, 0.0);
    }
  }
  for (int c = 0; c < channels; ++c) {
    const double mean = sum[c] / double(images);
    const double between = std::max(squares[c] - sum[c] * mean, 0.0) * count;
    used[c] = A(first[c] + mean);
    used[channels + c] = A((within[c] + between) / (double(images) * count));
  }
}

}  // namespace enas::ENAS_LEVEL
