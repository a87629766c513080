// The backward pass of a mixed cell on CUDA, edge by edge from the last.
#include "mixed_backward.cuh"
#include "mixed_edges.h"

namespace {
using namespace enas;
namespace batch = enas::batch_norm;

template <class S>
class MixedBackward {
  using A = Arithmetic<S>;

 public:
  Tensor dinputs[2], dmixing;
  std::vector<Tensor> tables;

  MixedBackward(const MixedEdges<S>& edges, const Tensor& grad, bool given)
      : dmixing(zeros_like(edges.mixing)), edges_(edges), cell_(edges.cell), on_(edges.input1), given_(given) {
    const int64_t children = edges.children(), node = children * edges.node_size(), channels = cell_.channels;
    const auto numbers = [&](int64_t count) { return empty(on_, {count}, arithmetic_type(on_)); };
    for (const Tensor& weight : edges.weights) tables.push_back(zeros_like(weight));
    coefficients_ = numbers(children * edges.norms() * 3 * channels);
    dnorms_ = zeros(on_, {children * edges.norms() * 2 * channels}, arithmetic_type(on_));
    sums_ = numbers(children * edges.chunks() * (1 + mixed::MOST_TERMS) * channels);
    along_ = empty(on_, {mixed::MOST_TERMS * children * channels}, ScalarType::Double);
    for (Tensor* image : {&dnode_, &between_, &middle_}) *image = empty(on_, {node});
    senders_ = empty(on_, {int64_t(cell_.candidates.size()) * children * edges.slot_size(0)});
    for (int slot = 0; slot < cell_.nodes + 2; ++slot)
      sent_.push_back(zeros(on_, {children * edges.slot_size(slot)}, arithmetic_type(on_)));

    int edge = int(cell_.edges.size()) - 1;
    for (int number = cell_.nodes - 1; number >= 0; --number) {
      launch(on_, grid(node), mixed::begin_node<S>, edges.sizes(0), pointer<S>(grad), pointer<A>(sent_[number + 2]),
             number, cell_.nodes, pointer<S>(dnode_));
      for (; edge >= 0 && cell_.edges[edge].node == number; --edge) compute(edge);
    }
    if (edges.norms() > 0)
      launch(on_, grid(edges.norms() * channels), mixed::sum_norms<A>, int(children), edges.norms(), int(channels),
             pointer<A>(dnorms_), edges.gain(tables, 0), edges.bias(tables, 0));
    for (int input = 0; input < 2; ++input) finish(input);
  }

 private:
  const MixedEdges<S>& edges_;
  const MixedCell& cell_;
  const Tensor& on_;
  bool given_;
  Tensor coefficients_, dnorms_, sums_, along_;
  Tensor dnode_, between_, middle_;  // gradients of a node, and of what a convolution has on its way
  Tensor senders_;                   // what each operation of an edge sends to its source
  std::vector<Tensor> sent_;         // what all edges sent to each slot

  static Grid grid(int64_t numbers) { return {blocks_of(numbers, mixed::THREADS), mixed::THREADS}; }

  S* sender(int place, int edge) const {
    return pointer<S>(senders_) + place * edges_.children() * edges_.slot_size(cell_.edges[edge].source);
  }

  void compute(int edge) {
    edges_.run_pools(edge);
    const mixed::Sizes sizes = edges_.sizes(edge);
    const mixed::Terms<S> terms = edges_.terms(edge);
    sum(edge, sizes, terms);

    mixed::Senders<S> senders{};
    senders.x = edges_.source(edge);
    senders.step = edges_.step(edge);
    senders.stride = cell_.edges[edge].stride;
    senders.mixing = terms.mixing;
    for (int t = 0; t < terms.count; ++t) {
      const mixed::Term<S>& term = terms.term[t];
      const Candidate& one = cell_.candidates[term.place];
      mixed::Sender<S>& to = senders.sender[senders.count++];
      to = {mixed::WHOLE, sender(t, edge), one.operation == MAX_POOL_3, term.place};
      if (one.pool()) {
        to.kind = mixed::POOL;
        launch(on_, grid(edges_.children() * edges_.node_size()), mixed::pass_norm<S>, sizes, term, pointer<S>(dnode_),
               pointer<A>(coefficients_), sender(t, edge));
      } else if (term.norm < 0) {
        to.kind = mixed::IDENTICAL;
        to.gradient = pointer<S>(dnode_);
      } else {
        convolve(edge, one, sender(t, edge));
      }
    }
    const int source = cell_.edges[edge].source;
    launch(on_, grid(edges_.children() * edges_.slot_size(source)), mixed::gather<S>, sizes, senders,
           pointer<A>(sent_[source]));
  }

  // The gradients of the weights of the operations, and the backward of their last batch norms.
  void sum(int edge, const mixed::Sizes& sizes, const mixed::Terms<S>& terms) {
    const unsigned children = unsigned(edges_.children()), chunks = unsigned(edges_.chunks());
    const unsigned count = unsigned(terms.count);
    launch(on_, {dim3(chunks, blocks_of(cell_.channels, mixed::THREADS), children), mixed::THREADS,
                 shared_bytes<A>(mixed::THREADS)},
           mixed::sum_terms<S>, sizes, edges_.rows(), terms, pointer<S>(dnode_), edges_.used, pointer<A>(sums_));
    launch(on_, {dim3(blocks_of(cell_.channels, batch::LANES), count, children), mixed::THREADS,
                 shared_bytes<double>(mixed::THREADS)},
           mixed::finish_terms<S>, sizes, int64_t(chunks), terms, pointer<A>(sums_), given_, edges_.used,
           edges_.gain(edges_.weights, 0), edges_.bias(edges_.weights, 0), pointer<A>(coefficients_),
           pointer<A>(dnorms_), pointer<double>(along_));
    launch(on_, {count, mixed::THREADS, shared_bytes<double>(mixed::THREADS)}, mixed::sum_along<S>, terms,
           int64_t(children) * cell_.channels, pointer<double>(along_),
           pointer<A>(dmixing) + edge * int64_t(cell_.candidates.size()));
  }

  // Back through a convolution or the reduction: the gradients of its weights, and that of its source to `to`.
  void convolve(int edge, const Candidate& one, S* to) {
    CellBackward<S> backward{};
    backward.cell = edges_.single(edge, one);
    const int64_t norm = int64_t(edges_.norm(edge, one)) * cell_.channels;
    backward.grad = pointer<S>(dnode_);
    backward.given = given_;
    backward.centred = true;
    backward.edges = to;
    backward.between = one.halves == 2 ? pointer<S>(between_) : nullptr;
    backward.depthwise = pointer<S>(middle_);
    backward.coefficients = pointer<A>(coefficients_) + 3 * norm;
    backward.dnorms = pointer<A>(dnorms_) + 2 * norm;
    backward.cell.vector = backward.cell.vector && wide<S>({to}, {cell_.channels});
    const int halves = std::max(one.halves, 1);
    Backward<S> program(on_, backward, nullptr);
    for (int half = halves - 1; half >= 0; --half) {
      program.add_products(Phase(half), 0);
      if (one.halves) program.add_depthwise(Phase(half), 0);
    }
    program.add_chunks(FIRST, 0, halves);
    WeightTables<A> written{{}, 0, halves};
    const int64_t products = int64_t(cell_.channels) * cell_.channels;
    const int64_t taps = int64_t(one.kernel) * one.kernel * cell_.channels;
    if (one.halves) {
      written.add(edges_.depthwise(tables, edge, one), halves * taps, 1, OF_SEPARABLE_3, DEPTHWISE);
      written.add(edges_.pointwise(tables, edge, one), halves * products, 1, OF_SEPARABLE_3, POINTWISE);
    } else {
      written.add(edges_.reduction(tables, edge), products, 1, OF_IDENTITY, POINTWISE);
    }
    program.add_tables(written);
    program.run();
  }

  void finish(int input) {
    const Tensor& x = edges_.input(input);
    dinputs[input] = empty(x, {x.size(0), cell_.batch, cell_.height, cell_.width, cell_.channels});
    const int64_t size = dinputs[input].numel();
    launch(on_, grid(size), mixed::finish_input<S>, size, edges_.shared(input) ? edges_.children() : 1,
           pointer<A>(sent_[input]), pointer<S>(dinputs[input]));
  }
};

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> mixed_cell_backward(
    const Tensor& grad, const Tensor& input0, const Tensor& input1, const Tensor& mixing,
    const std::vector<Tensor>& weights, const std::vector<int64_t>& operations, int64_t stride, const Tensor& saved,
    const Tensor& used, bool given) {
  const MixedCell cell(input0, input1, mixing, weights, operations, stride);
  check_mixed(cell, input1, mixing, weights);
  check_images(grad);
  STD_TORCH_CHECK(saved.size(1) == cell.slots(), "saved is not what the forward pass keeps");
  return dispatch(input1, [&]<class S>() {
    using A = Arithmetic<S>;
    Tensor affine = torch::stable::empty_like(used);
    MixedEdges<S> edges{cell,    {cell, true}, input0, input1, mixing, weights, nullptr, pointer<S>(saved),
                        pointer<A>(used), pointer<A>(affine), nullptr};
    Tensor pooled = empty(input1, {edges.pools() * edges.children() * edges.node_size()});
    edges.pooled = pointer<S>(pooled);
    const int64_t numbers = cell.children * edges.norms() * cell.channels;
    launch(input1, {blocks_of(numbers, mixed::THREADS), mixed::THREADS}, mixed::make_affine<A>, numbers, edges.norms(),
           cell.channels, edges.used, pointer<A>(weights[cell.gain]), pointer<A>(weights[cell.bias]), edges.affine);
    MixedBackward<S> backward(edges, grad, given);
    return std::make_tuple(backward.dinputs[0], backward.dinputs[1], backward.dmixing, backward.tables);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) { m.impl("mixed_cell_backward", TORCH_BOX(&mixed_cell_backward)); }
