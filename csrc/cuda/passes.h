// The passes of a cell, a doubled separable convolution or a half of one: how their programs are put together.
#pragma once
#include "backward.h"
#include "program.h"

namespace enas {

// Scratch that the steps of a program use one after the other: what its blocks sum, and who of them comes last.
struct Work {
  template <class S>
  Work(const Tensor& like, const Cell<S>& cell) {
    const int64_t jobs = int64_t(cell.children) * std::max(cell.sides, 2);
    const int64_t most = std::max(cell.channels, cell.outputs);
    sums = empty(like, {jobs * MOST_CHUNKS * 4 * most}, arithmetic_type(like));
    tickets = empty(like, {jobs * ((most + 3) / 4)}, ScalarType::Int);
  }
  Tensor sums, tickets;
};

template <class S>
class Forward {
  using A = Arithmetic<S>;

 public:
  // `clears` statistics, or leaves those that it does not compute.
  Forward(const Tensor& on, const Cell<S>& cell, bool clears);
  // The products of `phase` and their batch norms; of a node's edges where they are halves.
  void add_products(Phase phase, int node);
  // A node of all children: to its place, or to `result`.
  void add_node(int node, S* result);
  // The output: the batch norm of the projection, or the loose ends side by side.
  void add_output(S* out);
  void run() const;

 private:
  int parts(int channels) const;

  const Tensor& on_;
  Work work_;
  ForwardArguments<S> arguments_{};
  Program program_;
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
