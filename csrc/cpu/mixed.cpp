// The forward pass of a mixed cell on the CPU: edge by edge, and on each edge all operations of one image one after the
// other, so that their input stays near. Two waits an edge: for the batch norms of its first halves and of its second.
#include "mixed.h"

namespace {
using namespace enas;

template <class S>
class Forward {
  using A = Arithmetic<S>;
  using Edge = MixedEdgeWork<S>;

 public:
  Forward(const MixedCall<S>& call, const std::optional<Tensor>& statistics, S* out)
      : call_(call),
        cell_(call.cell),
        given_(statistics),
        out_(out),
        moments_(cell_.norms * call.images() * 3 * cell_.channels),
        sum_(new A[call.images() * cell_.out()]) {
    for (int node = 0, edge = 0; node < cell_.nodes; ++node) {
      std::memset(sum_.get(), 0, call_.images() * cell_.out() * sizeof(A));
      for (; edge < int(cell_.edges.size()) && cell_.edges[edge].node == node; ++edge) compute(edge);
      parallel(call_.images(), [&](int64_t image) { store(node, image); });
    }
  }

 private:
  const MixedCall<S>& call_;
  const MixedCell& cell_;
  const std::optional<Tensor>& given_;
  S* out_;
  std::vector<A> moments_;     // [norms][images][3][channels] of an edge
  std::unique_ptr<A[]> sum_;   // of a node, of all images

  A* moments(int norm, int64_t image) {
    return moments_.data() + (norm * call_.images() + image) * 3 * cell_.channels;
  }

  void compute(int number) {
    Edge edge(call_, number, Pass::FORWARD);
    const int64_t scratch = edge.scratch() + edge.pool_room();
    parallel(call_.images(), [&](int64_t image) { begin(edge, image, thread_scratch<A>(scratch)); });
    join(edge, 0);
    parallel(call_.images(), [&](int64_t image) { end(edge, image, thread_scratch<A>(scratch)); });
    join(edge, 1);
    parallel(call_.images(), [&](int64_t image) { mix(edge, image, thread_scratch<A>(scratch)); });
  }

  // All that reads the edge's input.
  void begin(Edge& edge, int64_t image, A* scratch) {
    const S* x = edge.source(image);
    A* rest = scratch + edge.pool_room();
    for (const Candidate& one : cell_.candidates) {
      if (!edge.normed(one)) continue;
      A* own = moments(one.norm, image);
      if (one.halves) {
        level<S>().half_forward(edge.half(one, 0), edge.prepared(one.first_half), x, {nullptr, nullptr},
                                edge.z(one.first_half, image), own, rest);
      } else if (one.operation == IDENTITY) {
        level<S>().linear_forward(edge.reduction(), edge.reduction_prepared(), x, false, scratch, false, rest);
        level<S>().finish(cell_.out_pixels(), cell_.channels, scratch, edge.z(cell_.halves, image), own, rest);
      } else {
        level<S>().pool_forward(edge.pool(one), x, A(1), scratch, false, rest);
        level<S>().finish(cell_.out_pixels(), cell_.channels, scratch,
                          reinterpret_cast<S*>(scratch + rounded(cell_.out())), own, rest);
      }
    }
  }

  // The second halves.
  void end(Edge& edge, int64_t image, A* scratch) {
    for (const Candidate& one : cell_.candidates)
      if (one.halves == 2)
        level<S>().half_forward(edge.half(one, 1), edge.prepared(one.first_half + 1), edge.z(one.first_half, image),
                                edge.norm(image / cell_.batch, one.norm).load(), edge.z(one.first_half + 1, image),
                                moments(one.norm + 1, image), scratch);
  }

  void mix(Edge& edge, int64_t image, A* scratch) {
    A* sum = sum_.get() + image * cell_.out();
    for (size_t i = 0; i < cell_.candidates.size(); ++i) {
      const Candidate& one = cell_.candidates[i];
      const A weight = call_.weight(edge.number, int(i));
      if (edge.normed(one))
        level<S>().add_affine(cell_.out_pixels(), cell_.channels, edge.last(one, image, scratch),
                              edge.norm(image / cell_.batch, edge.last_norm(one)).load(), weight, sum, true,
                              scratch + edge.pool_room());
      else if (one.operation == IDENTITY)
        level<S>().widen(cell_.out(), edge.source(image), weight, sum, true);
    }
  }

  // Sets the first or the second batch norms of an edge, of all children.
  void join(Edge& edge, int half) {
    for (int64_t child = 0; child < cell_.children; ++child)
      for (const Candidate& one : cell_.candidates) {
        if (!edge.normed(one) || half >= one.norms) continue;
        const int norm = one.norm + half;
        A* own = edge.used(child, norm);
        if (given_.has_value())
          std::memcpy(own, pointer<A>(*given_) + (own - call_.used), 2 * cell_.channels * sizeof(A));
        else
          level<A>().merge_moments(cell_.batch, cell_.out_pixels(), cell_.channels, moments(norm, child * cell_.batch), own);
        edge.set_norm(child, norm);
      }
  }

  void store(int node, int64_t image) {
    const int64_t channels = cell_.channels, all = cell_.nodes * channels;
    const A* sum = sum_.get() + image * cell_.out();
    S* to = out_ + image * cell_.out_pixels() * all + node * channels;
    if (node + 1 < cell_.nodes) level<S>().narrow(cell_.out(), sum, call_.tensor(call_.slots.node(node), image));
    for (int64_t pixel = 0; pixel < cell_.out_pixels(); ++pixel)
      level<S>().narrow(channels, sum + pixel * channels, to + pixel * all);
  }
};

std::tuple<Tensor, Tensor, Tensor> mixed_cell(const Tensor& input0, const Tensor& input1, const Tensor& mixing,
                                              const std::vector<Tensor>& weights,
                                              const std::vector<int64_t>& operations,
                                              const std::optional<Tensor>& statistics, int64_t stride, int64_t slots) {
  const MixedCell cell(input0, input1, mixing, weights, operations, stride);
  check_weights(input1, {&mixing});
  for (const Tensor& weight : weights) check_weights(input1, {&weight});
  const int64_t norms = int64_t(cell.edges.size()) * cell.norms, channels = cell.channels;
  if (statistics.has_value()) {
    check_weights(input1, {&*statistics});
    STD_TORCH_CHECK(statistics->numel() == cell.children * norms * 2 * channels, "statistics must be [M, E * N, 2, C]");
  }
  STD_TORCH_CHECK(slots == 0 || slots == cell.slots(), "slots must be 0 or what the cell keeps");
  return dispatch(input1, [&]<class S>() {
    using A = Arithmetic<S>;
    Tensor used = zeros(input1, {cell.children, norms, 2, channels}, arithmetic_type(input1));
    for (int64_t norm = 0; norm < cell.children * norms; ++norm)
      std::fill_n(pointer<A>(used) + (2 * norm + 1) * channels, channels, A(1));
    Tensor out = empty(input1, {cell.children, cell.batch, cell.out_height(), cell.out_width(), cell.nodes * channels});
    MixedCall<S> call{cell, input0, input1, mixing, weights, nullptr, pointer<A>(used), {cell, slots > 0}};
    const auto kept = [&](int64_t count) {
      return empty(input1, {cell.children, count, cell.batch, cell.out_height(), cell.out_width(), channels});
    };
    Tensor saved = kept(call.slots.count());
    call.kept = pointer<S>(saved);
    Forward<S>(call, statistics, pointer<S>(out));
    return std::tuple(out, slots > 0 ? saved : kept(0), used);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) { m.impl("mixed_cell", TORCH_BOX(&mixed_cell)); }
