// Launches of the backward of depthwise convolutions.
#include "phases.h"

namespace enas {

template <class S>
void run_depthwise_gradients(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node,
                             const WeightWork<S>& weights, const Work& work) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int kernel = std::max(cell.separable[0].kernel, cell.separable[1].kernel);
  const int stride = phase == FIRST ? cell.stride : 1;
  // Routes within a strided cell have stride 1 too.
  const int side = std::max(cell.dilation == 1 ? met(kernel, 1, 1) : 0, met(kernel, stride, cell.dilation));
  const auto exchange = [](int piece) { return std::max(7 * SIDE * piece, THREADS); };
  const auto bytes = [&](int piece) {
    return shared_bytes<A>(side * side * piece) + shared_bytes<A>(PIXELS * piece) + shared_bytes<A>(exchange(piece)) +
           shared_bytes<double>(THREADS) + shared_bytes<int>(1);
  };
  DepthwisePlan plan{Tiling(cell.in, cell.images), Tiling(cell.out, cell.images), choose_piece(bytes), 0, 0};
  plan.pieces = int(blocks_of(cell.channels, plan.piece));
  plan.area = side * side * plan.piece;
  launch(on, {dim3(plan.chunks() * plan.pieces, jobs_of(cell, phase)), THREADS, bytes(plan.piece)},
         compute_depthwise_gradients<S>, backward, phase, node, plan, weights.sums.taps,
         weights.sums.depthwise_chunks[phase == SECOND], pointer<A>(work.sums), pointer<int>(work.tickets));
}

#define ENAS_INSTANTIATE(S)                                                                                      \
  template void run_depthwise_gradients(const Tensor&, const CellBackward<S>&, Phase, int, const WeightWork<S>&, \
                                        const Work&);
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
