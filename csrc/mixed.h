// What a mixed cell is made of: its candidate operations, its edges, and where both twins keep what backward needs. All
// of it follows from shapes and codes, nothing from values.
#pragma once
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <vector>

#include "checks.h"
#include "layout.h"

namespace enas {

// An operation that every edge has.
struct Candidate {
  int operation;
  int halves = 0;            // of a convolution: 2 of a separable one, 1 of a dilated one
  int kernel = 3, dilation = 1;
  int norm = 0, norms = 0;   // its first batch norm among those of an edge, and how many it has
  int table = -1;            // a convolution's depthwise weights in `weights`; its pointwise ones follow
  int first_half = 0;        // among the halves of an edge

  bool pool() const { return operation == AVERAGE_POOL_3 || operation == MAX_POOL_3; }
};

struct MixedEdge {
  int node, source, stride;
};

struct MixedCell {
  int64_t children, batch;
  int height, width, channels, stride, nodes = 0;
  std::vector<Candidate> candidates;
  std::vector<MixedEdge> edges;
  int halves = 0, norms = 0;  // of an edge
  bool reduces = false;       // whether edges with a stride have an identity, which is a factorised reduction
  int identity = 0, gain = 0, bias = 0;  // places in `weights`

  using Tensor = torch::stable::Tensor;

  MixedCell(const Tensor& input0, const Tensor& input1, const Tensor& mixing, const std::vector<Tensor>& weights,
            const std::vector<int64_t>& operations, int64_t given_stride)
      : children(input0.size(0) == 1 ? input1.size(0) : input0.size(0)),
        batch(input1.size(1)),
        height(int(input1.size(2))),
        width(int(input1.size(3))),
        channels(int(input1.size(4))),
        stride(int(given_stride)) {
    STD_TORCH_CHECK(input0.dim() == 5 && input1.dim() == 5 && input0.is_contiguous() && input1.is_contiguous(),
                    "inputs must be [M, B, H, W, C] and contiguous");
    STD_TORCH_CHECK(input0.scalar_type() == input1.scalar_type(), "both inputs must have one type");
    for (int axis = 1; axis < 5; ++axis)
      STD_TORCH_CHECK(input0.size(axis) == input1.size(axis), "both inputs must have one size");
    for (const Tensor* input : {&input0, &input1})
      STD_TORCH_CHECK(input->size(0) == children || input->size(0) == 1, "an input has all children, or one for all");
    check_stride(stride);
    STD_TORCH_CHECK(mixing.dim() == 2 && mixing.size(1) == int64_t(operations.size()), "mixing must be [E, O]");
    for (; int64_t(edges.size()) < mixing.size(0); ++nodes)
      for (int source = 0; source < nodes + 2; ++source) edges.push_back({nodes, source, source < 2 ? stride : 1});
    STD_TORCH_CHECK(nodes > 0 && int64_t(edges.size()) == mixing.size(0), "node i must have 2 + i edges");
    int table = 0;
    for (int64_t operation : operations) {
      STD_TORCH_CHECK(operation >= SEPARABLE_3 && operation <= DILATED_5, "an operation code is unknown");
      add(Candidate{int(operation)}, table);
    }
    identity = table;
    gain = table + 1;
    bias = table + 2;
    check(weights);
  }

  int out_height() const { return (height + stride - 1) / stride; }
  int out_width() const { return (width + stride - 1) / stride; }
  int64_t out_pixels() const { return int64_t(out_height()) * out_width(); }
  int64_t in() const { return int64_t(height) * width * channels; }  // numbers of an image of an input, of a node
  int64_t out() const { return out_pixels() * channels; }
  int64_t size(int slot) const { return slot < 2 ? in() : out(); }

  // The row of `identity` that an edge uses, or -1.
  int reduction(const MixedEdge& edge) const { return reduces && edge.source < 2 ? 2 * edge.node + edge.source : -1; }

  // Tensors [B, H', W', C] that are kept: of each edge the outputs of its halves and of its reduction, before their
  // batch norms; then the nodes that other nodes read.
  int edge_slots() const { return halves + (reduces ? 1 : 0); }
  int slot(int edge) const {
    const MixedEdge& own = edges[edge];
    const int reductions = !reduces ? 0 : 2 * own.node + (own.source < 2 ? own.source : 2);
    return edge * halves + reductions;
  }
  int node_slot(int node) const { return int(edges.size()) * halves + (reduces ? 2 * nodes : 0) + node; }
  int slots() const { return node_slot(nodes - 1); }

 private:
  void add(Candidate candidate, int& table) {
    switch (candidate.operation) {
      case SEPARABLE_5: candidate.kernel = 5; [[fallthrough]];
      case SEPARABLE_3: candidate.halves = candidate.norms = 2; break;
      case DILATED_5: candidate.kernel = 5; [[fallthrough]];
      case DILATED_3: candidate.halves = candidate.norms = 1, candidate.dilation = 2; break;
      case IDENTITY:
        candidate.norms = stride > 1 ? 1 : 0;
        STD_TORCH_CHECK(!reduces, "an edge has one identity");
        reduces = stride > 1;
        break;
      case ZERO: break;
      default: candidate.norms = 1;
    }
    candidate.norm = norms;
    candidate.first_half = halves;
    if (candidate.halves) candidate.table = table, table += 2;
    norms += candidate.norms;
    halves += candidate.halves;
    candidates.push_back(candidate);
  }

  void check(const std::vector<Tensor>& weights) const {
    const auto is = [&](int place, std::vector<int64_t> sizes) {
      const Tensor& weight = weights[place];
      bool same = weight.is_contiguous() && weight.dim() == int64_t(sizes.size());
      for (size_t axis = 0; same && axis < sizes.size(); ++axis) same = weight.size(int64_t(axis)) == sizes[axis];
      return same;
    };
    const int64_t rows = int64_t(edges.size());
    STD_TORCH_CHECK(int(weights.size()) == bias + 1, "weights must be the tensors of MixedWeights");
    for (const Candidate& one : candidates) {
      if (one.halves == 0) continue;
      STD_TORCH_CHECK(is(one.table, {rows, one.halves, one.kernel, one.kernel, channels}),
                      "depthwise must be [E, halves, k, k, C]");
      STD_TORCH_CHECK(is(one.table + 1, {rows, one.halves, channels, channels}), "pointwise must be [E, halves, C, C]");
    }
    STD_TORCH_CHECK(is(identity, {reduces ? 2 * nodes : 0, channels, channels}), "identity must be [2 * nodes, C, C]");
    STD_TORCH_CHECK(is(gain, {rows, norms, channels}) && is(bias, {rows, norms, channels}),
                    "gain and bias must be [E, N, C]");
  }
};

// Where the tensors of a child stand. Where nothing is kept, all edges share the room of one, and the nodes follow it.
struct MixedSlots {
  const MixedCell& cell;
  bool keeps;

  int count() const { return keeps ? cell.slots() : node(cell.nodes - 1); }
  int edge(int edge) const { return keeps ? cell.slot(edge) : 0; }
  int node(int node) const { return keeps ? cell.node_slot(node) : cell.edge_slots() + node; }
};

}  // namespace enas
