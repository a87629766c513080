// Augmentation on the CPU: every pixel of the result is looked up, moved, in a table of the 256 values of its channel.
#include "../augment.h"

#include <algorithm>

#include "batch.h"

namespace {
using namespace enas;

// The value of each pixel and channel, [256][channels].
template <class S, class T>
std::vector<S> pixel_values(int channels, const T* mean, const T* std) {
  std::vector<S> values(256 * channels);
  for (int i = 0; i < 256 * channels; ++i)
    values[i] = stored<S>(normalised_pixel<T>(uint8_t(i / channels), mean[i % channels], std[i % channels]));
  return values;
}

template <class S>
Tensor augment_as(const Pictures& pictures, const Tensor& images, const Tensor& indices,
                  const std::optional<Tensor>& shifts, const std::optional<Tensor>& flips,
                  const std::optional<Tensor>& corners, const Tensor& mean, const Tensor& std, ScalarType type) {
  const int height = pictures.height, width = pictures.width, channels = pictures.channels;
  Tensor out = empty(images, {pictures.count, height, width, channels}, type);
  const std::vector<S> values = mean.scalar_type() == ScalarType::Double
                                    ? pixel_values<S>(channels, pointer<double>(mean), pointer<double>(std))
                                    : pixel_values<S>(channels, pointer<float>(mean), pointer<float>(std));
  const int64_t line = int64_t(width) * channels;
  parallel(pictures.count, [&](int64_t number) {
    const Change change(number, pointer<int64_t>(shifts), pointer<bool>(flips), pointer<int64_t>(corners),
                        pictures.cutout);
    const uint8_t* image = pointer<uint8_t>(images) + pointer<int64_t>(indices)[number] * height * line;
    S* to = pointer<S>(out) + number * height * line;
    for (int row = 0; row < height; ++row)
      for (int column = 0; column < width; ++column, to += channels) {
        const int64_t place = change.source(row, column, height, width);
        if (place < 0) {
          std::fill(to, to + channels, S{});
          continue;
        }
        const uint8_t* from = image + place * channels;
        for (int channel = 0; channel < channels; ++channel) to[channel] = values[from[channel] * channels + channel];
      }
  });
  return out;
}

Tensor augment(const Tensor& images, const Tensor& indices, const std::optional<Tensor>& shifts,
               const std::optional<Tensor>& flips, const std::optional<Tensor>& corners, int64_t cutout,
               const Tensor& mean, const Tensor& std, ScalarType type) {
  const Pictures pictures(images, indices, shifts, flips, corners, cutout, mean, std);
  for (int64_t number = 0; number < pictures.count; ++number) {
    const int64_t index = pointer<int64_t>(indices)[number];
    STD_TORCH_CHECK(index >= 0 && index < images.size(0), "an index is outside the images");
  }
  const auto as = [&]<class S>() {
    return augment_as<S>(pictures, images, indices, shifts, flips, corners, mean, std, type);
  };
  switch (type) {
    case ScalarType::Float: return as.template operator()<float>();
    case ScalarType::Double: return as.template operator()<double>();
    case ScalarType::BFloat16: return as.template operator()<BFloat16>();
    default: STD_TORCH_CHECK(false, "images become float32, float64 or bfloat16"); std::abort();
  }
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) { m.impl("augment", TORCH_BOX(&augment)); }
