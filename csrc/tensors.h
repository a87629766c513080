// What every operation needs of torch, on the CPU and on CUDA: typed pointers, new tensors, checks.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <initializer_list>
#include <optional>
#include <type_traits>
#include <vector>

#include "storage.h"

namespace enas {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The pointers are cast by hand: the library's own storage types are not torch's.
template <class T>
inline T* pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}
template <class T>
inline T* pointer(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? pointer<T>(*tensor) : nullptr;
}

inline Tensor empty(const Tensor& like, std::initializer_list<int64_t> sizes, std::optional<ScalarType> type = {}) {
  return torch::stable::new_empty(like, {sizes.begin(), sizes.size()}, type);
}
inline Tensor zeros(const Tensor& like, std::initializer_list<int64_t> sizes, std::optional<ScalarType> type = {}) {
  return torch::stable::new_zeros(like, {sizes.begin(), sizes.size()}, type);
}
inline Tensor zeros_like(const Tensor& like) { return torch::stable::new_zeros(like, like.sizes()); }

// The type of weights and statistics beside images of this type.
inline ScalarType arithmetic_type(const Tensor& images) {
  return images.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_images(const Tensor& images) {
  STD_TORCH_CHECK(images.dim() == 5, "images must be [M, B, H, W, C]");
  STD_TORCH_CHECK(images.is_contiguous(), "images must be contiguous");
}
inline void check_weights(const Tensor& images, std::initializer_list<const Tensor*> weights) {
  for (const Tensor* weight : weights) {
    STD_TORCH_CHECK(weight->is_contiguous(), "weights must be contiguous");
    STD_TORCH_CHECK(weight->scalar_type() == arithmetic_type(images),
                    "weights must be float32, or float64 for float64 images");
  }
}

// Where sums that end in `storage` are formed: there, or in `room` where the types differ.
template <class S>
inline Arithmetic<S>* formed_in([[maybe_unused]] S* storage, [[maybe_unused]] Arithmetic<S>* room) {
  if constexpr (std::is_same_v<S, Arithmetic<S>>) return storage;
  else return room;
}

// Calls f.operator()<S>() for the storage type S of `images`.
template <class F>
auto dispatch(const Tensor& images, F f) {
  switch (images.scalar_type()) {
    case ScalarType::Float: return f.template operator()<float>();
#if !defined(ENAS_CUDA)
    case ScalarType::Double: return f.template operator()<double>();
#endif
    case ScalarType::BFloat16: return f.template operator()<BFloat16>();
    default: STD_TORCH_CHECK(false, "images must be float32 or bfloat16, or on the CPU float64"); std::abort();
  }
}

}  // namespace enas
