// What the backward pass of a cell on the CPU holds: the gradients of its slots, the sums of its batch norms, the tables'
// gradients; and the ways it goes over images. Every slot's gradient is written in one order: by the output, then by the
// edges of later nodes.
#pragma once
#include "cell.h"

namespace enas {

template <class S>
class CellGradients {
 protected:
  using A = Arithmetic<S>;
  using Weight = typename Cell<S>::Weight;
  using Weights = std::vector<const Weight*>;  // null where there is none

 public:
  Tensor dinputs[2], dscale;
  std::vector<Tensor> tables;

  CellGradients(const Cell<S>& cell, const Tensor& grad, const Tensor& saved, const Tensor& used, bool given)
      : dscale(empty(used, {0})),
        cell_(cell),
        grad_(grad),
        saved_(saved),
        used_(used),
        given_(given),
        scratch_(cell.scratch(4)),
        norms_(cell.children * cell.norms.count()) {
    for (const Tensor& weight : cell.call.weights) tables.push_back(torch::stable::new_empty(weight, weight.sizes()));
    clear_tables();
    for (int slot = 0; slot < 2; ++slot) {
      const Tensor& input = slot ? cell.call.input1 : cell.call.input0;
      dinputs[slot] = cell.children > 0 ? empty(input, {input.size(0), cell.batch, cell.height, cell.width, cell.channels})
                                        : zeros_like(input);
      if constexpr (!std::is_same_v<S, A>) wide_inputs_[slot].reset(new A[input.size(0) * cell.batch * cell.in]);
    }
    if (cell.call.scale.has_value()) {
      dscale = zeros_like(*cell.call.scale);
      scale_sums_.assign(cell.children * cell.edges * cell.batch, 0.0);
    }
    for (int64_t child = 0; child < cell.children; ++child) prepare(child);
    // Children that share an input add to its gradient in their order.
    size_ = cell.shared(0) || cell.shared(1) ? 1 : std::min(cell.children, cell.group(saved.size(1) + cell.nodes + 2));
    node_gradients_.reset(new A[size_ * cell.nodes * cell.batch * cell.out]);
    between_.reset(new A[size_ * 2 * cell.batch * cell.out]);
    if (cell.stride > 1) loose_gradients_.reset(new A[size_ * 2 * cell.batch * cell.out]);
    sums_.reset(new A[size_ * 2 * cell.batch * 2 * cell.channels]);
  }

 protected:
  const Cell<S>& cell_;
  const Tensor &grad_, &saved_, &used_;
  bool given_;
  int64_t scratch_;
  std::vector<Norm<A>> norms_;
  std::vector<std::vector<bool>> adds_;       // of each child and edge: whether its source has a gradient already
  std::vector<std::vector<bool>> untouched_;  // of each child and slot: nobody writes its gradient
  std::unique_ptr<A[]> wide_inputs_[2], node_gradients_, between_, loose_gradients_;
  std::unique_ptr<A[]> sums_;  // of two batch norms of each child
  std::vector<double> scale_sums_;
  int64_t size_ = 1, begin_ = 0, end_ = 0;  // the children worked on together

  const ChildPlan& plan(int64_t child) const { return cell_.plans[child]; }
  const S* tensor(int64_t child, int place, int64_t image) const {
    return pointer<S>(saved_) + ((child * saved_.size(1) + place) * cell_.batch + image) * cell_.out;
  }
  const S* slot(int64_t child, int slot, int64_t image) const {
    return slot < 2 ? cell_.input(slot, child, image) : tensor(child, plan(child).node[slot - 2], image);
  }
  const A* mean(int64_t child, int number) const {
    return pointer<A>(used_) + (child * cell_.norms.count() + number) * 2 * cell_.channels;
  }
  Norm<A>& norm(int64_t child, int number) { return norms_[child * cell_.norms.count() + number]; }
  A* sums(int64_t child, int place, int64_t image) {
    return sums_.get() + (((child - begin_) * 2 + place) * cell_.batch + image) * 2 * cell_.channels;
  }
  A* gradient(int64_t child, int slot, int64_t image) {
    if (slot >= 2)
      return node_gradients_.get() + (((child - begin_) * cell_.nodes + slot - 2) * cell_.batch + image) * cell_.out;
    A* from = wide_inputs_[slot].get();
    if constexpr (std::is_same_v<S, A>) from = pointer<A>(dinputs[slot]);
    return from + ((cell_.shared(slot) ? 0 : child) * cell_.batch + image) * cell_.in;
  }
  A* beside(const std::unique_ptr<A[]>& pairs, int64_t child, int place, int64_t image) const {
    return pairs.get() + (((child - begin_) * 2 + place) * cell_.batch + image) * cell_.out;
  }

  // All rows of the tables, of which the children use a few: with small images this is as much memory as their work.
  void clear_tables() {
    constexpr int64_t PIECE = 32768;
    struct Stretch {
      A* begin;
      int64_t size;
    };
    std::vector<Stretch> stretches;
    for (const Tensor& table : tables)
      for (int64_t begin = 0, size = table.numel(); begin < size; begin += PIECE)
        stretches.push_back({pointer<A>(table) + begin, std::min(PIECE, size - begin)});
    parallel(int64_t(stretches.size()),
             [&](int64_t i) { std::memset(stretches[i].begin, 0, stretches[i].size * sizeof(A)); });
  }

  // Sets the forward part of all batch norms, and finds out who writes each slot's gradient first.
  void prepare(int64_t child) {
    const ChildPlan& own = plan(child);
    const auto set = [&](int number) {
      const auto at = cell_.norm_place(own, number);
      norm(child, number).set(cell_.channels, mean(child, number), cell_.gain(at), cell_.bias(at));
    };
    std::vector<bool> begun(cell_.nodes + 2, false), adds(cell_.edges, false);
    for (int slot = 0; slot < cell_.nodes + 2; ++slot) {
      begun[slot] = cell_.ends(own, slot) || (slot < 2 && cell_.shared(slot) && child > 0);
      if (cell_.reduced_end(own, slot)) set(cell_.norms.loose(slot));
    }
    for (int node = cell_.nodes - 1; node >= 0; --node)
      for (bool separable : {false, true})
        for (int edge = 2 * node; edge < 2 * node + 2; ++edge) {
          const Route& route = own.routes[edge];
          if (route.operation == ZERO || route.separable() != separable) continue;
          adds[edge] = begun[route.source];
          begun[route.source] = true;
          for (int half = 0; half < 2; ++half)
            if (own.edge[edge][half] >= 0) set(cell_.norms.edge(edge, half));
        }
    if (cell_.projects) set(cell_.norms.output());
    begun.flip();
    untouched_.push_back(std::move(begun));
    adds_.push_back(std::move(adds));
  }

  // f(child, image) for all images of the children worked on.
  template <class F>
  void each_image(F f) {
    parallel((end_ - begin_) * cell_.batch, [&](int64_t job) { f(begin_ + job / cell_.batch, job % cell_.batch); });
  }
  // f(child, image, gradients_of) with gradients_of(i) those of weights_of(child)[i], which are then added to the tables.
  template <class W, class F>
  void each_block(W weights_of, F f) {
    const ImageBlocks blocks(cell_.batch, cell_.pixels());
    std::vector<Weights> weights;
    std::vector<BlockGradients<A>> gradients;
    for (int64_t child = begin_; child < end_; ++child) {
      weights.push_back(weights_of(child));
      std::vector<int64_t> sizes;
      for (const Weight* weight : weights.back()) sizes.push_back(weight == nullptr ? 0 : cell_.gradients(*weight));
      gradients.emplace_back(blocks.count, std::move(sizes));
    }
    parallel((end_ - begin_) * blocks.count, [&](int64_t job) {
      const int64_t own = job / blocks.count, block = job % blocks.count;
      gradients[own].clear(block);
      for (int64_t image = blocks.begin(block); image < blocks.end(block); ++image)
        f(begin_ + own, image, [&](int set) { return gradients[own].at(block, set); });
    });
    for (int64_t own = 0; own < end_ - begin_; ++own) {
      gradients[own].reduce();
      for (size_t set = 0; set < weights[own].size(); ++set)
        if (weights[own][set] != nullptr)
          cell_.add_gradients(*weights[own][set], gradients[own].at(0, int(set)), tables);
    }
  }
  // Sets the backward part of batch norm norm_of(child, place) from its sums; the tables grow in the children's order.
  template <class F>
  void join(F norm_of) {
    for (int64_t child = begin_; child < end_; ++child)
      for (int place = 0; place < 2; ++place) {
        const int number = norm_of(child, place);
        if (number < 0) continue;
        const auto at = cell_.norm_place(plan(child), number);
        norm(child, number)
            .set_backward(cell_.channels, mean(child, number), cell_.gain(at), sums(child, place, 0), cell_.batch,
                          cell_.pixels(), given_, pointer<A>(tables[at.table]) + at.offset,
                          pointer<A>(tables[at.table + 1]) + at.offset);
      }
  }

  // f() for one group of children after the other.
  template <class F>
  void each_group(F f) {
    for (begin_ = 0; begin_ < cell_.children; begin_ = end_) {
      end_ = std::min(cell_.children, begin_ + size_);
      f();
    }
  }

  void clear(int64_t child, int slot, int64_t image) {
    std::memset(gradient(child, slot, image), 0, (slot < 2 ? cell_.in : cell_.out) * sizeof(A));
  }
  // Readies the gradient of a loose end for the output, which adds to it.
  void begin_end(int64_t child, int slot, int64_t image) {
    if (slot >= 2 || !cell_.shared(slot) || child == 0) clear(child, slot, image);
  }

  // Stores what was summed in other types.
  void finish() {
    if constexpr (!std::is_same_v<S, A>)
      for (int slot = 0; slot < 2 && cell_.children > 0; ++slot)
        parallel(dinputs[slot].size(0) * cell_.batch, [&](int64_t image) {
          level<S>().narrow(cell_.in, wide_inputs_[slot].get() + image * cell_.in,
                            pointer<S>(dinputs[slot]) + image * cell_.in);
        });
    if (scale_sums_.empty()) return;
    const bool each = cell_.call.scale->dim() == 3;
    for (size_t i = 0; i < scale_sums_.size(); ++i)
      pointer<A>(dscale)[each ? i : i / cell_.batch] += A(scale_sums_[i]);
  }
};

}  // namespace enas
