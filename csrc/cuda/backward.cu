// The kernel of programs backward.
#include "backward.h"

#include "depthwise_backward.cuh"
#include "gather.cuh"
#include "gradients.cuh"
#include "product_backward.cuh"
#include "program.cuh"

namespace enas {
namespace {

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
      case BackwardStep::CLEAR: return clear(block, arguments.cleared);
      case BackwardStep::AFFINE: return restore_affine(block, backward.cell);
      case BackwardStep::GATHER:
        if (vector) return gather_nodes<WIDE>(block, arguments, phase, step.node);
        return gather_nodes<1>(block, arguments, phase, step.node);
      case BackwardStep::PRODUCTS:
        return with_number<S>(backward.cell.outputs, [&](auto number) {
          go_through_products<decltype(number)::value>(block, arguments, phase, step.node);
        });
      case BackwardStep::CONVOLUTIONS: return go_through_convolutions(block, arguments, phase, step.node);
      case BackwardStep::CHUNKS:
        return sum_chunks(block, backward, phase, step.node, arguments.products[phase].tiling, arguments.depthwise[0],
                          arguments.weights);
      case BackwardStep::INPUTS:
        if (vector) return gather_input<WIDE>(block, backward, arguments.inputs, arguments.input_parts);
        return gather_input<1>(block, backward, arguments.inputs, arguments.input_parts);
      case BackwardStep::SCALES: return sum_scales(block, backward.dscale, arguments.scales);
      case BackwardStep::TABLES: return sum_tables(block, backward, arguments.weights, arguments.tables);
    }
  });
}

}  // namespace

template <class S>
auto backward_kernel() -> void (*)(BackwardArguments<S>, Steps) {
  return run_backward<S>;
}

#define ENAS_INSTANTIATE(S) template auto backward_kernel<S>()->void (*)(BackwardArguments<S>, Steps);
ENAS_STORAGE_TYPES(ENAS_INSTANTIATE)
#undef ENAS_INSTANTIATE

}  // namespace enas
