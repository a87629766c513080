// The kernel of the program of a cell, a doubled separable convolution or a half of one forward: what it is told, and
// its steps.
#pragma once
#include "plans.h"
#include "steps.h"

namespace enas {

struct ForwardStep {
  enum Kind : uint8_t { CLEAR, PRODUCTS, NODE, OUT };
};

// What the first step of a program clears: tickets, and the statistics [M][N][2][C] of batch norms that are not used,
// which are mean 0 and variance 1.
template <class A>
struct Cleared {
  int64_t tickets_count, used_count;
  int* tickets;
  A* used;
  int channels;
  ENAS_BOTH int64_t numbers() const { return tickets_count > used_count ? tickets_count : used_count; }
};

template <class S>
struct ForwardArguments {
  using A = Arithmetic<S>;
  Cell<S> cell;
  ProductPlan products[4];  // of each phase
  Cleared<A> cleared;
  A* moments;
  S *node, *out;
  int node_parts, output_parts;
};

template <class S>
auto forward_kernel() -> void (*)(ForwardArguments<S>, Steps);

}  // namespace enas
