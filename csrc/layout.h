// What a route means and where a cell keeps what its backward needs; shared by the CPU and the CUDA twin.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define ENAS_BOTH __host__ __device__
#else
#define ENAS_BOTH
#endif

namespace enas {

// Operation codes, as enas/kernels/interface.py has them; the last two only a mixed cell has.
enum Operation : int {
  SEPARABLE_3, SEPARABLE_5, AVERAGE_POOL_3, MAX_POOL_3, IDENTITY, ZERO, DILATED_3, DILATED_5
};

// An edge of one child, as it stands in routes [E, 3].
struct Route {
  int32_t source, operation, row;

  // Only edges that read an input of the cell are strided.
  ENAS_BOTH int stride(int cell_stride) const { return source < 2 ? cell_stride : 1; }
  ENAS_BOTH bool separable() const { return operation == SEPARABLE_3 || operation == SEPARABLE_5; }
  ENAS_BOTH bool strided_identity(int cell_stride) const { return operation == IDENTITY && stride(cell_stride) > 1; }
  ENAS_BOTH int kernel() const { return operation == SEPARABLE_5 ? 5 : 3; }
};

// The normalisations of a cell of E edges, as rows of its statistics [N, 2, C].
struct Norms {
  int edges;
  ENAS_BOTH int edge(int edge, int half) const { return 2 * edge + half; }
  ENAS_BOTH int loose(int slot) const { return 2 * edges + slot; }
  ENAS_BOTH int output() const { return 2 * edges + 2; }
  ENAS_BOTH int count() const { return 2 * edges + 3; }
};

// The tensors [B, H', W', C] that a cell of E edges keeps where nothing is known of its routes: two for an edge (its
// outputs before batch norm), one for a node, two for unused inputs of a strided cell, one for the projected output.
struct FullSlots {
  int edges;
  ENAS_BOTH int edge(int edge, int half) const { return 2 * edge + half; }
  ENAS_BOTH int node(int node) const { return 2 * edges + node; }
  ENAS_BOTH int loose(int slot) const { return 2 * edges + edges / 2 + slot; }
  ENAS_BOTH int output() const { return 2 * edges + edges / 2 + 2; }
  ENAS_BOTH int count() const { return 2 * edges + edges / 2 + 3; }
};

}  // namespace enas
