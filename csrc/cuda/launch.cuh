// What every file of device code starts from: stable tensors, the stream, and the one way to launch a kernel.
#pragma once
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "../formulas.h"
