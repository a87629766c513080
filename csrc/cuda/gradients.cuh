// From the sums of chunks to the gradients of the weight tables: first over the chunks of an edge, then over all edges
// that used a row, by child and edge. Every number has one thread, which adds in this order.
#pragma once
#include "tiles.cuh"
#include "weight_sums.h"

namespace enas {

// Blocks: (numbers / THREADS, jobs, halves of FIRST or 1).
template <class S>
__device__ inline void sum_chunks(const uint3& block, const CellBackward<S>& backward, Phase phase, int node,
                                  const Tiling& tiling, const DepthwisePlan& plan,
                                  const WeightSums<Arithmetic<S>>& sums) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int half = int(block.z), slots = phase == OUTPUT ? cell.slots() : 1;
  const int64_t job = block.y, numbers = int64_t(cell.channels) * cell.outputs;
  const int64_t number = int64_t(block.x) * THREADS + threadIdx.x;
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

// Blocks: (numbers of all tables / THREADS).
template <class S>
__device__ inline void sum_tables(const uint3& block, const CellBackward<S>& backward,
                                  const WeightSums<Arithmetic<S>>& sums, const WeightTables<Arithmetic<S>>& tables) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int64_t number = int64_t(block.x) * THREADS + threadIdx.x;
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
