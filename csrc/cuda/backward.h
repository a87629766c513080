// The kernel of the program of a cell, a doubled separable convolution or a half of one backward: what it is told, and
// its steps.
#pragma once
#include "cell_backward.h"
#include "forward.h"
#include "weight_sums.h"

namespace enas {

struct BackwardStep {
  enum Kind : uint8_t { CLEAR, AFFINE, GATHER, PRODUCTS, CONVOLUTIONS, CHUNKS, INPUTS, SCALES, TABLES };
};

// Gradients of the cell's inputs, which are summed over the children that share one.
template <class S>
struct InputGradients {
  S* to[2];
};

// dscale [M][E][1 or B], each the sum of `each` parts.
template <class A>
struct ScaleSums {
  A* to;
  int64_t numbers;
  int each;
};

template <class S>
struct BackwardArguments {
  using A = Arithmetic<S>;
  CellBackward<S> backward;
  ProductPlan products[4];     // of each phase
  DepthwisePlan depthwise[2];  // of each half
  GatherPlan gather;
  Cleared<A> cleared;
  A* sums;
  WeightSums<A> weights;
  WeightTables<A> tables;
  InputGradients<S> inputs;
  int input_parts;
  ScaleSums<A> scales;
};

template <class S>
auto backward_kernel() -> void (*)(BackwardArguments<S>, Steps);

}  // namespace enas
