// The forward pass of a mixed cell on CUDA.
#include "mixed_edges.h"

namespace {
using namespace enas;
namespace batch = enas::batch_norm;

template <class S>
class MixedForward {
  using A = Arithmetic<S>;

 public:
  MixedForward(const MixedEdges<S>& edges, S* out)
      : edges_(edges), cell_(edges.cell), on_(edges.input1) {
    const int64_t node = edges.children() * edges.node_size();
    Tensor sum = empty(on_, {node}, arithmetic_type(on_));
    moments_ = empty(on_, {edges.children() * edges.chunks() * 2 * cell_.channels}, arithmetic_type(on_));
    for (int number = 0, edge = 0; number < cell_.nodes; ++number) {
      for (const int first = edge; edge < int(cell_.edges.size()) && cell_.edges[edge].node == number; ++edge) {
        convolve(edge);
        pool(edge);
        launch(on_, grid(node), mixed::mix<S>, edges.sizes(edge), edges.terms(edge), edges.affine, pointer<A>(sum),
               edge > first);
      }
      S* kept = number + 1 < cell_.nodes ? edges.tensor(edges.slots.node(number)) : nullptr;
      launch(on_, grid(node), mixed::store_node<S>, edges.sizes(0), pointer<A>(sum), kept, edges.kept_step(), out,
             number, cell_.nodes);
    }
  }

 private:
  const MixedEdges<S>& edges_;
  const MixedCell& cell_;
  const Tensor& on_;
  Tensor moments_;

  static Grid grid(int64_t numbers) { return {blocks_of(numbers, mixed::THREADS), mixed::THREADS}; }

  void convolve(int edge) {
    for (const Candidate& one : cell_.candidates) {
      if (one.halves == 0 && !(one.operation == IDENTITY && edges_.reduces(edge))) continue;
      Forward<S> program(on_, edges_.single(edge, one), false);
      program.add_products(FIRST, 0);
      if (one.halves == 2) program.add_products(SECOND, 0);
      program.run();
    }
  }

  void pool(int edge) {
    edges_.run_pools(edge);
    const mixed::Sizes sizes = edges_.sizes(edge);
    const unsigned children = unsigned(edges_.children()), chunks = unsigned(edges_.chunks());
    int64_t pool = 0;
    for (const Candidate& one : cell_.candidates) {
      if (!one.pool()) continue;
      const S* z = edges_.pooled + pool++ * edges_.children() * edges_.node_size();
      const int norm = edges_.norm(edge, one);
      if (edges_.given == nullptr)
        launch(on_, {dim3(chunks, blocks_of(cell_.channels, mixed::THREADS), children), mixed::THREADS,
                     shared_bytes<A>(2 * mixed::THREADS)},
               mixed::sum_moments<S>, sizes, edges_.rows(), z, pointer<A>(moments_));
      launch(on_, {dim3(blocks_of(cell_.channels, batch::LANES), children), mixed::THREADS,
                   shared_bytes<double>(mixed::THREADS)},
             mixed::finish_moments<S>, sizes, int64_t(chunks), z, pointer<A>(moments_), norm, edges_.given,
             edges_.gain(edges_.weights, norm), edges_.bias(edges_.weights, norm), edges_.used, edges_.affine);
    }
  }
};

std::tuple<Tensor, Tensor, Tensor> mixed_cell(const Tensor& input0, const Tensor& input1, const Tensor& mixing,
                                              const std::vector<Tensor>& weights,
                                              const std::vector<int64_t>& operations,
                                              const std::optional<Tensor>& statistics, int64_t stride, int64_t slots) {
  const MixedCell cell(input0, input1, mixing, weights, operations, stride);
  check_mixed(cell, input1, mixing, weights);
  const int64_t norms = int64_t(cell.edges.size()) * cell.norms, channels = cell.channels, children = cell.children;
  if (statistics.has_value()) {
    check_weights(input1, {&*statistics});
    STD_TORCH_CHECK(statistics->numel() == children * norms * 2 * channels, "statistics must be [M, E * N, 2, C]");
  }
  STD_TORCH_CHECK(slots == 0 || slots == cell.slots(), "slots must be 0 or what the cell keeps");
  return dispatch(input1, [&]<class S>() {
    using A = Arithmetic<S>;
    const MixedSlots places{cell, slots > 0};
    const auto images = [&](int64_t count) {
      return empty(input1, {children, count, cell.batch, cell.out_height(), cell.out_width(), channels});
    };
    Tensor out = empty(input1, {children, cell.batch, cell.out_height(), cell.out_width(), cell.nodes * channels});
    Tensor saved = images(places.count());
    Tensor used = empty(input1, {children, norms, 2, channels}, arithmetic_type(input1));
    Tensor affine = empty(input1, {children, norms, 2, channels}, arithmetic_type(input1));
    launch(input1, {blocks_of(used.numel(), mixed::THREADS), mixed::THREADS}, mixed::start_statistics<A>,
           pointer<A>(used), used.numel(), int(channels));
    MixedEdges<S> edges{cell,   places, input0, input1, mixing, weights, pointer<A>(statistics), pointer<S>(saved),
                        pointer<A>(used), pointer<A>(affine), nullptr};
    Tensor pooled = images(edges.pools());
    edges.pooled = pointer<S>(pooled);
    MixedForward<S>(edges, pointer<S>(out));
    return std::make_tuple(out, slots > 0 ? saved : images(0), used);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) { m.impl("mixed_cell", TORCH_BOX(&mixed_cell)); }
