// The backward pass of a mixed cell on CUDA, edge by edge from the last.
#include "mixed_backward.cuh"
#include "mixed_edges.h"

namespace {
using namespace enas;
namespace batch = enas::batch_norm;

template <class S>
class Backward {
  using A = Arithmetic<S>;

 public:
  Tensor dinputs[2], dmixing;
  std::vector<Tensor> tables;

  Backward(const MixedEdges<S>& edges, const Tensor& grad, bool given)
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
    prepare_work();

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
  Work work_;
  WeightWork<S> weights_;

  static Grid grid(int64_t numbers) { return {blocks_of(numbers, mixed::THREADS), mixed::THREADS}; }

  // Scratch for the largest edge and kernel.
  void prepare_work() {
    CellBackward<S> largest{};
    largest.cell = edges_.sized(0);
    for (const Candidate& one : cell_.candidates)
      if (one.halves) largest.cell.separable[0].kernel = std::max(largest.cell.separable[0].kernel, one.kernel);
    work_ = make_work(on_, largest.cell);
    weights_ = make_weight_work(on_, largest);
  }

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
    launch(on_, {dim3(blocks_of(cell_.channels, batch::LANES), count, children), dim3(batch::LANES, batch::SLICES),
                 shared_bytes<double>(batch::LANES * batch::SLICES)},
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
    for (int half = halves - 1; half >= 0; --half) {
      run_product_gradients(on_, backward, Phase(half), 0, weights_);
      if (one.halves) run_depthwise_gradients(on_, backward, Phase(half), 0, weights_, work_);
    }
    sum_weight_chunks(on_, backward, FIRST, 0, halves, weights_);
    WeightTables<A> written{{}, 0, halves};
    const auto write = [&](A* table, int64_t numbers, TableOwner owner, TableKind kind) {
      const int64_t begin = written.count == 0 ? 0 : written.table[written.count - 1].end;
      written.table[written.count++] = {table, begin, begin + numbers, int(numbers), owner, kind};
    };
    const int64_t products = int64_t(cell_.channels) * cell_.channels;
    const int64_t taps = int64_t(one.kernel) * one.kernel * cell_.channels;
    if (one.halves) {
      write(edges_.depthwise(tables, edge, one), halves * taps, OF_SEPARABLE_3, DEPTHWISE);
      write(edges_.pointwise(tables, edge, one), halves * products, OF_SEPARABLE_3, POINTWISE);
    } else {
      write(edges_.reduction(tables, edge), products, OF_IDENTITY, POINTWISE);
    }
    sum_weight_tables(on_, backward, weights_, written);
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
    Backward<S> backward(edges, grad, given);
    return std::make_tuple(backward.dinputs[0], backward.dinputs[1], backward.dmixing, backward.tables);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) { m.impl("mixed_cell_backward", TORCH_BOX(&mixed_cell_backward)); }
