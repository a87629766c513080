// Gradients gathered where their tensor was made: from all edges that read it, in their order, and from the output. A
// node also sums what the batch norms of its edges need, and the gradients of their scales.
#pragma once
#include "backward.h"
#include "depthwise_backward.cuh"
#include "nodes.cuh"

namespace enas {

// What a slot's edges and the output send to its pixel; `readers` are the edges that read it, as bits.
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void gather_slot(const CellBackward<S>& backward, int child, int slot, uint64_t readers, int image,
                                   int y, int x, int channel, A (&sum)[V]) {
  const Cell<S>& cell = backward.cell;
  if (readers == 0) {
    if (cell.block[slot] < 0) return;
    A value[V];
    if (slot < 2 && cell.stride > 1) {
      if (cell.loose_row[slot] < 0) return;
      const int64_t pixel = image * cell.in.pixels() + int64_t(y) * cell.in.width + x;
      load<V>(backward.loose_input(child, slot) + pixel * cell.channels + channel, value);
    } else {
      const Pixels<S> end = find_end_gradient(backward, child, slot);
      load<V>(end.data + (image * cell.out.pixels() + int64_t(y) * cell.out.width + x) * end.pitch + channel, value);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] += value[v];
    return;
  }
  for (int edge = 0; edge < cell.edges; ++edge)
    if (readers >> edge & 1)
      add_edge_gradient<V>(backward, child, edge, cell.route(child, edge), image, y, x, channel, sum);
}

template <class S>
__device__ inline uint64_t find_readers(const Cell<S>& cell, int child, int slot) {
  uint64_t readers = 0;
  for (int edge = 0; edge < cell.edges; ++edge)
    if (cell.route(child, edge).source == slot) readers |= uint64_t(1) << edge;
  return readers;
}

// A batch norm whose sums are wanted.
template <class S>
struct NormSums {
  EdgeNorm<S> norm;
  int edge;  // whose scale is in front; -1 for none
};

// The gradients that a block sums: of node `node` where `phase` is FIRST, for the batch norms of its edges, or of the
// product of LOOSE or OUTPUT. Blocks: (chunks x slabs, jobs), a job is a child, or in LOOSE a child's input. `sums` is
// [jobs][sides][chunks][2][channels], `tickets` [jobs][slabs].
template <int V, class S>
__device__ inline void gather(const uint3& block, const CellBackward<S>& backward, Phase phase, int node,
                              const GatherPlan& plan, Arithmetic<S>* sums, int* tickets) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int channels = cell.channels, slab = int(block.x) % plan.slabs, chunk = int(block.x) / plan.slabs;
  const int first = slab * SLAB, width = channels - first < SLAB ? channels - first : SLAB;
  const int job = int(block.y), child = phase == LOOSE ? job / 2 : job, sides = phase == FIRST ? cell.sides : 1;
  constexpr int MOST_SIDES = 2;
  NormSums<S> wanted[MOST_SIDES] = {};
  uint64_t readers = 0;
  Pixels<S> given{nullptr, channels};  // the gradient, where it need not be gathered
  S* to = nullptr;
  if (phase == FIRST) {
#pragma unroll
    for (int side = 0; side < MOST_SIDES; ++side) {
      if (side >= sides) continue;
      const int edge = node * sides + side;
      wanted[side] = {find_edge_norm(cell, child, edge, cell.route(child, edge)), edge};
    }
    if (backward.slots == nullptr) {
      given.data = backward.grad + child * cell.out_size();
    } else {
      readers = find_readers(cell, child, 2 + node);
      if (readers != 0 || !backward.projected || cell.block[2 + node] < 0) to = backward.slot(child, 2 + node);
    }
  } else {
    const Product<S> product = find_product(cell, phase, 0, job);
    if (product.sources == 0) return;
    wanted[0] = {{product.z, product.norm, product.gain}, -1};
    given = find_gradient(backward, product);
  }

  SharedMemory memory;
  double* shared = memory.take<double>(THREADS);
  A* exchange = memory.take<A>(THREADS * WIDE);
  int* flag = memory.take<int>(1);
  const int groups = width / V, lanes = THREADS / groups, group = int(threadIdx.x) % groups;
  const int lane = int(threadIdx.x) / groups, channel = first + group * V;
  const int per_image = (int(cell.out.pixels()) + plan.parts - 1) / plan.parts, part = chunk % plan.parts;
  A one[MOST_SIDES][V] = {}, centred[MOST_SIDES][V] = {}, mean[MOST_SIDES][V] = {};
#pragma unroll
  for (int side = 0; side < MOST_SIDES; ++side)
    if (wanted[side].norm.z != nullptr)
#pragma unroll
      for (int v = 0; v < V; ++v) mean[side][v] = cell.used[cell.norm(child, wanted[side].norm.norm) + channel + v];

  const int begin = chunk / plan.parts * plan.images;
  const int end = begin + plan.images < cell.images ? begin + plan.images : cell.images;
  for (int image = begin; image < end; ++image) {
    A scale[MOST_SIDES], dscale[MOST_SIDES] = {};
#pragma unroll
    for (int side = 0; side < MOST_SIDES; ++side)
      scale[side] = phase == FIRST && side < sides ? cell.scale_of(child, wanted[side].edge, image) : A(1);
    const int last = min((part + 1) * per_image, int(cell.out.pixels()));
    for (int pixel = part * per_image + lane; pixel < last && lane < lanes; pixel += lanes) {
      const int y = pixel / cell.out.width, x = pixel % cell.out.width;
      const int64_t at = image * cell.out.pixels() + pixel;
      A value[V] = {};
      if (given.data != nullptr) {
        load<V>(given.data + at * given.pitch + channel, value);
      } else {
        gather_slot<V>(backward, child, 2 + node, readers, image, y, x, channel, value);
        if (to != nullptr) store<V>(to + at * channels + channel, value);
      }
#pragma unroll
      for (int side = 0; side < MOST_SIDES; ++side) {
        if (wanted[side].norm.z != nullptr) {
          A z[V];
          load<V>(wanted[side].norm.z + at * channels + channel, z);
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const A gradient = scale[side] * widen(narrow<S>(value[v]));
            one[side][v] += gradient;
            centred[side][v] += gradient * (z[v] - mean[side][v]);
          }
        }
        if (backward.dscale != nullptr && phase == FIRST && side < sides) {
          A before[V];
          find_edge_value<V>(cell, child, wanted[side].edge, cell.route(child, wanted[side].edge), image, y, x, channel,
                             before);
#pragma unroll
          for (int v = 0; v < V; ++v) dscale[side] += widen(narrow<S>(value[v])) * before[v];
        }
      }
    }
    if (backward.dscale == nullptr || phase != FIRST) continue;
#pragma unroll
    for (int side = 0; side < MOST_SIDES; ++side) {
      if (side >= sides) continue;
      const A rows = sum_parts(dscale[side], 16, THREADS / 16, exchange);
      const A all = sum_parts(int(threadIdx.x) < 16 ? rows : A(0), 1, 16, exchange);
      const int64_t place = (int64_t(child) * cell.edges + wanted[side].edge) * cell.images + image;
      if (threadIdx.x == 0) backward.dscale[(place * plan.parts + part) * plan.slabs + slab] = all;
    }
  }

  const auto sums_of = [&](int side) { return sums + (int64_t(job) * sides + side) * plan.chunks * 2 * channels; };
  bool any = false;
#pragma unroll
  for (int side = 0; side < MOST_SIDES; ++side) {
    if (wanted[side].norm.z == nullptr) continue;
    any = true;
    A* own = sums_of(side) + int64_t(chunk) * 2 * channels + first;
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      __syncthreads();
      if (lane < lanes)
#pragma unroll
        for (int v = 0; v < V; ++v)
          exchange[lane * width + group * V + v] = which == 0 ? one[side][v] : centred[side][v];
      __syncthreads();
      if (int(threadIdx.x) < width) {
        A sum = A(0);
        for (int other = 0; other < lanes; ++other) sum += exchange[other * width + threadIdx.x];
        own[which * channels + threadIdx.x] = sum;
      }
    }
  }
  if (!any || !last_block(tickets + job * plan.slabs + slab, plan.chunks, flag)) return;
#pragma unroll
  for (int side = 0; side < MOST_SIDES; ++side)
    if (wanted[side].norm.z != nullptr)
      finish_sums(backward, child, wanted[side].norm.norm, wanted[side].norm.gain, plan.chunks, sums_of(side), channels,
                  first, width, shared);
}

// Blocks: (images x parts, children but at least 1, inputs).
template <int V, class S>
__device__ inline void gather_input(const uint3& block, const CellBackward<S>& backward,
                                    const InputGradients<S>& inputs, int parts) {
  using A = Arithmetic<S>;
  const Cell<S>& cell = backward.cell;
  const int slot = int(block.z), own = int(block.y), image = int(block.x) / parts,
            part = int(block.x) % parts;
  const bool shared = cell.input_step[slot] == 0;
  if (shared ? own > 0 : own >= cell.children) return;
  SharedMemory memory;
  uint64_t* readers = memory.take<uint64_t>(cell.children);
  const int last = shared ? cell.children : own + 1;
  for (int child = own + int(threadIdx.x); child < last; child += THREADS)
    readers[child] = find_readers(cell, child, slot);
  __syncthreads();
  S* to = inputs.to[slot] + (own * cell.in_size() + image * cell.in.pixels() * cell.channels);
  each_pixel<V>(cell.in, cell.channels, part, parts, [&](int pixel, int y, int x, int channel) {
    A sum[V] = {};
    for (int child = own; child < last; ++child)
      gather_slot<V>(backward, child, slot, readers[child], image, y, x, channel, sum);
    store<V>(to + int64_t(pixel) * cell.channels + channel, sum);
  });
}

// dscale from the sums of parts [M][E][B][parts]. Blocks: (numbers / THREADS).
template <class A>
__device__ inline void sum_scales(const uint3& block, const A* parts, const ScaleSums<A>& scales) {
  const int64_t i = int64_t(block.x) * THREADS + threadIdx.x;
  if (i >= scales.numbers) return;
  A sum = A(0);
  for (int part = 0; part < scales.each; ++part) sum += parts[i * scales.each + part];
  scales.to[i] = sum;
}

}  // namespace enas
