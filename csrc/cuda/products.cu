// Launches of products and their batch norms.
#include "phases.h"

namespace enas {

template <class S>
Work make_work(const Tensor& like, const Cell<S>& cell) {
  const int64_t jobs = int64_t(cell.children) * (cell.sides > 2 ? cell.sides : 2);
  const int64_t most = cell.channels > cell.outputs ? cell.channels : cell.outputs;
  return {empty(like, {jobs * MOST_CHUNKS * 4 * most}, arithmetic_type(like)),
          zeros(like, {jobs * ((most + 3) / 4)}, ScalarType::Int)};
}

template <class S>
void run_products(const Tensor& on, const Cell<S>& cell, Phase phase, int node, const Work& work) {
  using A = Arithmetic<S>;
  choose_width<S>(cell.outputs, [&](auto number) {
    constexpr int N = decltype(number)::value, W = WIDTH<N>;
    const int side = window_side(cell, phase);
    const auto area = [&](int piece) { return std::max(side * side * piece, PIXELS * (W + 1)); };
    const auto bytes = [&](int piece) {
      return shared_bytes<A>(area(piece)) + shared_bytes<A>(piece * PITCH) + shared_bytes<A>(piece * W) +
             shared_bytes<double>(THREADS) + shared_bytes<int>(1);
    };
    ProductPlan plan{Tiling(cell.out, cell.images), choose_piece(bytes), int(blocks_of(cell.outputs, W)), 0};
    plan.area = area(plan.piece);
    launch(on, {dim3(plan.tiling.chunks * plan.output_pieces, jobs_of(cell, phase)), THREADS, bytes(plan.piece)},
           compute_products<S, N>, cell, phase, node, plan, pointer<A>(work.sums), pointer<int>(work.tickets));
  });
}

#define ENAS_INSTANTIATE(S)                              \
  template Work make_work(const Tensor&, const Cell<S>&); \
  template void run_products(const Tensor&, const Cell<S>&, Phase, int, const Work&);
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
