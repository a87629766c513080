// The backward pass of a cell on the CPU: from the output over the nodes, last to first, to the inputs. Every slot's
// gradient is written in one order: by the output, then by the edges of later nodes; the last writer's image is ready for
// the sums that the batch norms of the node need.
#include "cell.h"

namespace {
using namespace enas;

template <class S>
class Backward {
  using A = Arithmetic<S>;
  using Weight = typename Cell<S>::Weight;
  using Weights = std::vector<const Weight*>;  // null where there is none

 public:
  Tensor dinputs[2], dscale;
  std::vector<Tensor> tables;

  Backward(const Cell<S>& cell, const Tensor& grad, const Tensor& saved, const Tensor& used, bool given)
      : dscale(empty(used, {0})),
        cell_(cell),
        grad_(grad),
        saved_(saved),
        used_(used),
        given_(given),
        scratch_(cell.scratch(4)),
        norms_(cell.children * cell.norms.count()) {
    for (const Tensor& weight : cell.call.weights) tables.push_back(zeros_like(weight));
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
    const int64_t size = cell.shared(0) || cell.shared(1)
                             ? 1
                             : std::min(cell.children, cell.group(saved.size(1) + cell.nodes + 2));
    node_gradients_.reset(new A[size * cell.nodes * cell.batch * cell.out]);
    between_.reset(new A[size * 2 * cell.batch * cell.out]);
    if (cell.stride > 1) loose_gradients_.reset(new A[size * 2 * cell.batch * cell.out]);
    sums_.resize(size * 2 * cell.batch * 2 * cell.channels);
    for (begin_ = 0; begin_ < cell.children; begin_ = end_) {
      end_ = std::min(cell.children, begin_ + size);
      compute();
    }
    finish();
  }

 private:
  const Cell<S>& cell_;
  const Tensor &grad_, &saved_, &used_;
  bool given_;
  int64_t scratch_;
  std::vector<Norm<A>> norms_;
  std::vector<std::vector<bool>> adds_;       // of each child and edge: whether its source has a gradient already
  std::vector<std::vector<bool>> untouched_;  // of each child and slot: nobody writes its gradient
  std::unique_ptr<A[]> wide_inputs_[2], node_gradients_, between_, loose_gradients_;
  std::vector<A> sums_;  // of two batch norms of each child
  std::vector<double> scale_sums_;
  int64_t begin_ = 0, end_ = 0;  // the children worked on

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
    return sums_.data() + (((child - begin_) * 2 + place) * cell_.batch + image) * 2 * cell_.channels;
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
    const ImageBlocks blocks(cell_.batch);
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

  void compute() {
    each_image([&](int64_t child, int64_t image) {
      for (int slot = 0; slot < cell_.nodes + 2; ++slot)
        if (untouched_[child][slot]) clear(child, slot, image);
    });
    if (cell_.projects) project();
    else concatenate();
    if (cell_.stride > 1) reduce_loose();
    each_image([&](int64_t child, int64_t image) { sum_node(child, cell_.nodes - 1, image); });
    for (int node = cell_.nodes - 1; node >= 0; --node) {
      join([&](int64_t child, int side) { return last_norm(child, 2 * node + side); });
      each_block(
          [&](int64_t child) { return Weights{last_weight(child, 2 * node), last_weight(child, 2 * node + 1)}; },
          [&](int64_t child, int64_t image, auto gradients) {
            for (int side = 0; side < 2; ++side) leave_edge(child, 2 * node + side, image, gradients(side));
          });
      join([&](int64_t child, int side) {
        return plan(child).routes[2 * node + side].separable() ? cell_.norms.edge(2 * node + side, 0) : -1;
      });
      each_block(
          [&](int64_t child) { return Weights{first_weight(child, 2 * node), first_weight(child, 2 * node + 1)}; },
          [&](int64_t child, int64_t image, auto gradients) {
            for (int side = 0; side < 2; ++side)
              if (plan(child).routes[2 * node + side].separable())
                enter_edge(child, 2 * node + side, image, gradients(side));
            if (node > 0) sum_node(child, node - 1, image);
          });
    }
  }

  void clear(int64_t child, int slot, int64_t image) {
    std::memset(gradient(child, slot, image), 0, (slot < 2 ? cell_.in : cell_.out) * sizeof(A));
  }
  // Readies the gradient of a loose end for the output, which adds to it.
  void begin_end(int64_t child, int slot, int64_t image) {
    if (slot >= 2 || !cell_.shared(slot) || child == 0) clear(child, slot, image);
  }

  // The batch norm that an edge ends with, and the weights before it.
  int last_norm(int64_t child, int edge) const {
    const Route& route = plan(child).routes[edge];
    if (route.separable()) return cell_.norms.edge(edge, 1);
    return route.strided_identity(cell_.stride) ? cell_.norms.edge(edge, 0) : -1;
  }
  const Weight* last_weight(int64_t child, int edge) const {
    const int number = last_norm(child, edge);
    return number < 0 ? nullptr : &cell_.weight(child, edge, number - cell_.norms.edge(edge, 0));
  }
  const Weight* first_weight(int64_t child, int edge) const {
    return plan(child).routes[edge].separable() ? &cell_.weight(child, edge, 0) : nullptr;
  }

  const A* output_gradient(int64_t child, int64_t image, [[maybe_unused]] A* room) const {
    const S* from = pointer<S>(grad_) + (child * cell_.batch + image) * cell_.out;
    if constexpr (std::is_same_v<S, A>) {
      return from;
    } else {
      level<S>().widen(cell_.out, from, A(1), room, false);
      return room;
    }
  }

  void project() {
    const int64_t wide = cell_.wide_image();
    const int output = cell_.norms.output(), slots = cell_.nodes + 2;
    each_image([&](int64_t child, int64_t image) {
      A* room = thread_scratch<A>(scratch_);
      level<S>().norm_sums(cell_.pixels(), cell_.channels, output_gradient(child, image, room),
                           tensor(child, plan(child).output, image), mean(child, output), sums(child, 0, image),
                           room + wide);
    });
    join([&](int64_t, int place) { return place ? -1 : output; });
    each_block(
        [&](int64_t child) {
          Weights weights(slots, nullptr);
          for (int from = 0; from < slots; ++from)
            if (cell_.ends(plan(child), from)) weights[from] = &cell_.weights[cell_.project_weights[from]];
          return weights;
        },
        [&](int64_t child, int64_t image, auto gradients) {
          A* room = thread_scratch<A>(scratch_);
          A *dz = room + wide, *rest = room + 3 * wide;
          level<S>().norm_gradient(cell_.pixels(), cell_.channels, tensor(child, plan(child).output, image),
                                   norm(child, output).gradient(output_gradient(child, image, room), A(1)), dz, rest);
          for (int from = 0; from < slots; ++from) {
            if (!cell_.ends(plan(child), from)) continue;
            const Weight& weight = cell_.weights[cell_.project_weights[from]];
            const S* end = slot(child, from, image);
            A* to = gradient(child, from, image);
            if (cell_.reduced_end(plan(child), from)) {
              A* sum = room;
              S* own = reinterpret_cast<S*>(room + 2 * wide);
              level<S>().add_affine(cell_.pixels(), cell_.channels, tensor(child, plan(child).loose[from], image),
                                    norm(child, cell_.norms.loose(from)).load(), A(1), sum, false, rest);
              level<S>().narrow(cell_.out, sum, own);
              end = own;
              to = beside(loose_gradients_, child, from, image);
              std::memset(to, 0, cell_.out * sizeof(A));
            } else {
              begin_end(child, from, image);
            }
            level<S>().linear_backward(weight.linear, weight.prepared.data(), end, true, dz, to, gradients(from), rest);
          }
        });
  }

  void concatenate() {
    const int64_t width = cell_.out_channels(), channels = cell_.channels;
    each_image([&](int64_t child, int64_t image) {
      const S* from = pointer<S>(grad_) + (child * cell_.batch + image) * cell_.pixels() * width;
      for (int end = 0; end < cell_.nodes + 2; ++end) {
        if (!cell_.ends(plan(child), end)) continue;
        const S* block = from + cell_.call.block[end] * channels;
        A* to = gradient(child, end, image);
        if (cell_.reduced_end(plan(child), end)) {
          to = beside(loose_gradients_, child, end, image);
          std::memset(to, 0, cell_.out * sizeof(A));
        } else {
          begin_end(child, end, image);
        }
        for (int64_t pixel = 0; pixel < cell_.pixels(); ++pixel)
          level<S>().widen(channels, block + pixel * width, A(1), to + pixel * channels, true);
      }
    });
  }

  // Back through the batch norm and the reduction of inputs that no edge reads.
  void reduce_loose() {
    each_image([&](int64_t child, int64_t image) {
      for (int input = 0; input < 2; ++input)
        if (cell_.reduced_end(plan(child), input))
          level<S>().norm_sums(cell_.pixels(), cell_.channels, beside(loose_gradients_, child, input, image),
                               tensor(child, plan(child).loose[input], image), mean(child, cell_.norms.loose(input)),
                               sums(child, input, image), thread_scratch<A>(scratch_));
    });
    join([&](int64_t child, int input) {
      return cell_.reduced_end(plan(child), input) ? cell_.norms.loose(input) : -1;
    });
    each_block(
        [&](int64_t child) {
          Weights weights(2, nullptr);
          for (int input = 0; input < 2; ++input)
            if (cell_.reduced_end(plan(child), input)) weights[input] = &cell_.weights[cell_.loose_weights[input]];
          return weights;
        },
        [&](int64_t child, int64_t image, auto gradients) {
          for (int input = 0; input < 2; ++input) {
            if (!cell_.reduced_end(plan(child), input)) continue;
            begin_end(child, input, image);
            pass_reduction(child, cell_.weights[cell_.loose_weights[input]], plan(child).loose[input],
                           norm(child, cell_.norms.loose(input)), beside(loose_gradients_, child, input, image), A(1),
                           input, image, gradients(input));
          }
        });
  }

  // Adds the gradient of a factorised reduction without ReLU, and of its batch norm, to that of `source`.
  void pass_reduction(int64_t child, const Weight& weight, int place, const Norm<A>& norm, const A* dy, A scale,
                      int source, int64_t image, A* gradients) {
    A* dz = thread_scratch<A>(scratch_);
    A* rest = dz + cell_.wide_image();
    level<S>().norm_gradient(cell_.pixels(), cell_.channels, tensor(child, place, image), norm.gradient(dy, scale), dz,
                             rest);
    level<S>().linear_backward(weight.linear, weight.prepared.data(), slot(child, source, image), false, dz,
                               gradient(child, source, image), gradients, rest);
  }

  // What the batch norms at the end of a node's edges need of the node's gradient, and the gradients of their scales.
  void sum_node(int64_t child, int node, int64_t image) {
    const A* dy = gradient(child, node + 2, image);
    A* room = thread_scratch<A>(scratch_);
    for (int edge = 2 * node; edge < 2 * node + 2; ++edge) {
      const Route& route = plan(child).routes[edge];
      const int number = last_norm(child, edge);
      double along = 0.0;  // sum(dy * what the edge gave)
      if (number >= 0) {
        A* own = sums(child, edge % 2, image);
        const int place = plan(child).edge[edge][number - cell_.norms.edge(edge, 0)];
        level<S>().norm_sums(cell_.pixels(), cell_.channels, dy, tensor(child, place, image), mean(child, number), own,
                             room);
        if (scale_sums_.empty()) continue;
        const A* bias = cell_.bias(cell_.norm_place(plan(child), number));
        const A scale = cell_.scale(child, edge, image);
        for (int c = 0; c < cell_.channels; ++c) {
          along += double(norm(child, number).factor[c]) * own[cell_.channels + c] + double(bias[c]) * own[c];
          own[c] *= scale;
          own[cell_.channels + c] *= scale;
        }
      } else if (!scale_sums_.empty() && route.operation != ZERO) {
        const S* from = slot(child, route.source, image);
        if (route.operation == IDENTITY) level<S>().widen(cell_.out, from, A(1), room, false);
        else level<S>().pool_forward(cell_.pool(route), from, A(1), room, false, room + cell_.wide_image());
        for (int64_t i = 0; i < cell_.out; ++i) along += double(dy[i]) * room[i];
      }
      if (!scale_sums_.empty()) scale_sums_[(child * cell_.edges + edge) * cell_.batch + image] = along;
    }
  }

  // Back through an edge, up to the batch norm between its halves where it is a separable convolution.
  void leave_edge(int64_t child, int edge, int64_t image, A* gradients) {
    const Route& route = plan(child).routes[edge];
    if (route.operation == ZERO) return;
    const A* dy = gradient(child, edge / 2 + 2, image);
    const A scale = cell_.scale(child, edge, image);
    if (route.separable()) {
      const auto [first, second] = plan(child).edge[edge];
      const int norm1 = cell_.norms.edge(edge, 0), norm2 = cell_.norms.edge(edge, 1);
      const Weight& weight = cell_.weight(child, edge, 1);
      level<S>().half_backward(weight.half, weight.prepared.data(), tensor(child, first, image),
                               norm(child, norm1).load(), tensor(child, second, image),
                               norm(child, norm2).gradient(dy, scale), beside(between_, child, edge % 2, image), false,
                               mean(child, norm1), sums(child, edge % 2, image), gradients,
                               thread_scratch<A>(scratch_));
      return;
    }
    if (!adds_[child][edge]) clear(child, route.source, image);
    A* to = gradient(child, route.source, image);
    if (route.strided_identity(cell_.stride))
      pass_reduction(child, cell_.weight(child, edge, 0), plan(child).edge[edge][0],
                     norm(child, cell_.norms.edge(edge, 0)), dy, scale, route.source, image, gradients);
    else if (route.operation == IDENTITY)
      level<A>().widen(cell_.out, dy, scale, to, true);
    else
      level<S>().pool_backward(cell_.pool(route), slot(child, route.source, image), dy, scale, to,
                                  thread_scratch<A>(scratch_));
  }

  // Back through the first half of a separable edge.
  void enter_edge(int64_t child, int edge, int64_t image, A* gradients) {
    const Route& route = plan(child).routes[edge];
    const Weight& weight = cell_.weight(child, edge, 0);
    level<S>().half_backward(weight.half, weight.prepared.data(), slot(child, route.source, image), {nullptr, nullptr},
                             tensor(child, plan(child).edge[edge][0], image),
                             norm(child, cell_.norms.edge(edge, 0))
                                 .gradient(beside(between_, child, edge % 2, image), A(1)),
                             gradient(child, route.source, image), adds_[child][edge], nullptr, nullptr, gradients,
                             thread_scratch<A>(scratch_));
  }

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

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> cell_backward(
    const Tensor& grad, const Tensor& input0, const Tensor& input1, const Tensor& routes,
    const std::vector<Tensor>& weights, const std::vector<int64_t>& block, const std::vector<int64_t>& loose_row,
    const std::optional<Tensor>& scale, int64_t stride, const Tensor& saved, const Tensor& used, bool given) {
  return dispatch(input1, [&]<class S>() {
    const Cell<S> cell({input0, input1, routes, weights, block, loose_row, scale, stride}, true);
    Backward<S> backward(cell, grad, saved, used, given);
    return std::tuple(backward.dinputs[0], backward.dinputs[1], backward.dscale, backward.tables);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) { m.impl("cell_backward", TORCH_BOX(&cell_backward)); }
