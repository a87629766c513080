// `null` on the CPU.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

namespace {
using torch::stable::Tensor;

Tensor null(const Tensor& x) { return torch::stable::clone(x); }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) { m.impl("null", TORCH_BOX(&null)); }
