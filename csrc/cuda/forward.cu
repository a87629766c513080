// The kernel of programs forward, and how their steps are made.
#include "forward.h"
#include "nodes.cuh"
#include "product.cuh"
#include "program.cuh"

namespace enas {
namespace {

enum Kind : int { CLEAR, PRODUCTS, NODE, OUT };

template <class S>
__global__ void __launch_bounds__(THREADS, RESIDENT)
    run_forward(const __grid_constant__ ForwardArguments<S> arguments, const __grid_constant__ Steps steps) {
  const Cell<S>& cell = arguments.cell;
  each_block(steps, [&](const Step& step, const uint3& block) {
    if (step.kind == CLEAR) {
      clear(block, arguments.cleared);
    } else if (step.kind == PRODUCTS) {
      const Phase phase = Phase(step.phase);
      const auto compute = [&](auto number) {
        compute_products<decltype(number)::value>(block, cell, phase, step.node, arguments.products[phase],
                                                  arguments.moments, arguments.cleared.tickets);
      };
      with_number<S>(cell.outputs, compute);
    } else if (step.kind == NODE) {
      if (cell.vector) sum_node<WIDE>(block, cell, step.node, arguments.node_parts, arguments.node);
      else sum_node<1>(block, cell, step.node, arguments.node_parts, arguments.node);
    } else {
      if (cell.vector) write_output<WIDE>(block, cell, arguments.output_parts, arguments.out);
      else write_output<1>(block, cell, arguments.output_parts, arguments.out);
    }
  });
}

}  // namespace

template <class S>
Forward<S>::Forward(const Tensor& on, const Cell<S>& cell, bool clears) : on_(on), work_(on, cell) {
  arguments_.cell = cell;
  arguments_.moments = pointer<A>(work_.sums);
  arguments_.cleared = {work_.tickets.numel(), clears ? int64_t(cell.children) * cell.norms * 2 * cell.outputs : 0,
                        pointer<int>(work_.tickets), cell.used, cell.outputs};
  program_.add(CLEAR, 0, 0, true, blocks_of(arguments_.cleared.numbers(), THREADS), 0);
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
  const bool waits = !(phase == LOOSE && program_.after(NODE));
  program_.add(PRODUCTS, phase, node, waits, dim3(plan.tiling.chunks * plan.output_pieces, jobs_of(cell, phase)),
               bytes(piece));
}

template <class S>
void Forward<S>::add_node(int node, S* result) {
  const Cell<S>& cell = arguments_.cell;
  arguments_.node = result;
  arguments_.node_parts = parts(cell.channels);
  program_.add(NODE, 0, node, true, dim3(cell.images * arguments_.node_parts, cell.children), 0);
}

template <class S>
void Forward<S>::add_output(S* out) {
  const Cell<S>& cell = arguments_.cell;
  arguments_.out = out;
  arguments_.output_parts = parts(cell.project.weight != nullptr ? cell.channels : cell.blocks * cell.channels);
  program_.add(OUT, 0, 0, true, dim3(cell.images * arguments_.output_parts, cell.children), 0);
}

template <class S>
void Forward<S>::run() const {
  program_.run(on_, THREADS, run_forward<S>, arguments_);
}

// Parts of an image, so that a thread has about eight accesses.
template <class S>
int Forward<S>::parts(int channels) const {
  const Cell<S>& cell = arguments_.cell;
  return int(std::max<int64_t>(1, blocks_of(cell.out.pixels() * channels / (cell.vector ? WIDE : 1), 8 * THREADS)));
}

#define ENAS_INSTANTIATE(S) template class Forward<S>;
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
