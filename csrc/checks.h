// What both twins of an operation ask of its arguments.
#pragma once
#include "tensors.h"

namespace enas {

inline void check_stride(int64_t stride) { STD_TORCH_CHECK(stride == 1 || stride == 2, "stride must be 1 or 2"); }
inline void check_kernel(int64_t kernel) {
  STD_TORCH_CHECK(kernel == 3 || kernel == 5 || kernel == 7, "k must be 3, 5 or 7");
}

// Those of sepconv_half.
inline void check_half(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise,
                       const Tensor& pointwise, int64_t stride, int64_t dilation) {
  check_images(x);
  check_weights(x, {&depthwise, &pointwise});
  if (affine.has_value()) check_weights(x, {&*affine});
  const int64_t kernel = depthwise.size(0), channels = x.size(4);
  STD_TORCH_CHECK(depthwise.dim() == 3 && depthwise.size(1) == kernel && depthwise.size(2) == channels,
                  "depthwise must be [k, k, C]");
  check_kernel(kernel);
  STD_TORCH_CHECK(pointwise.dim() == 2 && pointwise.size(0) == channels, "pointwise must be [C, C']");
  check_stride(stride);
  STD_TORCH_CHECK(dilation == 1 || dilation == 2, "dilation must be 1 or 2");
}

// Those of separable.
inline void check_separable(const Tensor& x, const Tensor& depthwise, const Tensor& pointwise, const Tensor& gain,
                            const Tensor& bias, int64_t stride) {
  check_images(x);
  check_weights(x, {&depthwise, &pointwise, &gain, &bias});
  STD_TORCH_CHECK(depthwise.dim() == 4 && depthwise.size(0) == 2 && depthwise.size(3) == x.size(4),
                  "depthwise must be [2, k, k, C]");
  check_kernel(depthwise.size(1));
  check_stride(stride);
}

}  // namespace enas
