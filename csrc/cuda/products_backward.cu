// Launches of the backward of products.
#include "phases.h"

namespace enas {
namespace {

// The gradient of the weights is written once a chunk: fewer chunks where the weights are large beside a tile.
template <class S>
Tiling gradient_tiling(const Cell<S>& cell) {
  const int64_t numbers = int64_t(cell.channels) * cell.outputs;
  return Tiling(cell.out, cell.images, std::clamp<int64_t>((1 << 19) / numbers, 16, MOST_CHUNKS));
}

}  // namespace

template <class S>
WeightWork<S> make_weight_work(const Tensor& like, const CellBackward<S>& backward) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int kernel = std::max(cell.separable[0].kernel, cell.separable[1].kernel);
  const int64_t taps = int64_t(kernel) * kernel * cell.channels, product = int64_t(cell.channels) * cell.outputs;
  const int64_t chunks = gradient_tiling(cell).chunks, tiles = Tiling(cell.in, cell.images).tiles;
  const int64_t depthwise_chunks = tiles < MOST_CHUNKS ? tiles : MOST_CHUNKS, children = cell.children;
  const int64_t jobs = children * std::max(cell.sides, backward.projected ? cell.slots() : 2),
                edges = children * cell.edges;
  WeightWork<S> work{};
  const auto take = [&](int64_t numbers) {
    work.memory.push_back(empty(like, {numbers}, arithmetic_type(like)));
    return pointer<A>(work.memory.back());
  };
  for (int half = 0; half < 2; ++half) {
    work.sums.product_chunks[half] = take((half == 0 ? jobs : children * cell.sides) * chunks * product);
    work.sums.depthwise_chunks[half] = take(children * cell.sides * depthwise_chunks * taps);
  }
  work.sums.product = take(edges * 2 * product);
  work.sums.depthwise = take(edges * 2 * taps);
  work.sums.loose = take(children * 2 * product);
  work.sums.project = take(backward.projected ? children * cell.slots() * product : 0);
  work.sums.taps = kernel * kernel;
  return work;
}

template <class S>
void run_product_gradients(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node,
                           const WeightWork<S>& weights) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  choose_width<S>(cell.outputs, [&](auto number) {
    constexpr int N = decltype(number)::value, W = WIDTH<N>;
    const int side = window_side(cell, phase);
    const auto bytes = [&](int piece) {
      return shared_bytes<A>(side * side * piece) + shared_bytes<A>(std::max(piece * PITCH, PIXELS * (piece + 1))) +
             shared_bytes<A>(W * PIECE) + shared_bytes<A>(W * PITCH);
    };
    ProductPlan plan{gradient_tiling(cell), choose_piece(bytes), 1, 0};
    plan.area = side * side * plan.piece;
    const int jobs = jobs_of(cell, phase) * (phase == OUTPUT ? cell.slots() : 1);
    launch(on, {dim3(plan.tiling.chunks, jobs), THREADS, bytes(plan.piece)}, compute_product_gradients<S, N>, backward,
           phase, node, plan, weights.sums.product_chunks[phase == SECOND]);
  });
}

template <class S>
void sum_weight_chunks(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node, int halves,
                       const WeightWork<S>& weights) {
  const Cell<S>& cell = backward.cell;
  const int64_t numbers = int64_t(cell.channels) * (cell.outputs + (phase == FIRST ? weights.sums.taps : 0));
  const int jobs = jobs_of(cell, phase) * (phase == OUTPUT ? cell.slots() : 1);
  const DepthwisePlan plan{Tiling(cell.in, cell.images), Tiling(cell.out, cell.images), 0, 0, 0};
  launch(on, {dim3(blocks_of(numbers, THREADS), jobs, halves), THREADS}, sum_chunks<S>, backward, phase, node,
         gradient_tiling(cell), plan, weights.sums);
}

template <class S>
void sum_weight_tables(const Tensor& on, const CellBackward<S>& backward, const WeightWork<S>& weights,
                       const WeightTables<Arithmetic<S>>& tables) {
  const int64_t numbers = tables.count == 0 ? 0 : tables.table[tables.count - 1].end;
  launch(on, {blocks_of(numbers, THREADS), THREADS}, sum_tables<S>, backward, weights.sums, tables);
}

#define ENAS_INSTANTIATE(S)                                                                                      \
  template WeightWork<S> make_weight_work(const Tensor&, const CellBackward<S>&);                                \
  template void run_product_gradients(const Tensor&, const CellBackward<S>&, Phase, int, const WeightWork<S>&);  \
  template void sum_weight_chunks(const Tensor&, const CellBackward<S>&, Phase, int, int, const WeightWork<S>&); \
  template void sum_weight_tables(const Tensor&, const CellBackward<S>&, const WeightWork<S>&,                   \
                                  const WeightTables<Arithmetic<S>>&);
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
