// The launches that gather gradients.
#pragma once
#include "phases.h"

namespace enas {

// The gradient of a node (FIRST) with the sums that its edges' batch norms need, or the sums of LOOSE or OUTPUT.
template <class S>
void run_gather(const Tensor& on, const CellBackward<S>& backward, Phase phase, int node, const Work& work);
// The gradients of both inputs.
template <class S>
void run_gather_inputs(const Tensor& on, const CellBackward<S>& backward, S* dinput0, S* dinput1);
// dscale from the parts that the nodes left.
template <class S>
void run_sum_scales(const Tensor& on, const CellBackward<S>& backward, Arithmetic<S>* dscale);
// How many parts an image's share of dscale has.
template <class S>
int scale_parts(const Cell<S>& cell);

}  // namespace enas
