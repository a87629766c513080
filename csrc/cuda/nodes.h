// The launches that go over pixels one by one.
#pragma once
#include "phases.h"

namespace enas {

// A node of all children: to its place, or to `result`.
template <class S>
void run_nodes(const Tensor& on, const Cell<S>& cell, int node, S* result);
// The output: the batch norm of the projection, or the loose ends side by side.
template <class S>
void run_outputs(const Tensor& on, const Cell<S>& cell, S* out);
// Statistics (0, 1) for all batch norms, before those that are used get theirs.
template <class S>
void run_clear_statistics(const Tensor& on, const Cell<S>& cell);
// The affine maps of the batch norms that were used, from their statistics, for backward.
template <class S>
void run_restore_affine(const Tensor& on, const Cell<S>& cell);

}  // namespace enas
