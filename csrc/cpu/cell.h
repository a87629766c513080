// What both passes of a cell on the CPU know: its sizes, its routes, and its weights in the order that the loops read.
#pragma once
#include <array>
#include <map>

#include "../checks.h"
#include "batch.h"

namespace enas {

// The tensors of CellWeights, as `weights` lists them.
struct Tables {
  static int separable(int operation) { return operation == SEPARABLE_3 ? 0 : 4; }
  static constexpr int IDENTITY = 8, LOOSE = 11, PROJECT = 14, ALL = 17;
};

// What an operation was called with.
struct CellCall {
  const Tensor &input0, &input1, &routes;
  const std::vector<Tensor>& weights;
  const std::vector<int64_t>&block, &loose_row;
  const std::optional<Tensor>& scale;
  int64_t stride;
};

// One child's cell: its edges, the slots that some edge reads, and the tensors [B, H', W', C] that are kept of it: only
// those that it has. Without `keep` the outputs before batch norm share four tensors, since each node is done with them.
struct ChildPlan {
  std::vector<Route> routes;
  std::vector<bool> read;                // of each slot
  std::vector<std::array<int, 2>> edge;  // the tensors of its halves
  std::vector<int> node;
  int loose[2] = {-1, -1}, output = -1, count = 0;

  ChildPlan(const int32_t* given, int edges, int stride, bool keep)
      : routes(edges), read(edges / 2 + 2, false), edge(edges, {-1, -1}), node(edges / 2) {
    if (!keep) count = 4;
    for (int e = 0; e < edges; ++e) {
      Route& route = routes[e];
      route = {given[3 * e], given[3 * e + 1], given[3 * e + 2]};
      STD_TORCH_CHECK(route.source >= 0 && route.source < 2 + e / 2, "an edge reads a node that is not before it");
      STD_TORCH_CHECK(route.operation >= 0 && route.operation <= ZERO, "the operation code of an edge is unknown");
      read[route.source] = true;
      const int tensors = route.separable() ? 2 : route.strided_identity(stride) ? 1 : 0;
      for (int half = 0; half < tensors; ++half) edge[e][half] = keep ? count++ : 2 * (e & 1) + half;
      if (e & 1) node[e / 2] = count++;
    }
    for (int slot = 0; slot < 2; ++slot)
      if (!read[slot] && stride > 1) loose[slot] = count++;
    output = count++;
  }
};

template <class S>
struct Cell {
  using A = Arithmetic<S>;

  // One set of weights that some child uses: a half of a separable convolution, or a product of pixels.
  struct Weight {
    bool is_half;
    Half half;
    Linear linear;
    int table;
    int64_t row;
    std::unique_ptr<A[]> prepared;
  };
  // Gain (and in the next table bias) of a batch norm.
  struct NormPlace {
    int table;
    int64_t offset;
  };

  CellCall call;
  int64_t children, batch;
  int edges, nodes, channels, stride, height, width, out_height, out_width;
  int64_t in, out;  // numbers of an image of an input, of a node
  bool projects;
  Norms norms;
  std::vector<ChildPlan> plans;
  std::vector<Weight> weights;
  std::vector<std::array<int, 2>> edge_weights;  // [children * edges] of each half
  int loose_weights[2] = {-1, -1};
  std::vector<int> project_weights;  // of each slot

  Cell(const CellCall& given, bool keep, Pass pass) : call(given) {
    for (const Tensor* input : {&call.input0, &call.input1}) check_images(*input);
    STD_TORCH_CHECK(call.routes.dim() == 3 && call.routes.size(2) == 3 && call.routes.is_contiguous() &&
                        call.routes.scalar_type() == ScalarType::Int,
                    "routes must be int32 [M, E, 3]");
    const Tensor& x = call.input1;
    children = call.routes.size(0);
    edges = int(call.routes.size(1));
    STD_TORCH_CHECK(edges % 2 == 0 && edges > 0, "a node has two edges");
    for (int axis = 1; axis < 5; ++axis)
      STD_TORCH_CHECK(call.input0.size(axis) == x.size(axis), "both inputs must have one size");
    for (const Tensor* input : {&call.input0, &call.input1})
      STD_TORCH_CHECK(input->size(0) == children || input->size(0) == 1, "an input has M = 1 or that of routes");
    STD_TORCH_CHECK(call.input0.scalar_type() == x.scalar_type(), "both inputs must have one type");
    check_stride(call.stride);
    nodes = edges / 2;
    batch = x.size(1);
    height = int(x.size(2));
    width = int(x.size(3));
    channels = int(x.size(4));
    stride = int(call.stride);
    out_height = (height + stride - 1) / stride;
    out_width = (width + stride - 1) / stride;
    in = int64_t(height) * width * channels;
    out = pixels() * channels;
    norms = {edges};
    STD_TORCH_CHECK(call.weights.size() == Tables::ALL || call.weights.size() == Tables::PROJECT,
                    "weights must be the tensors of CellWeights");
    projects = call.weights.size() == Tables::ALL;
    for (const Tensor& weight : call.weights) check_weights(x, {&weight});
    if (projects) STD_TORCH_CHECK(call.weights[Tables::PROJECT].size(2) == channels, "project must be [S, C, C]");
    STD_TORCH_CHECK(int(call.block.size()) == nodes + 2 && call.loose_row.size() == 2,
                    "block has an entry a slot, loose_row one an input");
    if (call.scale.has_value()) {
      check_weights(x, {&*call.scale});
      STD_TORCH_CHECK(call.scale->size(0) == children && call.scale->size(1) == edges &&
                          (call.scale->dim() == 2 || (call.scale->dim() == 3 && call.scale->size(2) == batch)),
                      "scale must be [M, E] or [M, E, B]");
    }
    const int32_t* routes = pointer<int32_t>(call.routes);
    for (int64_t child = 0; child < children; ++child) plans.emplace_back(routes + child * edges * 3, edges, stride, keep);
    collect_weights();
    parallel(int64_t(weights.size()), [&](int64_t i) { prepare(weights[i], pass); });
  }

  int64_t pixels() const { return int64_t(out_height) * out_width; }
  int blocks() const { return 1 + int(*std::max_element(call.block.begin(), call.block.end())); }
  int out_channels() const { return projects ? channels : blocks() * channels; }
  bool shared(int slot) const { return children > 1 && (slot ? call.input1 : call.input0).size(0) == 1; }
  int stride_of(const Route& route) const { return route.stride(stride); }

  // How many children are worked on together: a fixed number for a shape, so that their tensors stay near.
  int64_t group(int64_t tensors) const {
    constexpr int64_t NEAR = int64_t(1) << 20;  // bytes
    return std::max<int64_t>(1, NEAR / std::max<int64_t>(1, tensors * batch * out * int64_t(sizeof(S))));
  }

  const S* input(int slot, int64_t child, int64_t image) const {
    const Tensor& x = slot ? call.input1 : call.input0;
    return pointer<S>(x) + ((shared(slot) ? 0 : child) * batch + image) * in;
  }
  A scale(int64_t child, int edge, int64_t image) const {
    if (!call.scale.has_value()) return A(1);
    const int64_t place = child * edges + edge;
    return pointer<A>(*call.scale)[call.scale->dim() == 2 ? place : place * batch + image];
  }
  Pool pool(const Route& route) const {
    const bool from_input = route.source < 2;
    return {from_input ? height : out_height, from_input ? width : out_width, channels, stride_of(route),
            route.operation == MAX_POOL_3};
  }
  // Loose ends that the output has a place for.
  bool ends(const ChildPlan& plan, int slot) const { return !plan.read[slot] && call.block[slot] >= 0; }
  bool reduced_end(const ChildPlan& plan, int slot) const { return slot < 2 && stride > 1 && ends(plan, slot); }

  NormPlace norm_place(const ChildPlan& plan, int norm) const {
    if (norm == norms.output()) return {Tables::PROJECT + 1, 0};
    if (norm >= norms.loose(0)) return {Tables::LOOSE + 1, call.loose_row[norm - norms.loose(0)] * channels};
    const Route& route = plan.routes[norm / 2];
    if (route.separable()) return {Tables::separable(route.operation) + 2, (route.row * 2 + norm % 2) * int64_t(channels)};
    return {Tables::IDENTITY + 1, route.row * int64_t(channels)};
  }
  const A* gain(const NormPlace& place) const { return pointer<A>(call.weights[place.table]) + place.offset; }
  const A* bias(const NormPlace& place) const { return pointer<A>(call.weights[place.table + 1]) + place.offset; }

  const Weight& weight(int64_t child, int edge, int half) const { return weights[edge_weights[child * edges + edge][half]]; }

  int64_t gradients(const Weight& weight) const {
    return weight.is_half ? level<S>().half_gradients(weight.half) : level<S>().linear_gradients(weight.linear);
  }
  void add_gradients(const Weight& weight, const A* gradients, std::vector<Tensor>& tables) const {
    A* first = row(tables[weight.table], weight.row);
    if (weight.is_half) level<S>().half_add_gradients(weight.half, gradients, first, row(tables[weight.table + 1], weight.row));
    else level<S>().linear_add_gradients(weight.linear, gradients, first);
  }

  // Scratch of one thread that does any of the work on one image, beside `wide` images in arithmetic type.
  int64_t scratch(int wide) const {
    int64_t most = level<S>().channel_scratch(channels);
    for (const bool from_input : {false, true})
      most = std::max(most, level<S>().pool_scratch(pool({from_input ? 0 : 2, MAX_POOL_3, 0})));
    for (const Weight& weight : weights)
      most = std::max(most, weight.is_half ? level<S>().half_scratch(weight.half) : level<S>().linear_scratch(weight.linear));
    return most + wide * wide_image() + level<S>().channel_scratch(channels);
  }
  int64_t wide_image() const { return (std::max(in, out) + 15) / 16 * 16; }

 private:
  // Row `row` of a table; of a separable table's, each half is one.
  A* row(const Tensor& table, int64_t row) const {
    int64_t size = 1;
    for (int64_t axis = table.dim() > 3 ? 2 : 1; axis < table.dim(); ++axis) size *= table.size(axis);
    return pointer<A>(table) + row * size;
  }

  void collect_weights() {
    std::map<std::array<int64_t, 3>, int> known;
    const auto add = [&](int table, int64_t rows, int64_t row, bool is_half, const Half& half, const Linear& linear) {
      STD_TORCH_CHECK(row >= 0 && row < rows, "a weight row is outside its table");
      const auto [place, fresh] = known.try_emplace({table, row, is_half ? half.stride : 1}, int(weights.size()));
      if (fresh) weights.push_back({is_half, half, linear, table, row, {}});
      return place->second;
    };
    const Linear reduction{height, width, channels, channels, true};
    edge_weights.assign(children * edges, {-1, -1});
    for (int64_t child = 0; child < children; ++child)
      for (int e = 0; e < edges; ++e) {
        const Route& route = plans[child].routes[e];
        auto& to = edge_weights[child * edges + e];
        if (route.separable()) {
          const int table = Tables::separable(route.operation), kernel = route.kernel(), own = stride_of(route);
          const bool strided = own > 1;
          for (int half = 0; half < 2; ++half) {
            const bool first = half == 0 && strided;
            const Half shape{first ? height : out_height, first ? width : out_width, channels, channels, kernel,
                             first ? own : 1, 1};
            to[half] = add(table, 2 * call.weights[table].size(0), 2 * int64_t(route.row) + half, true, shape, {});
          }
        } else if (route.strided_identity(stride)) {
          to[0] = add(Tables::IDENTITY, call.weights[Tables::IDENTITY].size(0), route.row, false, {}, reduction);
        }
      }
    project_weights.assign(nodes + 2, -1);
    for (int slot = 0; slot < nodes + 2; ++slot) {
      bool used = false;
      for (const ChildPlan& plan : plans) used = used || ends(plan, slot);
      if (!used) continue;
      if (projects)
        project_weights[slot] = add(Tables::PROJECT, call.weights[Tables::PROJECT].size(0), call.block[slot], false, {},
                                    {out_height, out_width, channels, channels, false});
      if (slot < 2 && stride > 1)
        loose_weights[slot] =
            add(Tables::LOOSE, call.weights[Tables::LOOSE].size(0), call.loose_row[slot], false, {}, reduction);
    }
  }

  void prepare(Weight& weight, Pass pass) const {
    const A* first = row(call.weights[weight.table], weight.row);
    if (weight.is_half) {
      weight.prepared.reset(new A[level<S>().half_prepared(weight.half)]);
      level<S>().half_prepare(weight.half, pass, first, row(call.weights[weight.table + 1], weight.row),
                              weight.prepared.get());
    } else {
      weight.prepared.reset(new A[level<S>().linear_prepared(weight.linear)]);
      level<S>().linear_prepare(weight.linear, pass, first, weight.prepared.get());
    }
  }
};

}  // namespace enas
