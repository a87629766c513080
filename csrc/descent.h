// A step of gradient descent: the formulas of one number, for both twins; see enas/kernels/descent.py.
#pragma once
#include <cmath>

#include "layout.h"

namespace enas {

// What all numbers of a step share.
template <class A>
struct DescentRule {
  A factor;  // of every gradient: what clipping leaves of it
  A momentum, rate;
  bool nesterov;
};

// What clipping to a norm of `clip` leaves of gradients whose norm is `norm`, as torch guards against 0; a clip of 0 is
// none. What is not a number stays so.
template <class A>
ENAS_BOTH inline A clip_factor(A norm, A clip) {
  if (clip == A(0)) return A(1);
  const A ratio = clip / (norm + A(1e-6));
  return ratio >= A(1) ? A(1) : ratio;
}

// Moves one weight and its momentum.
template <class A>
ENAS_BOTH inline void descend_one(const DescentRule<A>& rule, A decay, A gradient, A& weight, A& momentum) {
  const A change = rule.factor * gradient + decay * weight;
  momentum = rule.momentum * momentum + change;
  weight -= rule.rate * (rule.nesterov ? change + rule.momentum * momentum : momentum);
}

}  // namespace enas
