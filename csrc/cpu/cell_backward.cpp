// The backward pass of a cell on the CPU: from the output over the nodes, last to first, to the inputs. When a node's last
// reader is through with an image, that image is ready for the sums that the node's batch norms need.
#include "cell_gradients.h"

namespace {
using namespace enas;

template <class S>
class Backward : public CellGradients<S> {
  using Base = CellGradients<S>;
  using typename Base::A;
  using typename Base::Weight;
  using typename Base::Weights;
  using Base::adds_, Base::begin_end, Base::beside, Base::between_, Base::cell_, Base::clear, Base::each_block,
      Base::each_image, Base::grad_, Base::gradient, Base::join, Base::loose_gradients_, Base::mean, Base::norm,
      Base::plan, Base::scale_sums_, Base::scratch_, Base::slot, Base::sums, Base::tensor, Base::untouched_;

 public:
  Backward(const Cell<S>& cell, const Tensor& grad, const Tensor& saved, const Tensor& used, bool given)
      : Base(cell, grad, saved, used, given) {
    this->each_group([&] { compute(); });
    this->finish();
  }

 private:
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
            level<S>().linear_backward(weight.linear, weight.prepared.get(), end, true, dz, to, gradients(from), rest);
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
    level<S>().linear_backward(weight.linear, weight.prepared.get(), slot(child, source, image), false, dz,
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
          along += double(norm(child, number).load().factor[c]) * own[cell_.channels + c] + double(bias[c]) * own[c];
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
      level<S>().half_backward(weight.half, weight.prepared.get(), tensor(child, first, image),
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
    level<S>().half_backward(weight.half, weight.prepared.get(), slot(child, route.source, image), {nullptr, nullptr},
                             tensor(child, plan(child).edge[edge][0], image),
                             norm(child, cell_.norms.edge(edge, 0))
                                 .gradient(beside(between_, child, edge % 2, image), A(1)),
                             gradient(child, route.source, image), adds_[child][edge], nullptr, nullptr, gradients,
                             thread_scratch<A>(scratch_));
  }

};

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> cell_backward(
    const Tensor& grad, const Tensor& input0, const Tensor& input1, const Tensor& routes,
    const std::vector<Tensor>& weights, const std::vector<int64_t>& block, const std::vector<int64_t>& loose_row,
    const std::optional<Tensor>& scale, int64_t stride, const Tensor& saved, const Tensor& used, bool given) {
  return dispatch(input1, [&]<class S>() {
    const Cell<S> cell({input0, input1, routes, weights, block, loose_row, scale, stride}, true, Pass::BACKWARD);
    Backward<S> backward(cell, grad, saved, used, given);
    return std::tuple(backward.dinputs[0], backward.dinputs[1], backward.dscale, backward.tables);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) { m.impl("cell_backward", TORCH_BOX(&cell_backward)); }
