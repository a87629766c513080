// The program of a cell, a doubled separable convolution or a half of one backward.
#pragma once
#include "cell_backward.h"
#include "forward.h"
#include "weight_sums.h"

namespace enas {

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
class Backward {
  using A = Arithmetic<S>;

 public:
  // dscale is not computed where it is null.
  Backward(const Tensor& on, const CellBackward<S>& backward, A* dscale);
  // The affine maps of the batch norms that were used, from their statistics.
  void add_affine();
  // The gradient of a node (FIRST) with the sums that its edges' batch norms need, or the sums of LOOSE or OUTPUT.
  void add_gather(Phase phase, int node);
  // From the gradient of a product's batch norm to that of what was multiplied, and to that of the weights.
  void add_products(Phase phase, int node);
  // From there to the gradient of the source, through the depthwise convolution.
  void add_depthwise(Phase phase, int node);
  // Sums the chunks of `phase` (FIRST: of both halves, where there are `halves`).
  void add_chunks(Phase phase, int node, int halves);
  // The gradients of both inputs.
  void add_inputs(S* dinput0, S* dinput1);
  // dscale from the parts that the nodes left.
  void add_scales();
  // The gradients of weights.
  void add_tables(const WeightTables<A>& tables);
  void run() const;

 private:
  A* take(int64_t numbers);
  void take_weights();

  const Tensor& on_;
  Work work_;
  std::vector<Tensor> memory_;
  BackwardArguments<S> arguments_{};
  Program program_;
};

}  // namespace enas
