// The forward pass of a cell on the CPU. All edges of a node wait for their batch norms together; between two waits,
// one thread does all that there is to do on one image of one child.
#include "cell.h"

namespace {
using namespace enas;

template <class S>
class Forward {
  using A = Arithmetic<S>;
  using Weight = typename Cell<S>::Weight;

 public:
  Tensor result, saved, used;

  Forward(const Cell<S>& cell, const std::optional<Tensor>& statistics, int64_t slots)
      : result(empty(cell.call.input1,
                     {cell.children, cell.batch, cell.out_height, cell.out_width, cell.out_channels()})),
        saved(empty(cell.call.input1,
                    {cell.children, slots, cell.batch, cell.out_height, cell.out_width, cell.channels})),
        used(zeros(cell.call.input1, {cell.children, cell.norms.count(), 2, cell.channels},
                   arithmetic_type(cell.call.input1))),
        cell_(cell),
        given_(statistics),
        keep_(slots > 0),
        tensors_(slots),
        scratch_(cell.scratch(2)),
        norms_(cell.children * cell.norms.count()) {
    for (const ChildPlan& own : cell.plans) {
      STD_TORCH_CHECK(!keep_ || own.count <= slots, "slots is less than a child keeps");
      tensors_ = std::max<int64_t>(tensors_, own.count);
    }
    for (int64_t norm = 0; norm < cell.children * cell.norms.count(); ++norm)
      std::fill_n(pointer<A>(used) + (norm * 2 + 1) * cell.channels, cell.channels, A(1));
    const int64_t size = std::min(cell.children, cell.group(tensors_));
    moments_.reset(new A[size * 2 * cell.batch * 3 * cell.channels]);
    if (!keep_) own_.reset(new S[size * tensors_ * cell.batch * cell.out]);
    for (begin_ = 0; begin_ < cell.children; begin_ = end_) {
      end_ = std::min(cell.children, begin_ + size);
      compute();
    }
  }

 private:
  const Cell<S>& cell_;
  const std::optional<Tensor>& given_;
  bool keep_;
  int64_t tensors_, scratch_;
  std::vector<Norm<A>> norms_;
  std::unique_ptr<A[]> moments_;  // of two batch norms of each child
  std::unique_ptr<S[]> own_;
  int64_t begin_ = 0, end_ = 0;  // the children worked on

  const ChildPlan& plan(int64_t child) const { return cell_.plans[child]; }
  S* tensor(int64_t child, int place, int64_t image) const {
    S* from = keep_ ? pointer<S>(saved) : own_.get();
    return from + (((keep_ ? child : child - begin_) * tensors_ + place) * cell_.batch + image) * cell_.out;
  }
  A* moments(int64_t child, int place, int64_t image) {
    return moments_.get() + (((child - begin_) * 2 + place) * cell_.batch + image) * 3 * cell_.channels;
  }
  Norm<A>& norm(int64_t child, int place) { return norms_[child * cell_.norms.count() + place]; }
  const S* slot(int64_t child, int slot, int64_t image) const {
    return slot < 2 ? cell_.input(slot, child, image) : tensor(child, plan(child).node[slot - 2], image);
  }

  // f(child, image) for all images of the children worked on.
  template <class F>
  void each_image(F f) {
    parallel((end_ - begin_) * cell_.batch, [&](int64_t job) { f(begin_ + job / cell_.batch, job % cell_.batch); });
  }
  // Sets batch norms, two of each child at most, from the moments of their images.
  template <class F>
  void join(F norm_of) {
    parallel((end_ - begin_) * 2, [&](int64_t job) {
      const int64_t child = begin_ + job / 2;
      const int place = int(job % 2), number = norm_of(child, place);
      if (number < 0) return;
      A* own = pointer<A>(used) + (child * cell_.norms.count() + number) * 2 * cell_.channels;
      if (given_.has_value())
        std::memcpy(own, pointer<A>(*given_) + (own - pointer<A>(used)), 2 * cell_.channels * sizeof(A));
      else
        level<A>().merge_moments(cell_.batch, cell_.pixels(), cell_.channels, moments(child, place, 0), own);
      const auto at = cell_.norm_place(plan(child), number);
      norm(child, number).set(cell_.channels, own, cell_.gain(at), cell_.bias(at));
    });
  }
  void join_edges(int node, int half) {
    join([&](int64_t child, int side) {
      const int edge = 2 * node + side;
      return plan(child).edge[edge][half] < 0 ? -1 : cell_.norms.edge(edge, half);
    });
  }

  void compute() {
    for (int node = 0; node < cell_.nodes; ++node) {
      each_image([&](int64_t child, int64_t image) {
        if (node > 0) combine(child, node - 1, image);
        for (int side = 0; side < 2; ++side) begin_edge(child, 2 * node + side, image);
      });
      join_edges(node, 0);
      each_image([&](int64_t child, int64_t image) {
        for (int side = 0; side < 2; ++side) end_edge(child, 2 * node + side, image);
      });
      join_edges(node, 1);
    }
    each_image([&](int64_t child, int64_t image) {
      combine(child, cell_.nodes - 1, image);
      for (int input = 0; input < 2; ++input)
        if (cell_.reduced_end(plan(child), input))
          reduce(child, cell_.weights[cell_.loose_weights[input]], cell_.input(input, child, image),
                 plan(child).loose[input], input, image);
    });
    join([&](int64_t child, int input) {
      return cell_.reduced_end(plan(child), input) ? cell_.norms.loose(input) : -1;
    });
    if (!cell_.projects) {
      each_image([&](int64_t child, int64_t image) { concatenate(child, image); });
      return;
    }
    each_image([&](int64_t child, int64_t image) { project(child, image); });
    join([&](int64_t, int place) { return place ? -1 : cell_.norms.output(); });
    each_image([&](int64_t child, int64_t image) {
      into(pointer<S>(result) + (child * cell_.batch + image) * cell_.out, [&](A* sum, A* rest) {
        level<S>().add_affine(cell_.pixels(), cell_.channels, tensor(child, plan(child).output, image),
                              norm(child, cell_.norms.output()).load(), A(1), sum, false, rest);
      });
    });
  }

  // to = what f(sum, rest of the scratch) writes to `sum`.
  template <class F>
  void into(S* to, F f) {
    A* scratch = thread_scratch<A>(scratch_);
    f(formed_in(to, scratch), scratch + cell_.wide_image());
    if constexpr (!std::is_same_v<S, A>) level<S>().narrow(cell_.out, scratch, to);
  }

  void begin_edge(int64_t child, int edge, int64_t image) {
    const Route& route = plan(child).routes[edge];
    const int place = plan(child).edge[edge][0];
    if (place < 0) return;
    const Weight& weight = cell_.weight(child, edge, 0);
    const S* from = slot(child, route.source, image);
    if (weight.is_half)
      level<S>().half_forward(weight.half, weight.prepared.get(), from, {nullptr, nullptr}, tensor(child, place, image),
                              moments(child, edge % 2, image), thread_scratch<A>(scratch_));
    else
      reduce(child, weight, from, place, edge % 2, image);
  }

  void end_edge(int64_t child, int edge, int64_t image) {
    const auto [first, second] = plan(child).edge[edge];
    if (second < 0) return;
    const Weight& weight = cell_.weight(child, edge, 1);
    level<S>().half_forward(weight.half, weight.prepared.get(), tensor(child, first, image),
                            norm(child, cell_.norms.edge(edge, 0)).load(), tensor(child, second, image),
                            moments(child, edge % 2, image), thread_scratch<A>(scratch_));
  }

  // A factorised reduction without ReLU: of a strided identity, and of an input that no edge reads.
  void reduce(int64_t child, const Weight& weight, const S* from, int place, int moment, int64_t image) {
    A* scratch = thread_scratch<A>(scratch_);
    A* rest = scratch + cell_.wide_image();
    S* to = tensor(child, place, image);
    A* sum = formed_in(to, scratch);
    level<S>().linear_forward(weight.linear, weight.prepared.get(), from, false, sum, false, rest);
    level<S>().finish(cell_.pixels(), cell_.channels, sum, to, moments(child, moment, image), rest);
  }

  void combine(int64_t child, int node, int64_t image) {
    into(tensor(child, plan(child).node[node], image), [&](A* sum, A* rest) {
      bool add = false;
      for (int edge = 2 * node; edge < 2 * node + 2; ++edge) {
        const Route& route = plan(child).routes[edge];
        const A scale = cell_.scale(child, edge, image);
        const int half = route.separable() ? 1 : 0, place = plan(child).edge[edge][half];
        if (route.operation == ZERO) continue;
        if (place >= 0)
          level<S>().add_affine(cell_.pixels(), cell_.channels, tensor(child, place, image),
                                norm(child, cell_.norms.edge(edge, half)).load(), scale, sum, add, rest);
        else if (route.operation == IDENTITY)
          level<S>().widen(cell_.out, slot(child, route.source, image), scale, sum, add);
        else
          level<S>().pool_forward(cell_.pool(route), slot(child, route.source, image), scale, sum, add, rest);
        add = true;
      }
      if (!add) std::memset(sum, 0, cell_.out * sizeof(A));
    });
  }

  // A loose end as the output sees it; `own` is room for an image that has to be normalised first.
  const S* loose_end(int64_t child, int from, int64_t image, S* own, A* rest) {
    if (!cell_.reduced_end(plan(child), from)) return slot(child, from, image);
    A* sum = rest;
    level<S>().add_affine(cell_.pixels(), cell_.channels, tensor(child, plan(child).loose[from], image),
                          norm(child, cell_.norms.loose(from)).load(), A(1), sum, false, rest + cell_.wide_image());
    level<S>().narrow(cell_.out, sum, own);
    return own;
  }

  void project(int64_t child, int64_t image) {
    // Until the product is done, the place of the output is free.
    S* place = pointer<S>(result) + (child * cell_.batch + image) * cell_.out;
    A* scratch = thread_scratch<A>(scratch_);
    A* rest = scratch + cell_.wide_image();
    S* to = tensor(child, plan(child).output, image);
    A* sum = formed_in(to, scratch);
    bool add = false;
    for (int from = 0; from < cell_.nodes + 2; ++from) {
      if (!cell_.ends(plan(child), from)) continue;
      const Weight& weight = cell_.weights[cell_.project_weights[from]];
      level<S>().linear_forward(weight.linear, weight.prepared.get(), loose_end(child, from, image, place, rest), true,
                                sum, add, rest);
      add = true;
    }
    if (!add) std::memset(sum, 0, cell_.out * sizeof(A));
    level<S>().finish(cell_.pixels(), cell_.channels, sum, to, moments(child, 0, image), rest);
  }

  void concatenate(int64_t child, int64_t image) {
    const int64_t width = cell_.out_channels(), channels = cell_.channels;
    S* to = pointer<S>(result) + (child * cell_.batch + image) * cell_.pixels() * width;
    S* own = reinterpret_cast<S*>(thread_scratch<A>(scratch_));
    A* rest = thread_scratch<A>(scratch_) + cell_.wide_image();
    std::memset(to, 0, cell_.pixels() * width * sizeof(S));
    for (int from = 0; from < cell_.nodes + 2; ++from) {
      if (!cell_.ends(plan(child), from)) continue;
      const S* end = loose_end(child, from, image, own, rest);
      S* block = to + cell_.call.block[from] * channels;
      for (int64_t pixel = 0; pixel < cell_.pixels(); ++pixel)
        std::memcpy(block + pixel * width, end + pixel * channels, channels * sizeof(S));
    }
  }
};

std::tuple<Tensor, Tensor, Tensor> cell(const Tensor& input0, const Tensor& input1, const Tensor& routes,
                                        const std::vector<Tensor>& weights, const std::vector<int64_t>& block,
                                        const std::vector<int64_t>& loose_row, const std::optional<Tensor>& scale,
                                        const std::optional<Tensor>& statistics, int64_t stride, int64_t slots) {
  return dispatch(input1, [&]<class S>() {
    if (statistics.has_value()) check_weights(input1, {&*statistics});
    const Cell<S> cell({input0, input1, routes, weights, block, loose_row, scale, stride}, slots > 0, Pass::FORWARD);
    Forward<S> forward(cell, statistics, slots);
    return std::tuple(forward.result, forward.saved, forward.used);
  });
}

int64_t cell_slots(const Tensor& routes, int64_t stride) {
  int64_t most = 0;
  const int edges = int(routes.size(1));
  for (int64_t child = 0; child < routes.size(0); ++child) {
    const ChildPlan plan(pointer<int32_t>(routes) + child * edges * 3, edges, int(stride), true);
    most = std::max<int64_t>(most, plan.count);
  }
  return most;
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) {
  m.impl("cell", TORCH_BOX(&cell));
  m.impl("cell_slots", TORCH_BOX(&cell_slots));
}
