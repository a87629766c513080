// The steps of passes: what each is divided into, and what it waits for.
#include "passes.h"

namespace enas {
namespace {

// The gradient of the weights is written once a chunk: fewer chunks where the weights are large beside a tile.
template <class S>
Tiling gradient_tiling(const Cell<S>& cell) {
  const int64_t numbers = int64_t(cell.channels) * cell.outputs;
  return Tiling(cell.out, cell.images, std::clamp<int64_t>((1 << 19) / numbers, 16, MOST_CHUNKS));
}

template <class S>
GatherPlan gather_plan(const Cell<S>& cell) {
  GatherPlan plan{};
  const int64_t size = cell.out.pixels() * cell.channels / (cell.vector ? WIDE : 1);
  plan.slabs = int(blocks_of(cell.channels, SLAB));
  plan.images = int(blocks_of(cell.images, MOST_CHUNKS));
  plan.parts =
      int(std::clamp<int64_t>(MOST_CHUNKS / std::max(cell.images, 1), 1, std::max(1u, blocks_of(size, 4 * THREADS))));
  plan.chunks = int(blocks_of(cell.images, std::max(plan.images, 1))) * plan.parts;
  return plan;
}

}  // namespace

template <class S>
Forward<S>::Forward(const Tensor& on, const Cell<S>& cell, bool clears) : on_(on), work_(on, cell) {
  arguments_.cell = cell;
  arguments_.moments = pointer<A>(work_.sums);
  arguments_.cleared = {work_.tickets.numel(), clears ? int64_t(cell.children) * cell.norms * 2 * cell.outputs : 0,
                        pointer<int>(work_.tickets), cell.used, cell.outputs};
  program_.add(ForwardStep::CLEAR, 0, 0, true, blocks_of(arguments_.cleared.numbers(), THREADS), 0);
}

template <class S>
void Forward<S>::add_products(Phase phase, int node) {
  const Cell<S>& cell = arguments_.cell;
  const int width = 10 * choose_number<S>(cell.outputs), side = window_side(cell, phase);
  const auto area = [&](int piece) { return std::max(side * side * piece, PIXELS * (width + 1)); };
  const auto bytes = [&](int piece) {
    return shared_bytes<A>(area(piece)) + shared_bytes<A>(piece * PITCH) + shared_bytes<A>(piece * width) +
           shared_bytes<double>(THREADS) + shared_bytes<int>(1);
  };
  const int piece = choose_piece(bytes);
  const ProductPlan plan{Tiling(cell.out, cell.images), piece, int(blocks_of(cell.outputs, width)), area(piece)};
  arguments_.products[phase] = plan;
  // Unused inputs wait for no node, and a node uses no scratch.
  const bool waits = !(phase == LOOSE && program_.after(ForwardStep::NODE));
  program_.add(ForwardStep::PRODUCTS, phase, node, waits,
               dim3(plan.tiling.chunks * plan.output_pieces, jobs_of(cell, phase)), bytes(piece));
}

template <class S>
void Forward<S>::add_node(int node, S* result) {
  const Cell<S>& cell = arguments_.cell;
  arguments_.node = result;
  arguments_.node_parts = parts(cell.channels);
  program_.add(ForwardStep::NODE, 0, node, true, dim3(cell.images * arguments_.node_parts, cell.children), 0);
}

template <class S>
void Forward<S>::add_output(S* out) {
  const Cell<S>& cell = arguments_.cell;
  arguments_.out = out;
  arguments_.output_parts = parts(cell.project.weight != nullptr ? cell.channels : cell.blocks * cell.channels);
  program_.add(ForwardStep::OUT, 0, 0, true, dim3(cell.images * arguments_.output_parts, cell.children), 0);
}

template <class S>
void Forward<S>::run() const {
  program_.run(on_, THREADS, forward_kernel<S>(), arguments_);
}

// Parts of an image, so that a thread has about eight accesses.
template <class S>
int Forward<S>::parts(int channels) const {
  const Cell<S>& cell = arguments_.cell;
  return int(std::max<int64_t>(1, blocks_of(cell.out.pixels() * channels / (cell.vector ? WIDE : 1), 8 * THREADS)));
}

template <class S>
Backward<S>::Backward(const Tensor& on, const CellBackward<S>& backward, A* dscale)
    : on_(on), work_(on, backward.cell) {
  const Cell<S>& cell = backward.cell;
  arguments_.backward = backward;
  arguments_.gather = gather_plan(cell);
  arguments_.sums = pointer<A>(work_.sums);
  arguments_.cleared = {work_.tickets.numel(), 0, pointer<int>(work_.tickets), nullptr, 1};
  take_weights();
  if (dscale != nullptr) {
    const int parts = arguments_.gather.parts * arguments_.gather.slabs;
    arguments_.scales = {dscale, int64_t(cell.children) * cell.edges * cell.scale_images,
                         parts * (cell.scale_images == 1 ? cell.images : 1)};
    arguments_.backward.dscale = take(int64_t(cell.children) * cell.edges * cell.images * parts);
    arguments_.backward.dscale_parts = parts;
  }
  program_.add(BackwardStep::CLEAR, 0, 0, true, blocks_of(arguments_.cleared.numbers(), THREADS), 0);
}

template <class S>
Arithmetic<S>* Backward<S>::take(int64_t numbers) {
  memory_.push_back(empty(on_, {numbers}, arithmetic_type(on_)));
  return pointer<A>(memory_.back());
}

template <class S>
void Backward<S>::take_weights() {
  const CellBackward<S>& backward = arguments_.backward;
  const Cell<S>& cell = backward.cell;
  const int64_t taps = int64_t(largest_kernel(cell)) * largest_kernel(cell) * cell.channels;
  const int64_t product = int64_t(cell.channels) * cell.outputs, children = cell.children;
  const int64_t chunks = gradient_tiling(cell).chunks, tiles = Tiling(cell.in, cell.images).tiles;
  const int64_t depthwise_chunks = std::min(tiles, MOST_CHUNKS);
  const int64_t jobs = children * std::max(cell.sides, backward.projected ? cell.slots() : 2);
  const int64_t edges = children * cell.edges;
  WeightSums<A>& sums = arguments_.weights;
  for (int half = 0; half < 2; ++half) {
    sums.product_chunks[half] = take((half == 0 ? jobs : children * cell.sides) * chunks * product);
    sums.depthwise_chunks[half] = take(children * cell.sides * depthwise_chunks * taps);
  }
  sums.product = take(edges * 2 * product);
  sums.depthwise = take(edges * 2 * taps);
  sums.loose = take(children * 2 * product);
  sums.project = take(backward.projected ? children * cell.slots() * product : 0);
  sums.taps = largest_kernel(cell) * largest_kernel(cell);
}

template <class S>
void Backward<S>::add_affine() {
  const Cell<S>& cell = arguments_.backward.cell;
  program_.add(BackwardStep::AFFINE, 0, 0, false,
               dim3(blocks_of(int64_t(cell.norms) * cell.outputs, THREADS), cell.children), 0);
}

template <class S>
void Backward<S>::add_gather(Phase phase, int node) {
  const GatherPlan& plan = arguments_.gather;
  const size_t shared = shared_bytes<double>(THREADS) + shared_bytes<A>(THREADS * WIDE) + shared_bytes<int>(1);
  const int children = arguments_.backward.cell.children, jobs = phase == LOOSE ? children * 2 : children;
  // It needs nothing of the sums of chunks, nor do they need its scratch.
  const bool waits = !program_.after(BackwardStep::CHUNKS);
  program_.add(BackwardStep::GATHER, phase, node, waits, dim3(plan.chunks * plan.slabs, jobs), shared);
}

template <class S>
void Backward<S>::add_products(Phase phase, int node) {
  const Cell<S>& cell = arguments_.backward.cell;
  const int width = 10 * choose_number<S>(cell.outputs), side = window_side(cell, phase);
  const auto bytes = [&](int piece) {
    return shared_bytes<A>(side * side * piece) + shared_bytes<A>(std::max(piece * PITCH, PIXELS * (piece + 1))) +
           shared_bytes<A>(width * PIECE) + shared_bytes<A>(width * PITCH);
  };
  const int piece = choose_piece(bytes);
  const ProductPlan plan{gradient_tiling(cell), piece, 1, side * side * piece};
  arguments_.products[phase] = plan;
  const int jobs = jobs_of(cell, phase) * (phase == OUTPUT ? cell.slots() : 1);
  program_.add(BackwardStep::PRODUCTS, phase, node, true, dim3(plan.tiling.chunks, jobs), bytes(piece));
}

template <class S>
void Backward<S>::add_depthwise(Phase phase, int node) {
  const Cell<S>& cell = arguments_.backward.cell;
  const int kernel = largest_kernel(cell), stride = phase == FIRST ? cell.stride : 1;
  // Routes within a strided cell have stride 1 too.
  const int side = std::max(cell.dilation == 1 ? met(kernel, 1, 1) : 0, met(kernel, stride, cell.dilation));
  const auto bytes = [&](int piece) {
    return shared_bytes<A>(side * side * piece) + shared_bytes<A>(PIXELS * piece) +
           shared_bytes<A>(std::max(7 * SIDE * piece, THREADS)) + shared_bytes<double>(THREADS) + shared_bytes<int>(1);
  };
  DepthwisePlan plan{Tiling(cell.in, cell.images), Tiling(cell.out, cell.images), choose_piece(bytes), 0, 0};
  plan.pieces = int(blocks_of(cell.channels, plan.piece));
  plan.area = side * side * plan.piece;
  arguments_.depthwise[phase] = plan;
  program_.add(BackwardStep::CONVOLUTIONS, phase, node, true, dim3(plan.chunks() * plan.pieces, jobs_of(cell, phase)),
               bytes(plan.piece));
}

template <class S>
void Backward<S>::add_chunks(Phase phase, int node, int halves) {
  const Cell<S>& cell = arguments_.backward.cell;
  const int64_t numbers = int64_t(cell.channels) * (cell.outputs + (phase == FIRST ? arguments_.weights.taps : 0));
  const int jobs = jobs_of(cell, phase) * (phase == OUTPUT ? cell.slots() : 1);
  program_.add(BackwardStep::CHUNKS, phase, node, true, dim3(blocks_of(numbers, THREADS), jobs, halves), 0);
}

template <class S>
void Backward<S>::add_inputs(S* dinput0, S* dinput1) {
  const Cell<S>& cell = arguments_.backward.cell;
  const int64_t size = cell.in.pixels() * cell.channels / (cell.vector ? WIDE : 1);
  arguments_.inputs = {{dinput0, dinput1}};
  arguments_.input_parts = int(std::max(1u, blocks_of(size, 8 * THREADS)));
  // A shared input has a gradient without children too: zero.
  program_.add(BackwardStep::INPUTS, 0, 0, !program_.after(BackwardStep::CHUNKS),
               dim3(cell.images * arguments_.input_parts, std::max(cell.children, 1), 2),
               shared_bytes<uint64_t>(cell.children));
}

template <class S>
void Backward<S>::add_scales() {
  const bool waits = !program_.after(BackwardStep::INPUTS);
  program_.add(BackwardStep::SCALES, 0, 0, waits, blocks_of(arguments_.scales.numbers, THREADS), 0);
}

template <class S>
void Backward<S>::add_tables(const WeightTables<A>& tables) {
  arguments_.tables = tables;
  program_.add(BackwardStep::TABLES, 0, 0, true, blocks_of(tables.numbers(), THREADS), 0);
}

template <class S>
void Backward<S>::run() const {
  program_.run(on_, THREADS, backward_kernel<S>(), arguments_);
}

#define ENAS_INSTANTIATE(S)  \
  template class Forward<S>; \
  template class Backward<S>;
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
