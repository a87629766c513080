// An edge of a mixed cell as the kernels see it: each convolution a cell of one edge, whose batch norms and tensors are
// pieces of the mixed cell's; the factorised reduction likewise; and the terms of the weighted sum.
#pragma once
#include "mixed.cuh"
#include "passes.h"

namespace enas {

template <class S>
struct MixedEdges {
  using A = Arithmetic<S>;

  const MixedCell& cell;
  MixedSlots slots;
  const Tensor &input0, &input1, &mixing;
  const std::vector<Tensor>& weights;
  const A* given;     // [M][E * N][2][C], or null
  S* kept;            // [M][slots][B][H'][W'][C]
  A *used, *affine;   // [M][E * N][2][C]
  S* pooled;          // [pools][M][B][H'][W'][C] of the edge at hand

  int norms() const { return int(cell.edges.size()) * cell.norms; }
  int children() const { return int(cell.children); }
  Plane plane(int slot) const {
    return slot < 2 ? Plane{cell.height, cell.width} : Plane{cell.out_height(), cell.out_width()};
  }
  int64_t node_size() const { return cell.batch * cell.out(); }  // numbers of a child
  int64_t slot_size(int slot) const { return cell.batch * cell.size(slot); }
  int64_t kept_step() const { return slots.count() * node_size(); }
  S* tensor(int slot) const { return kept + slot * node_size(); }

  mixed::Sizes sizes(int edge) const {
    return {children(), int(cell.batch), cell.channels, norms(), plane(cell.edges[edge].source), plane(2)};
  }
  const Tensor& input(int slot) const { return slot ? input1 : input0; }
  bool shared(int slot) const { return input(slot).size(0) == 1; }
  const S* source(int edge) const {
    const int slot = cell.edges[edge].source;
    return slot < 2 ? pointer<S>(input(slot)) : tensor(slots.node(slot - 2));
  }
  int64_t step(int edge) const {
    const int slot = cell.edges[edge].source;
    return slot >= 2 ? kept_step() : shared(slot) ? 0 : slot_size(slot);
  }
  int norm(int edge, const Candidate& one) const { return edge * cell.norms + one.norm; }
  bool reduces(int edge) const { return cell.reduction(cell.edges[edge]) >= 0; }
  bool normed(int edge, const Candidate& one) const {
    return one.operation == IDENTITY ? reduces(edge) : one.operation != ZERO;
  }
  int pools() const {
    int count = 0;
    for (const Candidate& one : cell.candidates) count += one.pool();
    return count;
  }
  A* gain(const std::vector<Tensor>& tables, int norm) const {
    return pointer<A>(tables[cell.gain]) + int64_t(norm) * cell.channels;
  }
  A* bias(const std::vector<Tensor>& tables, int norm) const {
    return pointer<A>(tables[cell.bias]) + int64_t(norm) * cell.channels;
  }
  // Rows of an edge in `tables`, which are weights or their gradients.
  A* depthwise(const std::vector<Tensor>& tables, int edge, const Candidate& one) const {
    return pointer<A>(tables[one.table]) + int64_t(edge) * one.halves * one.kernel * one.kernel * cell.channels;
  }
  A* pointwise(const std::vector<Tensor>& tables, int edge, const Candidate& one) const {
    return pointer<A>(tables[one.table + 1]) + int64_t(edge) * one.halves * cell.channels * cell.channels;
  }
  A* reduction(const std::vector<Tensor>& tables, int edge) const {
    const int64_t row = cell.reduction(cell.edges[edge]);
    return pointer<A>(tables[cell.identity]) + row * cell.channels * cell.channels;
  }

  // The sizes of a cell of one edge.
  Cell<S> sized(int edge) const {
    Cell<S> single{};
    single.children = children();
    single.edges = single.sides = 1;
    single.images = int(cell.batch);
    single.channels = single.outputs = cell.channels;
    single.stride = cell.edges[edge].stride;
    single.dilation = 1;
    single.in = plane(cell.edges[edge].source);
    single.out = plane(2);
    single.norms = norms();
    single.places = {1, true};
    single.places_count = slots.count();
    return single;
  }

  // A convolution, or the reduction, as a cell of one edge that reads input 0.
  Cell<S> single(int edge, const Candidate& one) const {
    Cell<S> single = sized(edge);
    single.only = {0, one.halves ? SEPARABLE_3 : IDENTITY, 0};
    single.dilation = one.dilation;
    single.input[0] = source(edge);
    single.input_step[0] = step(edge);
    const int at = norm(edge, one);
    if (one.halves)
      single.separable[0] = {depthwise(weights, edge, one), pointwise(weights, edge, one), gain(weights, at),
                             bias(weights, at), one.kernel};
    else
      single.identity = {reduction(weights, edge), gain(weights, at), bias(weights, at)};
    const int64_t norm_at = int64_t(at) * 2 * cell.channels;
    single.given = given == nullptr ? nullptr : given + norm_at;
    single.used = used + norm_at;
    single.affine = affine + norm_at;
    single.saved = tensor(slots.edge(edge) + (one.halves ? one.first_half : cell.halves));
    single.vector = wide<S>({single.input[0], kept}, {cell.channels});
    return single;
  }

  // What the edge's operations give, pools from `pooled`.
  mixed::Terms<S> terms(int edge) const {
    mixed::Terms<S> terms{};
    terms.mixing = pointer<A>(mixing) + edge * int64_t(cell.candidates.size());
    int pool = 0;
    for (size_t i = 0; i < cell.candidates.size(); ++i) {
      const Candidate& one = cell.candidates[i];
      if (one.operation == ZERO) continue;
      mixed::Term<S>& term = terms.term[terms.count++];
      term = {source(edge), step(edge), -1, int(i)};
      if (!normed(edge, one)) continue;
      term.norm = norm(edge, one) + one.norms - 1;
      term.step = kept_step();
      if (one.halves) term.z = tensor(slots.edge(edge) + one.first_half + one.halves - 1);
      else if (one.operation == IDENTITY) term.z = tensor(slots.edge(edge) + cell.halves);
      else term.z = pooled + pool++ * children() * node_size(), term.step = node_size();
    }
    return terms;
  }

  // Computes the pools of an edge.
  void run_pools(int edge) const {
    int pool = 0;
    for (const Candidate& one : cell.candidates)
      if (one.pool())
        launch(input1, {blocks_of(children() * node_size(), mixed::THREADS), mixed::THREADS}, mixed::compute_pool<S>,
               sizes(edge), source(edge), step(edge), cell.edges[edge].stride, one.operation == MAX_POOL_3,
               pooled + pool++ * children() * node_size());
  }

  // Pixels of a child that one block sums, and how many blocks there are.
  int64_t rows() const {
    constexpr int64_t LEAST = 256, MOST_BLOCKS = 256;
    return std::max(LEAST, (cell.batch * cell.out_pixels() + MOST_BLOCKS - 1) / MOST_BLOCKS);
  }
  int64_t chunks() const { return (cell.batch * cell.out_pixels() + rows() - 1) / rows(); }
};

inline void check_mixed(const MixedCell& cell, const Tensor& input1, const Tensor& mixing,
                        const std::vector<Tensor>& weights) {
  check_weights(input1, {&mixing});
  for (const Tensor& weight : weights) check_weights(input1, {&weight});
  STD_TORCH_CHECK(int(cell.candidates.size()) <= mixed::MOST_TERMS, "an edge has at most ", mixed::MOST_TERMS,
                  " operations");
  STD_TORCH_CHECK(cell.children < 65536, "too many children in one call");
}

}  // namespace enas
