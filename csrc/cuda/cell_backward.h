// What the backward kernels know beside the cell: where gradients come from and where they go.
#pragma once
#include "cell.h"

namespace enas {

template <class S>
struct CellBackward {
  using A = Arithmetic<S>;

  Cell<S> cell;
  const S* grad;                   // of the output; of the one node where there is neither projection nor concatenation
  bool projected, given, centred;  // `centred`: sums of dx * (x - mean of its batch norm), else of dx * x
  S* slots;                        // [M][2 + nodes]: gradients of loose inputs (projected cells) and of nodes
  S* loose_inputs;                 // [M][2] of the size of inputs: gradients of the loose inputs of a strided cell
  S* edges;         // [M][E] of the size of inputs: what an edge sends to its source, where a pass over it was needed
  S* between;       // [M][sides]: gradient of what the first half's batch norm gives
  S* depthwise;     // [M][sides]: gradient of the depthwise results of the half at hand
  A* coefficients;  // [M][N][3][C']: on_grad, on_z and constant of each batch norm; null where dz is given
  A* dnorms;        // [M][N][2][C']: gradients of gain and bias; of factor and offset where an affine map was given
  A* dscale;        // [M][E][B][parts], or null
  int dscale_parts;

  __device__ S* slot(int child, int slot) const {
    return slots + (int64_t(child) * cell.slots() + slot) * cell.out_size();
  }
  __device__ S* side(S* all, int child, int edge) const {
    return all + (int64_t(child) * cell.sides + edge % cell.sides) * cell.images * cell.out.pixels() * cell.channels;
  }
  __device__ S* edge(int child, int edge) const {
    return edges + (int64_t(child) * cell.edges + edge) * cell.in_size();
  }
  __device__ S* loose_input(int child, int slot) const {
    return loose_inputs + (int64_t(child) * 2 + slot) * cell.in_size();
  }
  __device__ A* coefficients_of(int child, int norm) const {
    return coefficients + (int64_t(child) * cell.norms + norm) * 3 * cell.outputs;
  }
  __device__ A* dnorm_of(int child, int norm) const { return dnorms + cell.norm(child, norm); }
};

// A gradient as it lies in memory: pixel p of an image at p * pitch.
template <class S>
struct Pixels {
  const S* data;
  int64_t pitch;
};

// The gradient of a loose end: of the projection, or of its block of the concatenation.
template <class S>
__device__ Pixels<S> find_end_gradient(const CellBackward<S>& backward, int child, int slot) {
  const Cell<S>& cell = backward.cell;
  if (backward.projected) return {backward.slot(child, slot), cell.channels};
  const int64_t pitch = int64_t(cell.blocks) * cell.channels;
  return {backward.grad + int64_t(child) * cell.images * cell.out.pixels() * pitch + cell.block[slot] * cell.channels,
          pitch};
}

// The gradient of what a product's batch norm gives, before an edge's scale.
template <class S>
__device__ Pixels<S> find_gradient(const CellBackward<S>& backward, const Product<S>& product) {
  const Cell<S>& cell = backward.cell;
  const int child = product.child;
  const Pixels<S> whole{backward.grad + child * cell.out_size(), cell.outputs};
  if (product.phase == OUTPUT) return whole;
  if (product.phase == LOOSE) return find_end_gradient(backward, child, product.edge);
  if (product.phase == FIRST && product.route.separable()) {
    if (backward.between == nullptr) return whole;
    return {backward.side(backward.between, child, product.edge), cell.outputs};
  }
  if (backward.slots == nullptr) return whole;
  return {backward.slot(child, 2 + product.edge / cell.sides), cell.outputs};
}

// Whether an edge's scale multiplies the gradient of this product's batch norm: the last one of its edge.
template <class S>
__device__ bool scaled(const Product<S>& product) {
  return product.phase == SECOND || (product.phase == FIRST && !product.route.separable());
}

}  // namespace enas
