// Gradient descent: loops over the numbers of one tensor.
#pragma once
#include "../../descent.h"
#include "../level.h"

namespace enas::ENAS_LEVEL {

// In double: no square is lost or infinite, and no order of sums shows.
template <class A>
double sum_squares(int64_t size, const A* numbers) {
  constexpr int WAYS = 32;  // sums that do not wait for one another
  double sums[WAYS] = {};
  int64_t i = 0;
  for (; i + WAYS <= size; i += WAYS)
    for (int way = 0; way < WAYS; ++way) sums[way] += double(numbers[i + way]) * double(numbers[i + way]);
  for (; i < size; ++i) sums[0] += double(numbers[i]) * double(numbers[i]);
  double sum = 0;
  for (int way = 0; way < WAYS; ++way) sum += sums[way];
  return sum;
}

template <class A>
void descend(int64_t size, const DescentRule<A>& shared, A decay, const A* __restrict gradient, A* __restrict weight,
             A* __restrict momentum) {
  const DescentRule<A> rule = shared;
  if (gradient == nullptr)
    for (int64_t i = 0; i < size; ++i) descend_one(rule, decay, A(0), weight[i], momentum[i]);
  else
    for (int64_t i = 0; i < size; ++i) descend_one(rule, decay, gradient[i], weight[i], momentum[i]);
}

}  // namespace enas::ENAS_LEVEL
