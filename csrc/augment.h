// Where each pixel of an augmented image comes from, and what the arguments must be; for the CPU and the CUDA twin.
#pragma once
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <type_traits>

#include "formulas.h"
#include "storage.h"

namespace enas {

// A computed number as it is stored.
template <class S, class T>
ENAS_BOTH inline S stored(T value) {
  if constexpr (std::is_same_v<S, BFloat16>) return BFloat16{to_bfloat16(float(value))};
  else return S(value);
}

// The random change of one image.
struct Change {
  int64_t row_shift = 0, column_shift = 0, top = 0, left = 0, cutout = 0;
  bool flip = false;

  // That of image `number`; none where the pointers are null.
  ENAS_BOTH Change(int64_t number, const int64_t* shifts, const bool* flips, const int64_t* corners, int64_t side) {
    if (shifts == nullptr) return;
    row_shift = shifts[2 * number];
    column_shift = shifts[2 * number + 1];
    flip = flips[number];
    top = corners[2 * number];
    left = corners[2 * number + 1];
    cutout = side;
  }

  // The pixel (row * width + column) of the stored image that comes to (row, column); -1 where that is blank.
  ENAS_BOTH int64_t source(int row, int column, int height, int width) const {
    if (row >= top && row < top + cutout && column >= left && column < left + cutout) return -1;
    const int64_t from_row = row + row_shift, from_column = (flip ? width - 1 - column : column) + column_shift;
    if (from_row < 0 || from_row >= height || from_column < 0 || from_column >= width) return -1;
    return from_row * width + from_column;
  }
};

// Sizes of an augmentation, checked.
struct Pictures {
  int64_t count, cutout;
  int height, width, channels;

  Pictures(const torch::stable::Tensor& images, const torch::stable::Tensor& indices,
           const std::optional<torch::stable::Tensor>& shifts, const std::optional<torch::stable::Tensor>& flips,
           const std::optional<torch::stable::Tensor>& corners, int64_t side, const torch::stable::Tensor& mean,
           const torch::stable::Tensor& std)
      : count(indices.size(0)), cutout(side) {
    using torch::headeronly::ScalarType;
    const auto is = [](const torch::stable::Tensor& tensor, ScalarType type, int64_t dimensions) {
      return tensor.scalar_type() == type && tensor.dim() == dimensions && tensor.is_contiguous();
    };
    const auto is_pair = [&](const torch::stable::Tensor& tensor) {
      return is(tensor, ScalarType::Long, 2) && tensor.size(0) == count && tensor.size(1) == 2;
    };
    STD_TORCH_CHECK(is(images, ScalarType::Byte, 4), "images must be uint8 [S, H, W, C] and contiguous");
    height = int(images.size(1));
    width = int(images.size(2));
    channels = int(images.size(3));
    STD_TORCH_CHECK(is(indices, ScalarType::Long, 1), "indices must be int64 [N]");
    const ScalarType type = mean.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "mean must be float32 or float64");
    STD_TORCH_CHECK(is(mean, type, 1) && mean.size(0) == channels, "mean must be [C]");
    STD_TORCH_CHECK(is(std, type, 1) && std.size(0) == channels, "std must be [C], of the mean's type");
    STD_TORCH_CHECK(shifts.has_value() == flips.has_value() && shifts.has_value() == corners.has_value(),
                    "shifts, flips and corners must be given together");
    if (!shifts.has_value()) return;
    STD_TORCH_CHECK(is_pair(*shifts) && is_pair(*corners), "shifts and corners must be int64 [N, 2]");
    STD_TORCH_CHECK(is(*flips, ScalarType::Bool, 1) && flips->size(0) == count, "flips must be bool [N]");
  }
};

}  // namespace enas
