// The steps of a cell that go over pixels one by one: nodes from their edges, the output from its batch norm or from
// the loose ends.
#pragma once
#include "edges.cuh"
#include "forward.h"
#include "tiles.cuh"

namespace enas {

// Calls f(pixel, y, x, channel) for the part of an image that a block of (images x parts, ...) has.
template <int V, class F>
__device__ inline void each_pixel(const Plane& plane, int channels, int part, int parts, F f) {
  const int groups = channels / V, size = int(plane.pixels()) * groups;
  const int begin = int(int64_t(size) * part / parts), end = int(int64_t(size) * (part + 1) / parts);
  for (int i = begin + int(threadIdx.x); i < end; i += THREADS) {
    const int pixel = i / groups;
    f(pixel, pixel / plane.width, pixel % plane.width, i % groups * V);
  }
}

// Blocks: (images x parts, children). The node goes to its place, or to `result`.
template <int V, class S>
__device__ inline void sum_node(const uint3& block, const Cell<S>& cell, int node, int parts, S* result) {
  using A = Arithmetic<S>;
  const int child = int(block.y), image = int(block.x) / parts, part = int(block.x) % parts;
  S* to = (result == nullptr ? cell.place(child, cell.places.node(node)) : result + child * cell.out_size()) +
          image * cell.out.pixels() * cell.channels;
  each_pixel<V>(cell.out, cell.channels, part, parts, [&](int pixel, int y, int x, int channel) {
    A sum[V] = {}, value[V];
    for (int edge = node * cell.sides; edge < (node + 1) * cell.sides; ++edge) {
      const A scale = cell.scale_of(child, edge, image);
      find_edge_value<V>(cell, child, edge, cell.route(child, edge), image, y, x, channel, value);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += scale * value[v];
    }
    store<V>(to + int64_t(pixel) * cell.channels + channel, sum);
  });
}

// Blocks: (images x parts, children).
template <int V, class S>
__device__ inline void write_output(const uint3& block, const Cell<S>& cell, int parts, S* out) {
  using A = Arithmetic<S>;
  const int child = int(block.y), image = int(block.x) / parts, part = int(block.x) % parts;
  const bool projected = cell.project.weight != nullptr;
  const int channels = cell.channels, all = projected ? channels : cell.blocks * channels;
  const uint64_t read = projected ? 0 : cell.read(child);
  const int64_t first = image * cell.out.pixels();
  each_pixel<V>(cell.out, all, part, parts, [&](int pixel, int, int, int place) {
    const int channel = place % channels, slot = projected ? 0 : cell.owner[place / channels];
    A value[V] = {};
    if (projected || (slot >= 0 && !(read >> slot & 1))) {
      End<S> end;
      if (projected)
        end = {cell.place(child, cell.places.output()), cell.affine + cell.norm(child, 2 * cell.edges + 2)};
      else end = find_end(cell, child, slot);
      load<V>(end.x + (first + pixel) * channels + channel, value);
      if (end.affine != nullptr)
#pragma unroll
        for (int v = 0; v < V; ++v) value[v] = end.affine[channel + v] * value[v] + end.affine[channels + channel + v];
    }
    store<V>(out + ((int64_t(child) * cell.images * cell.out.pixels() + first + pixel) * all + place), value);
  });
}

// Blocks: (numbers / THREADS).
template <class A>
__device__ inline void clear(const uint3& block, const Cleared<A>& cleared) {
  const int64_t i = int64_t(block.x) * THREADS + threadIdx.x;
  if (i < cleared.tickets_count) cleared.tickets[i] = 0;
  if (i < cleared.used_count) cleared.used[i] = A(i / cleared.channels % 2);
}

// The affine maps of the batch norms that were used, from their statistics. Blocks: (norms x channels / THREADS,
// children).
template <class S>
__device__ inline void restore_affine(const uint3& block, const Cell<S>& cell) {
  using A = Arithmetic<S>;
  const int i = int(block.x) * THREADS + int(threadIdx.x), child = int(block.y), channels = cell.outputs;
  const int norm = i / channels, channel = i % channels, edge = norm / 2;
  if (norm >= cell.norms) return;
  const A *gain = nullptr, *bias = nullptr;
  int64_t at = channel;
  if (edge < cell.edges) {
    const Route route = cell.route(child, edge);
    const auto& rows = cell.separable[route.operation == SEPARABLE_5];
    if (route.separable()) {
      gain = rows.gain, bias = rows.bias, at += (int64_t(route.row) * 2 + norm % 2) * channels;
    } else if (route.strided_identity(cell.stride) && norm % 2 == 0) {
      gain = cell.identity.gain, bias = cell.identity.bias, at += int64_t(route.row) * channels;
    }
  } else if (norm < 2 * cell.edges + 2 && cell.loose_row[norm % 2] >= 0) {
    gain = cell.loose.gain, bias = cell.loose.bias, at += int64_t(cell.loose_row[norm % 2]) * channels;
  }
  if (gain == nullptr) return;
  const int64_t to = cell.norm(child, norm) + channel;
  const Affine<A> affine = norm_affine(cell.used[to], cell.used[to + channels], gain[at], bias[at]);
  cell.affine[to] = affine.factor;
  cell.affine[to + channels] = affine.offset;
}

}  // namespace enas
