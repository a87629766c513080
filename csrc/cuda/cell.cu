// A cell on CUDA. Routes are read by the kernels, so that the launches are the same for all routes, and no result waits
// for the host: a captured graph computes any child.
#include "arguments.h"
#include "nodes.h"

namespace {
using namespace enas;

std::tuple<Tensor, Tensor, Tensor> cell(const Tensor& input0, const Tensor& input1, const Tensor& routes,
                                        const std::vector<Tensor>& weights, const std::vector<int64_t>& block,
                                        const std::vector<int64_t>& loose_row, const std::optional<Tensor>& scale,
                                        const std::optional<Tensor>& statistics, int64_t stride, int64_t slots) {
  const CellWeights tables(weights);
  return dispatch(input0, [&]<class S>() {
    using A = Arithmetic<S>;
    Cell<S> cell = cell_of<S>(input0, input1, routes, tables, block, loose_row, scale, stride);
    cell.places.kept = slots > 0;
    cell.places_count = cell.places.count();
    STD_TORCH_CHECK(slots == 0 || slots == cell.places_count, "slots must be 0 or ", cell.places_count);
    const bool projected = tables.project[0] != nullptr;
    const int64_t children = cell.children, images = cell.images, height = cell.out.height, width = cell.out.width;
    const int64_t channels = cell.channels;
    Tensor places = empty(input0, {children, cell.places_count, images, height, width, channels});
    Tensor used = empty(input0, {children, cell.norms, 2, channels}, arithmetic_type(input0));
    Tensor affine = empty(input0, {children, cell.norms, 2, channels}, arithmetic_type(input0));
    Tensor out = empty(input0, {children, images, height, width, projected ? channels : cell.blocks * channels});
    if (statistics.has_value()) {
      STD_TORCH_CHECK(statistics->is_contiguous() && statistics->numel() == used.numel() &&
                          statistics->scalar_type() == arithmetic_type(input0),
                      "statistics must be [M, 2E + 3, 2, C], of the type of weights");
      cell.given = pointer<A>(*statistics);
    }
    cell.saved = pointer<S>(places);
    cell.used = pointer<A>(used);
    cell.affine = pointer<A>(affine);
    cell.vector = wide<S>({cell.input[0], cell.input[1], cell.saved, pointer<S>(out)}, {channels});
    const Work work = make_work(input0, cell);
    run_clear_statistics(input0, cell);
    for (int node = 0; node < cell.nodes(); ++node) {
      run_products(input0, cell, FIRST, node, work);
      run_products(input0, cell, SECOND, node, work);
      run_nodes(input0, cell, node, static_cast<S*>(nullptr));
    }
    if (stride > 1) run_products(input0, cell, LOOSE, 0, work);
    if (projected) run_products(input0, cell, OUTPUT, 0, work);
    run_outputs(input0, cell, pointer<S>(out));
    if (slots > 0) return std::make_tuple(out, places, used);
    return std::make_tuple(out, empty(input0, {children, 0, images, height, width, channels}), used);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) { m.impl("cell", TORCH_BOX(&cell)); }
