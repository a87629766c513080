// From the arguments of `cell` and `cell_backward` to what the kernels know of them.
#pragma once
#include "../checks.h"
#include "../tensors.h"
#include "cell.h"

namespace enas {

// The tensors of CellWeights, in the order of csrc/ops.cpp.
struct CellWeights {
  explicit CellWeights(const std::vector<Tensor>& all) : all(all) {
    STD_TORCH_CHECK(all.size() == 14 || all.size() == 17, "weights must be those of CellWeights, 14 or 17 tensors");
    for (int code = 0; code < 2; ++code)
      for (int i = 0; i < 4; ++i) separable[code][i] = &all[4 * code + i];
    for (int i = 0; i < 3; ++i) {
      identity[i] = &all[8 + i];
      loose[i] = &all[11 + i];
      project[i] = all.size() == 17 ? &all[14 + i] : nullptr;
    }
  }
  const std::vector<Tensor>& all;
  const Tensor *separable[2][4], *identity[3], *loose[3], *project[3];
};

// Sizes, inputs, weights and routes; where tensors are kept is left to the caller.
template <class S>
Cell<S> cell_of(const Tensor& input0, const Tensor& input1, const Tensor& routes, const CellWeights& weights,
                const std::vector<int64_t>& block, const std::vector<int64_t>& loose_row,
                const std::optional<Tensor>& scale, int64_t stride) {
  using A = Arithmetic<S>;
  STD_TORCH_CHECK(
      routes.dim() == 3 && routes.size(2) == 3 && routes.is_contiguous() && routes.scalar_type() == ScalarType::Int,
      "routes must be int32 [M, E, 3]");
  const int64_t children = routes.size(0), edges = routes.size(1);
  STD_TORCH_CHECK(edges >= 2 && edges % 2 == 0 && edges <= MOST_EDGES, "a cell has 2 to ", MOST_EDGES,
                  " edges, two for each node");
  STD_TORCH_CHECK(children * (2 + edges / 2) < 65536, "too many children in one call");
  check_stride(stride);
  STD_TORCH_CHECK(int64_t(block.size()) == 2 + edges / 2 && loose_row.size() == 2,
                  "block must name every slot, loose_row two");
  Cell<S> cell{};
  const Tensor* inputs[2] = {&input0, &input1};
  for (int slot = 0; slot < 2; ++slot) {
    const Tensor& input = *inputs[slot];
    check_images(input);
    STD_TORCH_CHECK(input.scalar_type() == input0.scalar_type(), "both inputs must have one type");
    STD_TORCH_CHECK(input.size(0) == children || input.size(0) == 1, "inputs must be of M children, or of one for all");
    for (int dimension = 1; dimension < 5; ++dimension)
      STD_TORCH_CHECK(input.size(dimension) == input0.size(dimension), "both inputs must have one size");
  }
  for (const Tensor& weight : weights.all) check_weights(input0, {&weight});
  cell.routes = reinterpret_cast<const Route*>(pointer<int32_t>(routes));
  cell.children = int(children);
  cell.edges = int(edges);
  cell.sides = 2;
  cell.images = int(input0.size(1));
  cell.channels = cell.outputs = int(input0.size(4));
  cell.stride = int(stride);
  cell.dilation = 1;
  cell.in = {int(input0.size(2)), int(input0.size(3))};
  cell.out = {(cell.in.height + cell.stride - 1) / cell.stride, (cell.in.width + cell.stride - 1) / cell.stride};
  for (int slot = 0; slot < 2; ++slot) {
    cell.input[slot] = pointer<S>(*inputs[slot]);
    cell.input_step[slot] = inputs[slot]->size(0) == children ? cell.in_size() : 0;
    cell.loose_row[slot] = int8_t(stride > 1 ? loose_row[slot] : -1);
  }
  for (int code = 0; code < 2; ++code) {
    const auto& rows = weights.separable[code];
    cell.separable[code] = {pointer<A>(*rows[0]), pointer<A>(*rows[1]), pointer<A>(*rows[2]), pointer<A>(*rows[3]),
                            code == 0 ? 3 : 5};
    STD_TORCH_CHECK(rows[0]->dim() == 5 && rows[0]->size(2) == cell.separable[code].kernel &&
                        rows[0]->size(4) == cell.channels && rows[1]->size(-1) == cell.channels,
                    "weights of separable convolutions must be [R, 2, k, k, C] and [R, 2, C, C]");
  }
  const auto linear = [](const Tensor* const* rows) {
    return LinearRows<A>{pointer<A>(*rows[0]), pointer<A>(*rows[1]), pointer<A>(*rows[2])};
  };
  cell.identity = linear(weights.identity);
  cell.loose = linear(weights.loose);
  if (weights.project[0] != nullptr) cell.project = linear(weights.project);
  for (int8_t& owner : cell.owner) owner = -1;
  for (size_t slot = 0; slot < block.size(); ++slot) {
    STD_TORCH_CHECK(block[slot] < MOST_SLOTS, "a slot's block must be under ", MOST_SLOTS);
    cell.block[slot] = int8_t(block[slot]);
    if (block[slot] < 0) continue;
    cell.owner[block[slot]] = int8_t(slot);
    cell.blocks = std::max(cell.blocks, int(block[slot]) + 1);
  }
  if (scale.has_value()) {
    STD_TORCH_CHECK(scale->is_contiguous() && scale->scalar_type() == arithmetic_type(input0) && scale->dim() >= 2 &&
                        scale->size(0) == children && scale->size(1) == edges &&
                        (scale->dim() == 2 || (scale->dim() == 3 && scale->size(2) == cell.images)),
                    "scale must be [M, E] or [M, E, B], of the type of weights");
    cell.scale = pointer<A>(*scale);
    cell.scale_images = scale->dim() == 2 ? 1 : cell.images;
  }
  cell.places = {int(edges), true};
  cell.norms = Norms{int(edges)}.count();
  return cell;
}

}  // namespace enas
