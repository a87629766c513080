// Weights in the order in which products read them, filled up to whole fours.
#pragma once
#include "pairs.h"

namespace enas::ENAS_LEVEL {

// Prepares weights [real_depth][pitch], of which each row has `real` numbers, as [depth][row_size<A>(outputs)]: what is
// filled up is zero.
template <class A>
inline void put_rows(const A* weights, int64_t pitch, int real_depth, int real, int depth, int outputs, A* prepared) {
  const int size = row_size<A>(outputs);
  for (int k = 0; k < depth; ++k, prepared += size) {
    const int count = k < real_depth ? real : 0;
    if (count > 0) memcpy(prepared, weights + k * pitch, count * sizeof(A));
    memset(prepared + count, 0, (outputs - count) * sizeof(A));
    if (size > outputs) memcpy(prepared + outputs, prepared, outputs * sizeof(A));
  }
}
// The same of their transpose: weights are [real][pitch], of which `real_depth` numbers of a row.
template <class A>
inline void put_columns(const A* weights, int64_t pitch, int real_depth, int real, int depth, int outputs, A* prepared) {
  const int size = row_size<A>(outputs);
  for (int k = 0; k < depth; ++k, prepared += size) {
    for (int n = 0; n < outputs; ++n) prepared[n] = k < real_depth && n < real ? weights[n * pitch + k] : A(0);
    if (size > outputs) memcpy(prepared + outputs, prepared, outputs * sizeof(A));
  }
}

}  // namespace enas::ENAS_LEVEL
