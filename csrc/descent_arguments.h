// The arguments of a step of gradient descent, and what they must be; for the CPU and the CUDA twin.
#pragma once
#include "descent.h"
#include "tensors.h"

namespace enas {

struct DescentCall {
  const std::vector<Tensor>& weights;
  const Tensor& momenta;
  const std::vector<std::optional<Tensor>>& gradients;
  const std::vector<double>& decays;
  const Tensor& rate;
  double momentum;
  bool nesterov;
  double clip;  // 0 for none

  void check() const {
    STD_TORCH_CHECK(gradients.size() == weights.size() && decays.size() == weights.size(),
                    "every weight needs a gradient, which may be None, and a decay");
    STD_TORCH_CHECK(momenta.dim() == 1, "momenta must be [N]");
    int64_t numbers = 0;
    check_one(momenta, momenta.numel(), "momenta");
    for (size_t i = 0; i < weights.size(); ++i) {
      check_one(weights[i], weights[i].numel(), "weights");
      if (gradients[i].has_value()) check_one(*gradients[i], weights[i].numel(), "gradients");
      numbers += weights[i].numel();
    }
    STD_TORCH_CHECK(numbers == momenta.numel(), "every number of the weights needs one of momenta");
    check_one(rate, 1, "rate");
  }

 private:
  void check_one(const Tensor& tensor, int64_t numbers, const char* name) const {
    STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
    STD_TORCH_CHECK(tensor.scalar_type() == momenta.scalar_type(), name, " must be of the type of momenta");
    STD_TORCH_CHECK(tensor.get_device_index() == momenta.get_device_index(), name, " must be where momenta are");
    STD_TORCH_CHECK(tensor.numel() == numbers, name, " must be of the size of what they belong to");
  }
};

// Calls f.operator()<A>() for the type A of weights.
template <class F>
auto dispatch_weights(const Tensor& weights, F f) {
  switch (weights.scalar_type()) {
    case ScalarType::Float: return f.template operator()<float>();
#if !defined(ENAS_CUDA)
    case ScalarType::Double: return f.template operator()<double>();
#endif
    default: STD_TORCH_CHECK(false, "weights must be float32, or on the CPU float64"); std::abort();
  }
}

}  // namespace enas
