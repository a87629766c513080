// A cell on CUDA, a program for each pass. Routes are read by the kernels, so that the steps are the same for all
// routes, and no result waits for the host: a captured graph computes any child. Backward goes from the output to its
// loose ends, then node by node from the last to the first, and at the end to the inputs and the tables of weights.
#include "arguments.h"
#include "passes.h"

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
    Forward<S> program(input0, cell, true);
    for (int node = 0; node < cell.nodes(); ++node) {
      program.add_products(FIRST, node);
      program.add_products(SECOND, node);
      program.add_node(node, nullptr);
    }
    if (stride > 1) program.add_products(LOOSE, 0);
    if (projected) program.add_products(OUTPUT, 0);
    program.add_output(pointer<S>(out));
    program.run();
    if (slots > 0) return std::make_tuple(out, places, used);
    return std::make_tuple(out, empty(input0, {children, 0, images, height, width, channels}), used);
  });
}

// Where `gradients`, one for each tensor of CellWeights, get their numbers: each is written once, whether its row was
// used or not.
template <class A>
WeightTables<A> tables_of(const std::vector<Tensor>& gradients) {
  WeightTables<A> tables{{}, 0, 2};
  const TableKind kinds[] = {DEPTHWISE, POINTWISE, GAIN, BIAS};
  for (size_t i = 0; i < gradients.size(); ++i) {
    const TableOwner owner = i < 8 ? TableOwner(i / 4) : TableOwner(OF_IDENTITY + (i - 8) / 3);
    tables.add(pointer<A>(gradients[i]), gradients[i].numel(), gradients[i].size(0), owner,
               i < 8 ? kinds[i % 4] : kinds[1 + (i - 8) % 3]);
  }
  return tables;
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> cell_backward(
    const Tensor& grad, const Tensor& input0, const Tensor& input1, const Tensor& routes,
    const std::vector<Tensor>& weights, const std::vector<int64_t>& block, const std::vector<int64_t>& loose_row,
    const std::optional<Tensor>& scale, int64_t stride, const Tensor& saved, const Tensor& used, bool given) {
  const CellWeights tables(weights);
  return dispatch(input0, [&]<class S>() {
    using A = Arithmetic<S>;
    CellBackward<S> backward{};
    Cell<S>& cell = backward.cell;
    cell = cell_of<S>(input0, input1, routes, tables, block, loose_row, scale, stride);
    cell.places_count = cell.places.count();
    STD_TORCH_CHECK(saved.is_contiguous() && saved.dim() == 6 && saved.size(1) == cell.places_count,
                    "saved must be what `cell` kept with ", cell.places_count, " slots");
    STD_TORCH_CHECK(grad.is_contiguous() && used.is_contiguous(), "grad and used must be contiguous");
    const int64_t children = cell.children, images = cell.images, channels = cell.channels;
    const int64_t inside = images * cell.in.pixels(), outside = images * cell.out.pixels();
    const auto scratch = [&](int64_t each, int64_t numbers, std::optional<ScalarType> type = {}) {
      return empty(input0, {children, each, numbers, channels}, type);
    };
    const ScalarType wide_type = arithmetic_type(input0);
    Tensor dinput0 = torch::stable::empty_like(input0), dinput1 = torch::stable::empty_like(input1);
    Tensor affine = scratch(cell.norms, 2, wide_type), coefficients = scratch(cell.norms, 3, wide_type);
    Tensor dnorms = scratch(cell.norms, 2, wide_type);
    Tensor slots = scratch(cell.slots(), outside), edges = scratch(cell.edges, inside);
    Tensor loose_inputs = scratch(stride > 1 ? 2 : 0, inside);
    Tensor between = scratch(cell.sides, outside), middle = scratch(cell.sides, outside);
    Tensor dscale = scale.has_value() ? torch::stable::empty_like(*scale) : empty(input0, {0}, wide_type);
    std::vector<Tensor> dweights;
    for (const Tensor& weight : weights) dweights.push_back(torch::stable::empty_like(weight));
    cell.saved = pointer<S>(saved);
    cell.used = pointer<A>(used);
    cell.affine = pointer<A>(affine);
    backward.grad = pointer<S>(grad);
    backward.projected = tables.project[0] != nullptr;
    backward.given = given;
    backward.centred = true;
    backward.slots = pointer<S>(slots);
    backward.loose_inputs = pointer<S>(loose_inputs);
    backward.edges = pointer<S>(edges);
    backward.between = pointer<S>(between);
    backward.depthwise = pointer<S>(middle);
    backward.coefficients = pointer<A>(coefficients);
    backward.dnorms = pointer<A>(dnorms);
    cell.vector = wide<S>({cell.input[0], cell.input[1], cell.saved, backward.grad}, {channels});

    Backward<S> program(input0, backward, scale.has_value() ? pointer<A>(dscale) : nullptr);
    program.add_affine();
    std::vector<Phase> ends;
    if (backward.projected) ends.push_back(OUTPUT);
    if (stride > 1) ends.push_back(LOOSE);
    for (const Phase phase : ends) {
      program.add_gather(phase, 0);
      program.add_products(phase, 0);
      program.add_chunks(phase, 0, 1);
    }
    for (int node = cell.nodes() - 1; node >= 0; --node) {
      program.add_gather(FIRST, node);
      for (const Phase phase : {SECOND, FIRST}) {
        program.add_products(phase, node);
        program.add_depthwise(phase, node);
      }
      program.add_chunks(FIRST, node, 2);
    }
    program.add_inputs(pointer<S>(dinput0), pointer<S>(dinput1));
    program.add_scales();
    program.add_tables(tables_of<A>(dweights));
    program.run();
    return std::make_tuple(dinput0, dinput1, dscale, dweights);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) {
  m.impl("cell", TORCH_BOX(&cell));
  m.impl("cell_backward", TORCH_BOX(&cell_backward));
}
