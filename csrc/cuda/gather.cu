// Launches that gather gradients.
#include "gather.cuh"
#include "gather.h"

namespace enas {
namespace {

template <class S>
GatherPlan plan_of(const Cell<S>& cell) {
  GatherPlan plan{};
  const int64_t size = cell.out.pixels() * cell.channels / (cell.vector ? WIDE : 1);
  plan.slabs = int(blocks_of(cell.channels, SLAB));
  plan.images = int(blocks_of(cell.images, MOST_CHUNKS));
  plan.parts =
      int(std::clamp<int64_t>(MOST_CHUNKS / std::max(cell.images, 1), 1, std::max(1u, blocks_of(size, 4 * THREADS))));
  plan.chunks = int(blocks_of(cell.images, std::max(plan.images, 1))) * plan.parts;
  return plan;
}

}  // namespace

template <class S>
void run_gather(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node, const Work& work) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const GatherPlan plan = plan_of(cell);
  const size_t shared = shared_bytes<double>(THREADS) + shared_bytes<A>(THREADS * WIDE) + shared_bytes<int>(1);
  const int jobs = phase == LOOSE ? cell.children * 2 : cell.children;
  launch(on, {dim3(plan.chunks * plan.slabs, jobs), THREADS, shared}, gather_gradients<S>, backward, phase, node, plan,
         pointer<A>(work.sums), pointer<int>(work.tickets));
}

template <class S>
void run_gather_inputs(const Tensor& on, const CellBackward<S>& backward, S* dinput0, S* dinput1) {
  const Cell<S>& cell = backward.cell;
  const int64_t size = cell.in.pixels() * cell.channels / (cell.vector ? WIDE : 1);
  const int parts = int(std::max(1u, blocks_of(size, 8 * THREADS)));
  // A shared input has a gradient without children too: zero.
  launch(on, {dim3(cell.images * parts, std::max(cell.children, 1), 2), THREADS, shared_bytes<uint64_t>(cell.children)},
         gather_inputs<S>, backward, InputGradients<S>{{dinput0, dinput1}}, parts);
}

template <class S>
void run_sum_scales(const Tensor& on, const CellBackward<S>& backward, Arithmetic<S>* dscale) {
  const Cell<S>& cell = backward.cell;
  const int64_t numbers = int64_t(cell.children) * cell.edges * cell.scale_images;
  const int each = scale_parts(cell) * (cell.scale_images == 1 ? cell.images : 1);
  launch(on, {blocks_of(numbers, THREADS), THREADS}, sum_scales<Arithmetic<S>>, backward.dscale, dscale, numbers, each);
}

template <class S>
int scale_parts(const Cell<S>& cell) {
  const GatherPlan plan = plan_of(cell);
  return plan.parts * plan.slabs;
}

#define ENAS_INSTANTIATE(S)                                                                 \
  template void run_gather(const Tensor&, const CellBackward<S>&, Phase, int, const Work&); \
  template void run_gather_inputs(const Tensor&, const CellBackward<S>&, S*, S*);           \
  template void run_sum_scales(const Tensor&, const CellBackward<S>&, Arithmetic<S>*);      \
  template int scale_parts(const Cell<S>&);
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
