// The backward pass of a mixed cell on the CPU, edge by edge from the last. The sums that a batch norm's backward needs
// are those of its operation's output with the node's gradient too, which is the gradient of the operation's weight.
#include "mixed.h"

namespace {
using namespace enas;

template <class S>
class Backward {
  using A = Arithmetic<S>;
  using Edge = MixedEdgeWork<S>;

 public:
  Tensor dinputs[2], dmixing;
  std::vector<Tensor> tables;

  Backward(const MixedCall<S>& call, const Tensor& grad, bool given)
      : dmixing(zeros_like(call.mixing)),
        call_(call),
        cell_(call.cell),
        given_(given),
        sums_(cell_.candidates.size() * call.images() * 2 * cell_.channels),
        gradients_(cell_.nodes + 2) {
    for (const Tensor& weight : call.weights) tables.push_back(zeros_like(weight));
    for (const Candidate& one : cell_.candidates) separables_ += one.halves == 2;
    between_.reset(new A[separables_ * call.images() * cell_.out()]);
    for (int slot = 0; slot < cell_.nodes + 2; ++slot) gradients_[slot].reset(new A[call.images() * cell_.size(slot)]);
    parallel(call.images(), [&](int64_t image) { begin(pointer<S>(grad), image); });
    for (int edge = int(cell_.edges.size()) - 1; edge >= 0; --edge) compute(edge);
    for (int input = 0; input < 2; ++input) finish(input);
  }

 private:
  const MixedCall<S>& call_;
  const MixedCell& cell_;
  bool given_;
  int64_t separables_ = 0;
  std::vector<A> sums_;                           // [operations][images][2][channels] of an edge
  std::vector<std::unique_ptr<A[]>> gradients_;   // of each slot, of all images
  std::unique_ptr<A[]> between_;                  // of what the first halves' batch norms give, of an edge

  A* gradient(int slot, int64_t image) { return gradients_[slot].get() + image * cell_.size(slot); }
  A* between(int64_t separable, int64_t image) {
    return between_.get() + (separable * call_.images() + image) * cell_.out();
  }
  A* sums(size_t candidate, int64_t image) {
    return sums_.data() + (candidate * call_.images() + image) * 2 * cell_.channels;
  }

  // Gradients of the nodes start with that of the output, those of the inputs with zero.
  void begin(const S* grad, int64_t image) {
    const int64_t channels = cell_.channels, all = cell_.nodes * channels;
    for (int input = 0; input < 2; ++input) std::memset(gradient(input, image), 0, cell_.in() * sizeof(A));
    for (int node = 0; node < cell_.nodes; ++node) {
      const S* from = grad + image * cell_.out_pixels() * all + node * channels;
      for (int64_t pixel = 0; pixel < cell_.out_pixels(); ++pixel)
        level<S>().widen(channels, from + pixel * all, A(1), gradient(node + 2, image) + pixel * channels, false);
    }
  }

  void compute(int number) {
    Edge edge(call_, number, Pass::BACKWARD);
    for (int64_t child = 0; child < cell_.children; ++child)
      for (const Candidate& one : cell_.candidates)
        if (one.halves == 2) edge.set_norm(child, one.norm);
    const int64_t scratch = edge.scratch() + edge.pool_room() + rounded(cell_.out());
    parallel(call_.images(), [&](int64_t image) { sum(edge, image, thread_scratch<A>(scratch)); });
    join_last(edge);

    std::vector<int64_t> sizes;
    for (const Candidate& one : cell_.candidates)
      for (int half = 0; half < one.halves; ++half) sizes.push_back(level<S>().half_gradients(edge.half(one, half)));
    if (edge.reduces()) sizes.push_back(level<S>().linear_gradients(edge.reduction()));
    const ImageBlocks blocks(cell_.batch, cell_.out_pixels());
    BlockGradients<A> weights(cell_.children * blocks.count, sizes);
    const auto each_image = [&](auto f) {
      parallel(cell_.children * blocks.count, [&](int64_t job) {
        const int64_t first = job / blocks.count * cell_.batch, block = job % blocks.count;
        for (int64_t b = blocks.begin(block); b < blocks.end(block); ++b)
          f(first + b, job, thread_scratch<A>(scratch));
      });
    };
    parallel(cell_.children * blocks.count, [&](int64_t job) { weights.clear(job); });
    each_image([&](int64_t image, int64_t job, A* own) { leave(edge, image, job, weights, own); });
    join_first(edge);
    each_image([&](int64_t image, int64_t job, A* own) { enter(edge, image, job, weights, own); });
    if (call_.images() == 0) return;
    weights.reduce();
    for (const Candidate& one : cell_.candidates)
      for (int half = 0; half < one.halves; ++half)
        level<S>().half_add_gradients(edge.half(one, half), weights.at(0, one.first_half + half),
                                      edge.depthwise(tables, one, half), edge.pointwise(tables, one, half));
    if (edge.reduces())
      level<S>().linear_add_gradients(edge.reduction(), weights.at(0, cell_.halves), edge.reduction_weight(tables));
  }

  // Sums of the node's gradient and of it with what each operation's last batch norm saw; of a plain identity, with x.
  void sum(Edge& edge, int64_t image, A* scratch) {
    const A* dy = gradient(edge.edge.node + 2, image);
    A* rest = scratch + edge.pool_room();
    for (size_t i = 0; i < cell_.candidates.size(); ++i) {
      const Candidate& one = cell_.candidates[i];
      if (one.operation == ZERO) continue;
      const bool normed = edge.normed(one);
      const S* z = normed ? edge.last(one, image, scratch) : edge.source(image);
      A* zero = rest;
      std::fill_n(zero, cell_.channels, A(0));
      const A* centre = normed ? edge.used(image / cell_.batch, edge.last_norm(one)) : zero;
      level<S>().norm_sums(cell_.out_pixels(), cell_.channels, dy, z, centre, sums(i, image),
                           rest + rounded(cell_.channels));
    }
  }

  // The gradients of the operations' weights, and the last batch norms, whose gradient is the weighted one.
  void join_last(Edge& edge) {
    const int channels = cell_.channels;
    std::vector<double> totals(2 * channels);
    std::vector<A> weighted(2 * channels);
    for (size_t i = 0; i < cell_.candidates.size(); ++i) {
      const Candidate& one = cell_.candidates[i];
      if (one.operation == ZERO) continue;
      const A weight = call_.weight(edge.number, int(i));
      double along = 0.0;  // sum(dy * what the operation gave)
      for (int64_t child = 0; child < cell_.children; ++child) {
        std::fill(totals.begin(), totals.end(), 0.0);
        for (int64_t image = child * cell_.batch; image < (child + 1) * cell_.batch; ++image)
          for (int c = 0; c < 2 * channels; ++c) totals[c] += sums(i, image)[c];
        if (!edge.normed(one)) {
          for (int c = 0; c < channels; ++c) along += totals[channels + c];
          continue;
        }
        const int norm = edge.last_norm(one);
        const A *used = edge.used(child, norm), *gain = edge.gain(call_.weights, norm);
        const A* bias = edge.bias(call_.weights, norm);
        for (int c = 0; c < channels; ++c) {
          const double inverse = 1.0 / std::sqrt(double(used[channels + c]) + EPSILON);
          along += double(gain[c]) * inverse * totals[channels + c] + double(bias[c]) * totals[c];
        }
        for (int c = 0; c < 2 * channels; ++c) weighted[c] = A(double(weight) * totals[c]);
        edge.norm(child, norm).set_backward(channels, used, gain, weighted.data(), 1,
                                            cell_.batch * cell_.out_pixels(), given_, edge.gain(tables, norm),
                                            edge.bias(tables, norm));
      }
      pointer<A>(dmixing)[edge.number * cell_.candidates.size() + i] = A(along);
    }
  }

  void join_first(Edge& edge) {
    for (size_t i = 0; i < cell_.candidates.size(); ++i) {
      const int norm = cell_.candidates[i].norm;
      if (cell_.candidates[i].halves != 2) continue;
      for (int64_t child = 0; child < cell_.children; ++child)
        edge.norm(child, norm).set_backward(cell_.channels, edge.used(child, norm), edge.gain(call_.weights, norm),
                                            sums(i, child * cell_.batch), cell_.batch, cell_.out_pixels(), given_,
                                            edge.gain(tables, norm), edge.bias(tables, norm));
    }
  }

  // Back through all operations, through separable ones up to the batch norm between their halves.
  void leave(Edge& edge, int64_t image, int64_t job, BlockGradients<A>& weights, A* scratch) {
    const A* dy = gradient(edge.edge.node + 2, image);
    const S* x = edge.source(image);
    A* dx = gradient(edge.edge.source, image);
    A *room = scratch, *dz = scratch + edge.pool_room(), *rest = dz + rounded(cell_.out());
    const int64_t child = image / cell_.batch, pixels = cell_.out_pixels();
    int64_t separable = 0;
    for (size_t i = 0; i < cell_.candidates.size(); ++i) {
      const Candidate& one = cell_.candidates[i];
      const A weight = call_.weight(edge.number, int(i));
      if (one.operation == ZERO) continue;
      if (!edge.normed(one)) {
        level<A>().widen(cell_.out(), dy, weight, dx, true);
        continue;
      }
      const S* z = edge.last(one, image, room);
      const Gradient<A> gradient = edge.norm(child, edge.last_norm(one)).gradient(dy, weight);
      if (one.halves == 2) {
        level<S>().half_backward(edge.half(one, 1), edge.prepared(one.first_half + 1), edge.z(one.first_half, image),
                                 edge.norm(child, one.norm).load(), z, gradient, between(separable++, image), false,
                                 edge.used(child, one.norm), sums(i, image), weights.at(job, one.first_half + 1), rest);
      } else if (one.halves == 1) {
        level<S>().half_backward(edge.half(one, 0), edge.prepared(one.first_half), x, {nullptr, nullptr}, z, gradient,
                                 dx, true, nullptr, nullptr, weights.at(job, one.first_half), rest);
      } else {
        level<S>().norm_gradient(pixels, cell_.channels, z, gradient, dz, rest);
        if (one.pool()) level<S>().pool_backward(edge.pool(one), x, dz, A(1), dx, rest);
        else
          level<S>().linear_backward(edge.reduction(), edge.reduction_prepared(), x, false, dz, dx,
                                     weights.at(job, cell_.halves), rest);
      }
    }
  }

  // Back through the first halves of separable operations.
  void enter(Edge& edge, int64_t image, int64_t job, BlockGradients<A>& weights, A* scratch) {
    int64_t separable = 0;
    for (const Candidate& one : cell_.candidates)
      if (one.halves == 2)
        level<S>().half_backward(
            edge.half(one, 0), edge.prepared(one.first_half), edge.source(image), {nullptr, nullptr},
            edge.z(one.first_half, image),
            edge.norm(image / cell_.batch, one.norm).gradient(between(separable++, image), A(1)),
            gradient(edge.edge.source, image), true, nullptr, nullptr, weights.at(job, one.first_half), scratch);
  }

  // Children that share an input add to its gradient in their order.
  void finish(int input) {
    const Tensor& x = input ? call_.input1 : call_.input0;
    Tensor& dx = dinputs[input] =
        empty(x, {x.size(0), cell_.batch, cell_.height, cell_.width, cell_.channels});
    const int64_t sharing = call_.shared(input) ? cell_.children : 1;
    parallel(x.size(0) * cell_.batch, [&](int64_t image) {
      if (sharing == 0) return std::memset(pointer<S>(dx) + image * cell_.in(), 0, cell_.in() * sizeof(S)), void();
      for (int64_t child = 1; child < sharing; ++child)
        level<A>().widen(cell_.in(), gradient(input, child * cell_.batch + image), A(1), gradient(input, image), true);
      level<S>().narrow(cell_.in(), gradient(input, image), pointer<S>(dx) + image * cell_.in());
    });
  }
};

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> mixed_cell_backward(
    const Tensor& grad, const Tensor& input0, const Tensor& input1, const Tensor& mixing,
    const std::vector<Tensor>& weights, const std::vector<int64_t>& operations, int64_t stride, const Tensor& saved,
    const Tensor& used, bool given) {
  const MixedCell cell(input0, input1, mixing, weights, operations, stride);
  check_images(grad);
  STD_TORCH_CHECK(saved.size(1) == cell.slots(), "saved is not what the forward pass keeps");
  return dispatch(input1, [&]<class S>() {
    const MixedCall<S> call{
        cell, input0, input1, mixing, weights, pointer<S>(saved), pointer<Arithmetic<S>>(used), {cell, true}};
    Backward<S> backward(call, grad, given);
    return std::tuple(backward.dinputs[0], backward.dinputs[1], backward.dmixing, backward.tables);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) { m.impl("mixed_cell_backward", TORCH_BOX(&mixed_cell_backward)); }
