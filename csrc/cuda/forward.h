// The program of a cell, a doubled separable convolution or a half of one forward.
#pragma once
#include "plans.h"
#include "program.h"

namespace enas {

// What the first step of a program clears: tickets, and the statistics [M][N][2][C] of batch norms that are not used,
// which are mean 0 and variance 1.
template <class A>
struct Cleared {
  int64_t tickets_count, used_count;
  int* tickets;
  A* used;
  int channels;
  ENAS_BOTH int64_t numbers() const { return tickets_count > used_count ? tickets_count : used_count; }
};

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
struct ForwardArguments {
  using A = Arithmetic<S>;
  Cell<S> cell;
  ProductPlan products[4];  // of each phase
  Cleared<A> cleared;
  A* moments;
  S *node, *out;
  int node_parts, output_parts;
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

}  // namespace enas
