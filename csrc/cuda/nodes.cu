// Launches of nodes and outputs.
#include "nodes.cuh"
#include "nodes.h"

namespace enas {
namespace {

// Parts of an image, so that a thread has about eight accesses.
template <class S>
int parts_of(const Cell<S>& cell, int channels) {
  return int(std::max<int64_t>(1, blocks_of(cell.out.pixels() * channels / (cell.vector ? WIDE : 1), 8 * THREADS)));
}

}  // namespace

template <class S>
void run_nodes(const Tensor& on, const Cell<S>& cell, int node, S* result) {
  const int parts = parts_of(cell, cell.channels);
  launch(on, {dim3(cell.images * parts, cell.children), THREADS}, sum_nodes<S>, cell, node, parts, result);
}

template <class S>
void run_outputs(const Tensor& on, const Cell<S>& cell, S* out) {
  const int parts = parts_of(cell, cell.project.weight != nullptr ? cell.channels : cell.blocks * cell.channels);
  launch(on, {dim3(cell.images * parts, cell.children), THREADS}, write_outputs<S>, cell, parts, out);
}

template <class S>
void run_clear_statistics(const Tensor& on, const Cell<S>& cell) {
  const int64_t numbers = int64_t(cell.children) * cell.norms * 2 * cell.outputs;
  launch(on, {blocks_of(numbers, THREADS), THREADS}, clear_statistics<Arithmetic<S>>, cell.used, numbers, cell.outputs);
}

template <class S>
void run_restore_affine(const Tensor& on, const Cell<S>& cell) {
  launch(on, {dim3(blocks_of(int64_t(cell.norms) * cell.outputs, THREADS), cell.children), THREADS}, restore_affine<S>,
         cell);
}

#define ENAS_INSTANTIATE(S)                                          \
  template void run_nodes(const Tensor&, const Cell<S>&, int, S*);   \
  template void run_outputs(const Tensor&, const Cell<S>&, S*);      \
  template void run_clear_statistics(const Tensor&, const Cell<S>&); \
  template void run_restore_affine(const Tensor&, const Cell<S>&);
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
