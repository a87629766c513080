// The launches that a cell, a doubled separable convolution and a half of one are made of.
#pragma once
#include "cell_backward.cuh"
#include "gradients.cuh"

namespace enas {

// Scratch of the launches of one call; they use it one after the other.
struct Work {
  Tensor sums, tickets;
};
template <class S>
Work make_work(const Tensor& like, const Cell<S>& cell);

// The products of `phase` and their batch norms; of a node's edges where they are halves.
template <class S>
void run_products(const Tensor& on, const Cell<S>& cell, Phase phase, int node, const Work& work);

// Scratch for the gradients of weights, and what holds it.
template <class S>
struct WeightWork {
  WeightSums<Arithmetic<S>> sums;
  std::vector<Tensor> memory;
};
template <class S>
WeightWork<S> make_weight_work(const Tensor& like, const CellBackward<S>& backward);

// From the gradient of a product's batch norm to that of what was multiplied.
template <class S>
void run_product_gradients(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node,
                           const WeightWork<S>& weights);
// From there to the gradient of the source, through the depthwise convolution.
template <class S>
void run_depthwise_gradients(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node,
                             const WeightWork<S>& weights, const Work& work);
// Sums the chunks of `phase` (FIRST: of both halves, where there are `halves`).
template <class S>
void sum_weight_chunks(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node, int halves,
                       const WeightWork<S>& weights);
// Writes the gradients of all tables.
template <class S>
void sum_weight_tables(const Tensor& on, const CellBackward<S>& backward, const WeightWork<S>& weights,
                       const WeightTables<Arithmetic<S>>& tables);

// One more table that gets a gradient, of `rows` rows.
template <class A>
void add_table(WeightTables<A>& tables, const Tensor& to, int64_t rows, TableOwner owner, TableKind kind) {
  if (to.numel() == 0) return;
  const int64_t begin = tables.count == 0 ? 0 : tables.table[tables.count - 1].end;
  tables.table[tables.count++] = {pointer<A>(to), begin, begin + to.numel(), int(to.numel() / rows), owner, kind};
}

// The number of products of a phase in one launch.
template <class S>
int jobs_of(const Cell<S>& cell, Phase phase) {
  if (phase == LOOSE) return cell.children * 2;
  return phase == OUTPUT ? cell.children : cell.children * cell.sides;
}

// Calls f(integral constant N) for the outputs of a block, WIDTH<N>: the fewest that hold them all, or 80. double
// has 40.
template <class S, class F>
void choose_width(int outputs, F f) {
  if constexpr (std::is_same_v<S, double>) f(std::integral_constant<int, 4>());
  else if (outputs <= WIDTH<2>) f(std::integral_constant<int, 2>());
  else if (outputs <= WIDTH<4>) f(std::integral_constant<int, 4>());
  else f(std::integral_constant<int, 8>());
}

constexpr size_t MOST_SHARED = 64 * 1024;  // of a block, so that several are on a multiprocessor at once

// The largest piece of channels whose shared memory bytes(piece) stays within bounds.
template <class F>
int choose_piece(F bytes) {
  for (int piece : {PIECE, 12, 8})
    if (bytes(piece) <= MOST_SHARED) return piece;
  return 4;
}

// The largest kernel that a phase may meet, and the numbers of its window; 1 without a depthwise convolution.
template <class S>
int window_side(const Cell<S>& cell, Phase phase) {
  if (phase != FIRST && phase != SECOND) return 0;
  const int kernel =
      cell.separable[0].kernel > cell.separable[1].kernel ? cell.separable[0].kernel : cell.separable[1].kernel;
  return phase == FIRST ? extent(kernel, cell.stride, cell.dilation) : extent(kernel, 1, 1);
}

}  // namespace enas
