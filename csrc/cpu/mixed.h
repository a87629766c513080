// One edge of a mixed cell on the CPU, for both passes: its sizes, its weights in the order that the loops read, its
// batch norms, and where the images of its slots are.
#pragma once
#include "../mixed.h"
#include "batch.h"

namespace enas {

inline int64_t rounded(int64_t numbers) { return (numbers + 15) / 16 * 16; }

// The tensors of one call, and where each slot of each image is in them.
template <class S>
struct MixedCall {
  using A = Arithmetic<S>;
  const MixedCell& cell;
  const Tensor &input0, &input1, &mixing;
  const std::vector<Tensor>& weights;
  S* kept;  // [M, slots, B, out]
  A* used;
  MixedSlots slots;

  // Images are counted through all children.
  int64_t images() const { return cell.children * cell.batch; }
  S* tensor(int slot, int64_t image) const {
    return kept + ((image / cell.batch * slots.count() + slot) * cell.batch + image % cell.batch) * cell.out();
  }
  bool shared(int input) const { return (input ? input1 : input0).size(0) == 1; }
  const S* source(int slot, int64_t image) const {
    if (slot >= 2) return tensor(slots.node(slot - 2), image);
    return pointer<S>(slot ? input1 : input0) + (shared(slot) ? image % cell.batch : image) * cell.in();
  }
  A weight(int edge, int candidate) const {
    return pointer<A>(mixing)[edge * cell.candidates.size() + candidate];
  }
};

template <class S>
class MixedEdgeWork {
 public:
  using A = Arithmetic<S>;
  const MixedCall<S>& call;
  const MixedCell& cell;
  const int number;
  const MixedEdge& edge;
  std::vector<Norm<A>> norms;  // [children][norms]

  MixedEdgeWork(const MixedCall<S>& given, int which, Pass pass)
      : call(given),
        cell(given.cell),
        number(which),
        edge(given.cell.edges[which]),
        norms(given.cell.children * given.cell.norms),
        prepared_(given.cell.edge_slots()) {
    for (const Candidate& one : cell.candidates)
      for (int i = 0; i < one.halves; ++i) {
        std::vector<A>& own = prepared_[one.first_half + i];
        own.resize(level<S>().half_prepared(half(one, i)));
        level<S>().half_prepare(half(one, i), pass, depthwise(call.weights, one, i), pointwise(call.weights, one, i),
                                own.data());
      }
    if (!reduces()) return;
    prepared_[cell.halves].resize(level<S>().linear_prepared(reduction()));
    level<S>().linear_prepare(reduction(), pass, reduction_weight(call.weights), prepared_[cell.halves].data());
  }

  Half half(const Candidate& one, int which) const {
    const bool first = which == 0;
    return {first ? in_height() : cell.out_height(),
            first ? in_width() : cell.out_width(),
            cell.channels,
            cell.channels,
            one.kernel,
            first ? edge.stride : 1,
            one.dilation};
  }
  bool reduces() const { return cell.reduction(edge) >= 0; }
  Linear reduction() const { return {in_height(), in_width(), cell.channels, cell.channels, true}; }
  Pool pool(const Candidate& one) const {
    return {in_height(), in_width(), cell.channels, edge.stride, one.operation == MAX_POOL_3};
  }
  const A* prepared(int set) const { return prepared_[set].data(); }
  const A* reduction_prepared() const { return prepared_[cell.halves].data(); }

  // Rows of this edge in the weights, or in their gradients.
  A* depthwise(const std::vector<Tensor>& tables, const Candidate& one, int which) const {
    return pointer<A>(tables[one.table]) +
           (int64_t(number) * one.halves + which) * one.kernel * one.kernel * cell.channels;
  }
  A* pointwise(const std::vector<Tensor>& tables, const Candidate& one, int which) const {
    return pointer<A>(tables[one.table + 1]) + (int64_t(number) * one.halves + which) * cell.channels * cell.channels;
  }
  A* reduction_weight(const std::vector<Tensor>& tables) const {
    return pointer<A>(tables[cell.identity]) + int64_t(cell.reduction(edge)) * cell.channels * cell.channels;
  }
  A* gain(const std::vector<Tensor>& tables, int norm) const { return channels_of(tables[cell.gain], norm); }
  A* bias(const std::vector<Tensor>& tables, int norm) const { return channels_of(tables[cell.bias], norm); }

  const S* source(int64_t image) const { return call.source(edge.source, image); }
  S* z(int set, int64_t image) const { return call.tensor(call.slots.edge(number) + set, image); }
  A* used(int64_t child, int norm) const {
    return call.used + ((child * cell.edges.size() + number) * cell.norms + norm) * 2 * cell.channels;
  }
  Norm<A>& norm(int64_t child, int which) { return norms[child * cell.norms + which]; }
  void set_norm(int64_t child, int which) {
    norm(child, which).set(cell.channels, used(child, which), gain(call.weights, which), bias(call.weights, which));
  }

  // Whether an operation ends in a batch norm on this edge; an identity does where it is a reduction.
  bool normed(const Candidate& one) const {
    return one.operation == IDENTITY ? reduces() : one.operation != ZERO;
  }
  int last_norm(const Candidate& one) const { return one.norm + one.norms - 1; }
  // What the last batch norm of an operation is applied to. Pools are computed again, into `room`, where the scratch
  // behind it is free.
  const S* last(const Candidate& one, int64_t image, A* room) const {
    if (one.halves) return z(one.first_half + one.halves - 1, image);
    if (one.operation == IDENTITY) return z(cell.halves, image);
    return pooled(one, image, room);
  }
  const S* pooled(const Candidate& one, int64_t image, A* room) const {
    level<S>().pool_forward(pool(one), source(image), A(1), room, false, room + pool_room());
    if constexpr (std::is_same_v<S, A>) {
      return room;
    } else {
      S* stored = reinterpret_cast<S*>(room + rounded(cell.out()));
      level<S>().narrow(cell.out(), room, stored);
      return stored;
    }
  }
  int64_t pool_room() const { return 2 * rounded(cell.out()); }

  // Scratch that any of this edge's work takes of one image.
  int64_t scratch() const {
    int64_t most = level<S>().channel_scratch(cell.channels);
    for (const Candidate& one : cell.candidates) {
      if (one.pool()) most = std::max(most, level<S>().pool_scratch(pool(one)));
      for (int i = 0; i < one.halves; ++i) most = std::max(most, level<S>().half_scratch(half(one, i)));
    }
    if (reduces())
      most = std::max(most, level<S>().linear_scratch(reduction()) + level<S>().channel_scratch(cell.channels));
    return most;
  }

 private:
  std::vector<std::vector<A>> prepared_;  // of each half, then of the reduction

  int in_height() const { return edge.source < 2 ? cell.height : cell.out_height(); }
  int in_width() const { return edge.source < 2 ? cell.width : cell.out_width(); }
  A* channels_of(const Tensor& table, int norm) const {
    return pointer<A>(table) + (int64_t(number) * cell.norms + norm) * cell.channels;
  }
};

}  // namespace enas
