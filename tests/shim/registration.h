// Included in front of every file: whatever the library registers goes to the namespace enas_shim, and what is for CUDA
// is called with tensors on the CPU. The library itself may be loaded beside it.
#pragma once
#include <torch/csrc/stable/library.h>

#undef STABLE_TORCH_LIBRARY
#define STABLE_TORCH_LIBRARY(name, m) STABLE_TORCH_LIBRARY_FRAGMENT(enas_shim, m)
#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(name, key, m) _STABLE_TORCH_LIBRARY_IMPL(enas_shim, CPU, m, C10_UID)
