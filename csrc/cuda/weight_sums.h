// Where the gradients of weights come together: sums of chunks, sums of edges, tables.
#pragma once
#include "plans.h"

namespace enas {

// Gradients of the weights of one edge, of a child's loose inputs and projection, and the chunks that they are summed
// of.
template <class A>
struct WeightSums {
  A *product_chunks[2], *depthwise_chunks[2];  // [jobs][chunks][...], for each half
  A *product, *depthwise;                      // [M][E][2][channels * outputs], [M][E][2][taps * channels]
  A *loose, *project;                          // [M][2][channels * outputs], [M][slots][channels * outputs]
  int taps;                                    // of the largest kernel
};

// The gradient of one tensor of weights.
enum TableKind : int { DEPTHWISE, POINTWISE, GAIN, BIAS };
enum TableOwner : int { OF_SEPARABLE_3, OF_SEPARABLE_5, OF_IDENTITY, OF_LOOSE, OF_PROJECT };
template <class A>
struct WeightTable {
  A* to;
  int64_t begin, end;  // among the numbers of all tables
  int row;             // numbers in a row
  TableOwner owner;
  TableKind kind;
};
constexpr int MOST_TABLES = 17;
template <class A>
struct WeightTables {
  WeightTable<A> table[MOST_TABLES];
  int count, halves;

  int64_t numbers() const { return count == 0 ? 0 : table[count - 1].end; }
  // One more table, of `size` numbers in `rows` rows.
  void add(A* to, int64_t size, int64_t rows, TableOwner owner, TableKind kind) {
    if (size == 0) return;
    const int64_t begin = numbers();
    table[count++] = {to, begin, begin + size, int(size / rows), owner, kind};
  }
};

}  // namespace enas
