// From the sums of chunks to the gradients of the weight tables: first over the chunks of an edge, then over all edges
// that used a row, by child and edge. Every number has one thread, which adds in this order.
#pragma once
#include "depthwise_backward.cuh"
#include "product_backward.cuh"

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

// Grid: (numbers / THREADS, jobs, halves of FIRST or 1).
template <class S>
__global__ void sum_chunks(CellBackward<S> backward, Phase phase, int node, Tiling tiling, DepthwisePlan plan,
                           WeightSums<Arithmetic<S>> sums) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int half = int(blockIdx.z), slots = phase == OUTPUT ? cell.slots() : 1;
  const int64_t job = blockIdx.y, numbers = int64_t(cell.channels) * cell.outputs;
  const int64_t number = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  const Product<S> product = find_product(cell, phase == FIRST ? Phase(half) : phase, node, int(job) / slots);
  if (product.sources == 0) return;
  if (phase == OUTPUT && find_source(cell, product, int(job) % slots).x == nullptr) return;
  const int64_t edge = (int64_t(product.child) * cell.edges + product.edge) * 2 + half;
  if (number < numbers) {
    const A* from = sums.product_chunks[half] + job * tiling.chunks * numbers + number;
    A sum = A(0);
    for (int chunk = 0; chunk < tiling.chunks; ++chunk) sum += from[chunk * numbers];
    if (phase == OUTPUT) sums.project[job * numbers + number] = sum;
    else if (phase == LOOSE) sums.loose[job * numbers + number] = sum;
    else sums.product[edge * numbers + number] = sum;
  } else if (phase == FIRST && product.route.separable()) {
    const int kernel = cell.separable[product.route.operation == SEPARABLE_5].kernel,
              chunks = plan.tiling(product).chunks;
    const int64_t own = int64_t(kernel) * kernel * cell.channels, all = int64_t(sums.taps) * cell.channels;
    if (number - numbers >= own) return;
    const A* from = sums.depthwise_chunks[half] + job * plan.chunks() * all + number - numbers;
    A sum = A(0);
    for (int chunk = 0; chunk < chunks; ++chunk) sum += from[chunk * own];
    sums.depthwise[edge * all + number - numbers] = sum;
  }
}

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
};

template <class S>
__global__ void sum_tables(CellBackward<S> backward, WeightSums<Arithmetic<S>> sums,
                           WeightTables<Arithmetic<S>> tables) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int64_t number = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  int at = 0;
  while (at < tables.count && number >= tables.table[at].end) ++at;
  if (at == tables.count) return;
  const WeightTable<A>& table = tables.table[at];
  const int row = int((number - table.begin) / table.row), rest = int((number - table.begin) % table.row);
  const int64_t product = int64_t(cell.channels) * cell.outputs, taps = int64_t(sums.taps) * cell.channels;
  // What `place` of a child (its batch norm `norm`) has for the number `i` of a row's half.
  const auto find = [&](const A* all, int64_t place, int child, int norm, int i) {
    if (table.kind == GAIN) return backward.dnorm_of(child, norm)[i];
    if (table.kind == BIAS) return backward.dnorm_of(child, norm)[cell.outputs + i];
    return all[place * (table.kind == DEPTHWISE ? taps : product) + i];
  };
  A sum = A(0);
  for (int child = 0; child < cell.children; ++child) {
    if (table.owner == OF_SEPARABLE_3 || table.owner == OF_SEPARABLE_5) {
      const int operation = table.owner == OF_SEPARABLE_3 ? SEPARABLE_3 : SEPARABLE_5, size = table.row / tables.halves;
      for (int edge = 0; edge < cell.edges; ++edge) {
        const Route route = cell.route(child, edge);
        if (route.operation != operation || route.row != row) continue;
        const int64_t place = (int64_t(child) * cell.edges + edge) * 2 + rest / size;
        sum += find(table.kind == DEPTHWISE ? sums.depthwise : sums.product, place, child, 2 * edge + rest / size,
                    rest % size);
      }
    } else if (table.owner == OF_IDENTITY) {
      for (int edge = 0; edge < cell.edges; ++edge) {
        const Route route = cell.route(child, edge);
        if (route.strided_identity(cell.stride) && route.row == row)
          sum += find(sums.product, (int64_t(child) * cell.edges + edge) * 2, child, 2 * edge, rest);
      }
    } else {
      const uint64_t read = cell.read(child);
      if (table.owner == OF_PROJECT && table.kind != POINTWISE) {
        sum += find(nullptr, 0, child, 2 * cell.edges + 2, rest);
      } else if (table.owner == OF_PROJECT) {
        for (int slot = 0; slot < cell.slots(); ++slot)
          if (!(read >> slot & 1) && cell.block[slot] == row)
            sum += find(sums.project, int64_t(child) * cell.slots() + slot, child, 0, rest);
      } else {
        for (int slot = 0; slot < 2; ++slot)
          if (!(read >> slot & 1) && cell.loose_row[slot] == row)
            sum += find(sums.loose, int64_t(child) * 2 + slot, child, 2 * cell.edges + slot, rest);
      }
    }
  }
  table.to[number - table.begin] = sum;
}

}  // namespace enas
