// The kernel of programs forward.
#include "forward.h"
#include "nodes.cuh"
#include "product.cuh"
#include "program.cuh"

namespace enas {
namespace {

template <class S>
__global__ void __launch_bounds__(THREADS, RESIDENT)
    run_forward(const __grid_constant__ ForwardArguments<S> arguments, const __grid_constant__ Steps steps) {
  const Cell<S>& cell = arguments.cell;
  each_block(steps, [&](const Step& step, const uint3& block) {
    if (step.kind == ForwardStep::CLEAR) {
      clear(block, arguments.cleared);
    } else if (step.kind == ForwardStep::PRODUCTS) {
      const Phase phase = Phase(step.phase);
      compute_products(block, cell, phase, step.node, arguments.products[phase], arguments.moments,
                       arguments.cleared.tickets);
    } else if (step.kind == ForwardStep::NODE) {
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
auto forward_kernel() -> void (*)(ForwardArguments<S>, Steps) {
  return run_forward<S>;
}

#define ENAS_INSTANTIATE(S) template auto forward_kernel<S>()->void (*)(ForwardArguments<S>, Steps);
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
