// The kernel of programs backward, and how their steps are made.
#include "backward.h"

#include "depthwise_backward.cuh"
#include "gather.cuh"
#include "gradients.cuh"
#include "product_backward.cuh"
#include "program.cuh"

namespace enas {
namespace {

enum Kind : int { CLEAR, AFFINE, GATHER, PRODUCTS, CONVOLUTIONS, CHUNKS, INPUTS, SCALES, TABLES };

// The large steps are functions that are called: inlined into one kernel they would take each other's registers, and
// ptxas three times as long. setup.py bounds their registers as __launch_bounds__ does those of the kernel.
template <int V, class S>
__device__ __attribute__((noinline)) void gather_nodes(uint3 block, const BackwardArguments<S>& arguments, Phase phase,
                                                      int node) {
  gather<V>(block, arguments.backward, phase, node, arguments.gather, arguments.sums, arguments.cleared.tickets);
}

template <int N, class S>
__device__ __attribute__((noinline)) void go_through_products(uint3 block, const BackwardArguments<S>& arguments,
                                                             Phase phase, int node) {
  compute_product_gradients<N>(block, arguments.backward, phase, node, arguments.products[phase],
                               arguments.weights.product_chunks[phase == SECOND]);
}

template <class S>
__device__ __attribute__((noinline)) void go_through_convolutions(uint3 block, const BackwardArguments<S>& arguments,
                                                                 Phase phase, int node) {
  compute_depthwise_gradients(block, arguments.backward, phase, node, arguments.depthwise[phase],
                              arguments.weights.taps, arguments.weights.depthwise_chunks[phase], arguments.sums,
                              arguments.cleared.tickets);
}

template <class S>
__global__ void __launch_bounds__(THREADS, RESIDENT)
    run_backward(const __grid_constant__ BackwardArguments<S> arguments, const __grid_constant__ Steps steps) {
  const CellBackward<S>& backward = arguments.backward;
  const bool vector = backward.cell.vector;
  each_block(steps, [&](const Step& step, const uint3& block) {
    const Phase phase = Phase(step.phase);
    switch (step.kind) {
      case CLEAR: return clear(block, arguments.cleared);
      case AFFINE: return restore_affine(block, backward.cell);
      case GATHER:
        if (vector) return gather_nodes<WIDE>(block, arguments, phase, step.node);
        return gather_nodes<1>(block, arguments, phase, step.node);
      case PRODUCTS:
        return with_number<S>(backward.cell.outputs, [&](auto number) {
          go_through_products<decltype(number)::value>(block, arguments, phase, step.node);
        });
      case CONVOLUTIONS: return go_through_convolutions(block, arguments, phase, step.node);
      case CHUNKS:
        return sum_chunks(block, backward, phase, step.node, arguments.products[phase].tiling, arguments.depthwise[0],
                          arguments.weights);
      case INPUTS:
        if (vector) return gather_input<WIDE>(block, backward, arguments.inputs, arguments.input_parts);
        return gather_input<1>(block, backward, arguments.inputs, arguments.input_parts);
      case SCALES: return sum_scales(block, backward.dscale, arguments.scales);
      case TABLES: return sum_tables(block, backward, arguments.weights, arguments.tables);
    }
  });
}

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
  program_.add(CLEAR, 0, 0, true, blocks_of(arguments_.cleared.numbers(), THREADS), 0);
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
  program_.add(AFFINE, 0, 0, false, dim3(blocks_of(int64_t(cell.norms) * cell.outputs, THREADS), cell.children), 0);
}

template <class S>
void Backward<S>::add_gather(Phase phase, int node) {
  const GatherPlan& plan = arguments_.gather;
  const size_t shared = shared_bytes<double>(THREADS) + shared_bytes<A>(THREADS * WIDE) + shared_bytes<int>(1);
  const int children = arguments_.backward.cell.children, jobs = phase == LOOSE ? children * 2 : children;
  // It needs nothing of the sums of chunks, nor do they need its scratch.
  program_.add(GATHER, phase, node, !program_.after(CHUNKS), dim3(plan.chunks * plan.slabs, jobs), shared);
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
  program_.add(PRODUCTS, phase, node, true, dim3(plan.tiling.chunks, jobs), bytes(piece));
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
  program_.add(CONVOLUTIONS, phase, node, true, dim3(plan.chunks() * plan.pieces, jobs_of(cell, phase)),
               bytes(plan.piece));
}

template <class S>
void Backward<S>::add_chunks(Phase phase, int node, int halves) {
  const Cell<S>& cell = arguments_.backward.cell;
  const int64_t numbers = int64_t(cell.channels) * (cell.outputs + (phase == FIRST ? arguments_.weights.taps : 0));
  const int jobs = jobs_of(cell, phase) * (phase == OUTPUT ? cell.slots() : 1);
  program_.add(CHUNKS, phase, node, true, dim3(blocks_of(numbers, THREADS), jobs, halves), 0);
}

template <class S>
void Backward<S>::add_inputs(S* dinput0, S* dinput1) {
  const Cell<S>& cell = arguments_.backward.cell;
  const int64_t size = cell.in.pixels() * cell.channels / (cell.vector ? WIDE : 1);
  arguments_.inputs = {{dinput0, dinput1}};
  arguments_.input_parts = int(std::max(1u, blocks_of(size, 8 * THREADS)));
  // A shared input has a gradient without children too: zero.
  program_.add(INPUTS, 0, 0, !program_.after(CHUNKS),
               dim3(cell.images * arguments_.input_parts, std::max(cell.children, 1), 2),
               shared_bytes<uint64_t>(cell.children));
}

template <class S>
void Backward<S>::add_scales() {
  program_.add(SCALES, 0, 0, !program_.after(INPUTS), blocks_of(arguments_.scales.numbers, THREADS), 0);
}

template <class S>
void Backward<S>::add_tables(const WeightTables<A>& tables) {
  arguments_.tables = tables;
  program_.add(TABLES, 0, 0, true, blocks_of(tables.numbers(), THREADS), 0);
}

template <class S>
void Backward<S>::run() const {
  program_.run(on_, THREADS, run_backward<S>, arguments_);
}

#define ENAS_INSTANTIATE(S) template class Backward<S>;
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
