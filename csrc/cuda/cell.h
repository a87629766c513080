// What the kernels know of a cell: its inputs, its weight rows, where it keeps its tensors. Routes are read on the
// device only. A doubled separable convolution is a cell of one edge, a half of one is that edge's first half.
//
// Images are [pixels][channels] and follow one another, B to a child. S is the type of storage, A that of arithmetic.
#pragma once
#include "pack.h"

namespace enas {

constexpr int MOST_EDGES = 64;
constexpr int MOST_SLOTS = 2 + MOST_EDGES / 2;

struct Plane {
  int height, width;
  ENAS_BOTH int64_t pixels() const { return int64_t(height) * width; }
};

// Rows of a doubled separable convolution; of its first half where `halves` is 1.
template <class A>
struct SeparableRows {
  const A *depthwise, *pointwise, *gain, *bias;
  int kernel;
};
template <class A>
struct LinearRows {
  const A *weight, *gain, *bias;
};

// Where the tensors [B, H', W', C] of a child stand: kept for backward, or only as long as they are needed.
struct Places {
  int edges;
  bool kept;
  ENAS_BOTH int edge(int edge, int half) const {
    return kept ? FullSlots{edges}.edge(edge, half) : 2 * (edge % 2) + half;
  }
  ENAS_BOTH int node(int node) const { return kept ? FullSlots{edges}.node(node) : 4 + node; }
  ENAS_BOTH int loose(int slot) const { return kept ? FullSlots{edges}.loose(slot) : 4 + edges / 2 + slot; }
  ENAS_BOTH int output() const { return kept ? FullSlots{edges}.output() : 4 + edges / 2 + 2; }
  ENAS_BOTH int count() const { return kept ? FullSlots{edges}.count() : 4 + edges / 2 + 3; }
};

template <class S>
struct Cell {
  using A = Arithmetic<S>;

  const Route* routes;  // [M][E]; null for a cell of the one edge `only`
  Route only;
  int children, edges, sides;  // `sides` edges make a node
  int images, channels, outputs, stride, dilation;
  Plane in, out;
  const S* input[2];
  int64_t input_step[2];  // from one child to the next; 0 where they share the input
  const A* input_affine;  // [M][2][C] of input 0, or null
  SeparableRows<A> separable[2];
  LinearRows<A> identity, loose, project;
  int8_t block[MOST_SLOTS], loose_row[2];
  int8_t owner[MOST_SLOTS];  // the slot of each block, or -1
  int blocks;                // of the concatenation
  const A* scale;            // [M][E][1 or B], or null
  int scale_images;
  const A* given;  // statistics, or null
  S* saved;
  Places places;
  int places_count, norms;
  A* used;      // [M][N][2][C']
  A* affine;    // [M][N][2][C']: the batch norms as factor and offset
  bool vector;  // channels are read WIDE at once

  ENAS_BOTH int nodes() const { return edges / sides; }
  ENAS_BOTH int slots() const { return 2 + nodes(); }
  ENAS_BOTH int64_t out_size() const { return images * out.pixels() * outputs; }
  ENAS_BOTH int64_t in_size() const { return images * in.pixels() * channels; }

  __device__ Route route(int child, int edge) const {
    return routes == nullptr ? only : routes[int64_t(child) * edges + edge];
  }
  // The slots that some edge reads, as bits.
  __device__ uint64_t read(int child) const {
    uint64_t bits = 0;
    for (int edge = 0; edge < edges; ++edge) bits |= uint64_t(1) << route(child, edge).source;
    return bits;
  }
  __device__ S* place(int child, int place) const {
    return saved + (int64_t(child) * places_count + place) * out_size();
  }
  __device__ const S* slot(int child, int slot) const {
    return slot < 2 ? input[slot] + child * input_step[slot] : place(child, places.node(slot - 2));
  }
  __device__ Plane slot_plane(int slot) const { return slot < 2 ? in : out; }
  __device__ int64_t norm(int child, int norm) const { return (int64_t(child) * norms + norm) * 2 * outputs; }
  __device__ A scale_of(int child, int edge, int image) const {
    if (scale == nullptr) return A(1);
    return scale[(int64_t(child) * edges + edge) * scale_images + (scale_images > 1 ? image : 0)];
  }
};

// The steps of a cell that are products of pixels and weights.
enum Phase : int { FIRST, SECOND, LOOSE, OUTPUT };  // halves of edges, unused inputs of a strided cell, projection

// One summand of a product: z(y, x) += d(y, x) @ weight, with d the depthwise convolution of x or, where kernel is 1,
// its pixel (y * stride + shift, x * stride + shift).
template <class S>
struct Source {
  using A = Arithmetic<S>;
  const S* x;  // of image 0; null where there is nothing to add
  Plane plane;
  const A* affine;  // [2][channels] on load, or null
  bool relu;
  int kernel, stride, dilation, shift;
  const A* depthwise;  // [k][k][channels]
  const A* weight;     // [channels][outputs]
  int first, last;     // the outputs that it adds to
};

// A product of one child, and the batch norm of it.
template <class S>
struct Product {
  using A = Arithmetic<S>;
  Phase phase;
  int child, edge, sources;  // none where the child has no such product; `edge` is a slot in LOOSE
  Route route;
  uint64_t read;
  S* z;
  int norm;
  const A *gain, *bias;  // null without batch norm

  __device__ bool reduction() const { return phase == LOOSE || (phase == FIRST && !route.separable()); }
};

// `job` counts the children and, within them, the edges of the node or the slots.
template <class S>
__device__ Product<S> find_product(const Cell<S>& cell, Phase phase, int node, int job) {
  Product<S> product{};
  const int channels = cell.channels;
  product.phase = phase;
  if (phase == FIRST || phase == SECOND) {
    const int child = job / cell.sides, edge = node * cell.sides + job % cell.sides;
    const Route route = cell.route(child, edge);
    product.child = child;
    product.edge = edge;
    product.route = route;
    if (route.separable()) {
      const auto& rows = cell.separable[route.operation == SEPARABLE_5];
      const int64_t at = (int64_t(route.row) * 2 + phase) * cell.outputs;
      product.sources = 1;
      product.z = cell.place(child, cell.places.edge(edge, phase));
      product.norm = 2 * edge + phase;
      if (rows.gain != nullptr) product.gain = rows.gain + at, product.bias = rows.bias + at;
    } else if (phase == FIRST && route.strided_identity(cell.stride)) {
      product.sources = 2;
      product.z = cell.place(child, cell.places.edge(edge, 0));
      product.norm = 2 * edge;
      product.gain = cell.identity.gain + int64_t(route.row) * channels;
      product.bias = cell.identity.bias + int64_t(route.row) * channels;
    }
  } else if (phase == LOOSE) {
    const int child = job / 2, slot = job % 2;
    product.child = child;
    product.edge = slot;
    if (cell.loose_row[slot] < 0 || cell.block[slot] < 0 || (cell.read(child) >> slot & 1)) return product;
    product.sources = 2;
    product.z = cell.place(child, cell.places.loose(slot));
    product.norm = 2 * cell.edges + slot;
    product.gain = cell.loose.gain + int64_t(cell.loose_row[slot]) * channels;
    product.bias = cell.loose.bias + int64_t(cell.loose_row[slot]) * channels;
  } else {
    product.child = job;
    product.read = cell.read(job);
    product.sources = cell.slots();
    product.z = cell.place(job, cell.places.output());
    product.norm = 2 * cell.edges + 2;
    product.gain = cell.project.gain;
    product.bias = cell.project.bias;
  }
  return product;
}

// A loose end as the output reads it: a strided cell's unused input through its own product and batch norm.
template <class S>
struct End {
  const S* x;
  const Arithmetic<S>* affine;
};
template <class S>
__device__ End<S> find_end(const Cell<S>& cell, int child, int slot) {
  if (slot < 2 && cell.stride > 1)
    return {cell.place(child, cell.places.loose(slot)), cell.affine + cell.norm(child, 2 * cell.edges + slot)};
  return {cell.slot(child, slot), nullptr};
}

template <class S>
__device__ Source<S> find_source(const Cell<S>& cell, const Product<S>& product, int index) {
  Source<S> source{};
  const int child = product.child, channels = cell.channels;
  source.kernel = source.stride = source.dilation = 1;
  source.last = cell.outputs;
  source.plane = cell.out;
  if (product.phase == OUTPUT) {
    if ((product.read >> index & 1) || cell.block[index] < 0) return source;
    const End<S> end = find_end(cell, child, index);
    source.x = end.x;
    source.affine = end.affine;
    source.relu = true;
    source.weight = cell.project.weight + int64_t(cell.block[index]) * channels * channels;
    return source;
  }
  if (product.reduction()) {
    const int slot = product.phase == LOOSE ? product.edge : product.route.source;
    const int row = product.phase == LOOSE ? cell.loose_row[slot] : product.route.row;
    const int half = (channels + 1) / 2;
    source.x = cell.slot(child, slot);
    source.plane = cell.in;
    source.stride = 2;
    source.shift = index;
    source.weight = (product.phase == LOOSE ? cell.loose : cell.identity).weight + int64_t(row) * channels * channels;
    source.first = index == 0 ? 0 : half;
    source.last = index == 0 ? half : channels;
    return source;
  }
  const auto& rows = cell.separable[product.route.operation == SEPARABLE_5];
  const int64_t at = int64_t(product.route.row) * 2 + product.phase;
  source.kernel = rows.kernel;
  source.relu = true;
  source.depthwise = rows.depthwise + at * rows.kernel * rows.kernel * channels;
  source.weight = rows.pointwise + at * channels * cell.outputs;
  if (product.phase == SECOND) {
    source.x = cell.place(child, cell.places.edge(product.edge, 0));
    source.affine = cell.affine + cell.norm(child, 2 * product.edge);
  } else {
    source.x = cell.slot(child, product.route.source);
    source.plane = cell.slot_plane(product.route.source);
    source.stride = product.route.stride(cell.stride);
    source.dilation = cell.dilation;
    if (cell.input_affine != nullptr) source.affine = cell.input_affine + int64_t(child) * 2 * channels;
  }
  return source;
}

}  // namespace enas
