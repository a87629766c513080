// The table of one instruction set; setup.py compiles this file once for each.
#include "dense.h"
#include "descent.h"
#include "images.h"
#include "linear.h"
#include "policy.h"
#include "pool.h"

namespace enas::ENAS_LEVEL {

template <class A>
int64_t half_prepared(const Half& half) {
  return HalfPlan<A>(half).prepared();
}
template <class A>
int64_t channel_scratch(int channels) {
  return 4 * (repeated_size<A>(channels) + LANES<A>);
}

template <class S>
const Level<S>& table();

#define ENAS_TABLE(S, A)                                                                                             \
  template <>                                                                                                        \
  const Level<S>& table<S>() {                                                                                       \
    static const Level<S> entries = {                                                                                \
      half_prepared<A>, half_prepare<A>, half_gradients<A>, half_add_gradients<A>, linear_prepared<A>,               \
      linear_prepare<A>, linear_gradients<A>, linear_add_gradients<A>, dense_prepared<A>, dense_prepare<A>,          \
      dense_gradients<A>, dense_add_gradients<A>, half_scratch<A>, half_forward<S, A>, half_backward<S, A>,          \
      linear_scratch<A>, linear_forward<S, A>, linear_backward<S, A>, dense_scratch<A>, dense_forward<S, A>,         \
      dense_backward<S, A>, finish<S, A>, norm_gradient<S, A>, norm_sums<S, A>, add_affine<S, A>,                    \
      pool_scratch<A>, pool_forward<S, A>, pool_backward<S, A>, widen_all<S, A>, narrow_all<S, A>,                   \
      sum_images<A>, merge_moments<A>, policy_forward<A>, policy_backward<A>, policy_sums<A>, sum_squares<A>,        \
      descend<A>, channel_scratch<A>};                                                                               \
    return entries;                                                                                                  \
  }
ENAS_TABLE(float, float)
ENAS_TABLE(BFloat16, float)
#if !defined(__AVX2__)
ENAS_TABLE(double, double)  // checks gradients, and is not in a hurry: one instruction set has it
#endif

}  // namespace enas::ENAS_LEVEL
