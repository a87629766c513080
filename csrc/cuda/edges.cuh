// What an edge gives to one pixel, and what one pixel of its source gets back; V channels at once. Whatever needs no
// pass of its own over the image is computed here, where it is asked for: pools, identities, batch norms.
#pragma once
#include "access.cuh"
#include "cell_backward.h"

namespace enas {

template <class S>
__device__ inline bool is_nan(S value) {
  return value != value;
}

// 3 x 3 maximum or average of the pixels inside the image around (y, x).
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void pool(const S* image, const Plane& plane, int channels, bool maximum, int y, int x,
                            A (&result)[V]) {
  int count = 0;
#pragma unroll
  for (int v = 0; v < V; ++v) result[v] = maximum ? -A(INFINITY) : A(0);
#pragma unroll
  for (int dy = -1; dy <= 1; ++dy)
#pragma unroll
    for (int dx = -1; dx <= 1; ++dx) {
      if (unsigned(y + dy) >= unsigned(plane.height) || unsigned(x + dx) >= unsigned(plane.width)) continue;
      A value[V];
      load<V>(image + (int64_t(y + dy) * plane.width + x + dx) * channels, value);
      ++count;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        if (!maximum) result[v] += value[v];
        else if (value[v] > result[v] || is_nan(value[v])) result[v] = value[v];
      }
    }
  if (!maximum)
#pragma unroll
    for (int v = 0; v < V; ++v) result[v] /= A(count);
}

// Adds scale * what reaches pixel (y, x) of `image` from the pools around it; `grad` is that of the pool's output. Of
// equal maxima the first one gets all, row by row.
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void pool_back(const S* image, const Plane& plane, const S* grad, const Plane& out, int channels,
                                 int stride, bool maximum, A scale, int y, int x, A (&sum)[V]) {
  unsigned lost[V] = {};  // of the windows around (y - 1, x - 1) ... (y + 1, x + 1), those whose maximum is elsewhere
  if (maximum) {
    A own[V];
    load<V>(image + (int64_t(y) * plane.width + x) * channels, own);
#pragma unroll
    for (int dy = -2; dy <= 2; ++dy)
#pragma unroll
      for (int dx = -2; dx <= 2; ++dx) {
        if (dy == 0 && dx == 0) continue;
        if (unsigned(y + dy) >= unsigned(plane.height) || unsigned(x + dx) >= unsigned(plane.width)) continue;
        unsigned windows = 0;  // that hold both pixels
#pragma unroll
        for (int window = 0; window < 9; ++window) {
          const int oy = window / 3 - 1 - dy, ox = window % 3 - 1 - dx;
          if (oy >= -1 && oy <= 1 && ox >= -1 && ox <= 1) windows |= 1u << window;
        }
        A other[V];
        load<V>(image + (int64_t(y + dy) * plane.width + x + dx) * channels, other);
        const bool earlier = dy < 0 || (dy == 0 && dx < 0);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const bool beaten = earlier ? !(other[v] < own[v]) && !is_nan(own[v]) : other[v] > own[v] || is_nan(other[v]);
          if (beaten) lost[v] |= windows;
        }
      }
  }
#pragma unroll
  for (int window = 0; window < 9; ++window) {
    const int cy = y + window / 3 - 1, cx = x + window % 3 - 1;
    if (cy < 0 || cx < 0 || (cy & (stride - 1)) || (cx & (stride - 1))) continue;
    const int oy = cy / stride, ox = cx / stride;
    if (oy >= out.height || ox >= out.width) continue;
    A value[V];
    load<V>(grad + (int64_t(oy) * out.width + ox) * channels, value);
    A factor = scale;
    if (!maximum) {
      const int rows = min(cy + 2, plane.height) - max(cy - 1, 0), columns = min(cx + 2, plane.width) - max(cx - 1, 0);
      factor /= A(rows * columns);
    }
#pragma unroll
    for (int v = 0; v < V; ++v)
      if (!(lost[v] >> window & 1)) sum[v] += factor * value[v];
  }
}

// The batch norm at the end of an edge, or none.
template <class S>
struct EdgeNorm {
  const S* z;  // of image 0; null without batch norm
  int norm;
  const Arithmetic<S>* gain;
};
template <class S>
__device__ inline EdgeNorm<S> find_edge_norm(const Cell<S>& cell, int child, int edge, const Route& route) {
  if (route.separable())
    return {cell.place(child, cell.places.edge(edge, 1)), 2 * edge + 1,
            cell.separable[route.operation == SEPARABLE_5].gain + (int64_t(route.row) * 2 + 1) * cell.outputs};
  if (route.strided_identity(cell.stride))
    return {cell.place(child, cell.places.edge(edge, 0)), 2 * edge,
            cell.identity.gain + int64_t(route.row) * cell.outputs};
  return {nullptr, 0, nullptr};
}

// What an edge gives to pixel (y, x) of its node, channels channel ... channel + V, before its scale.
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void find_edge_value(const Cell<S>& cell, int child, int edge, const Route& route, int image, int y,
                                       int x, int channel, A (&value)[V]) {
  const int channels = cell.channels;
  const EdgeNorm<S> last = find_edge_norm(cell, child, edge, route);
  const int64_t at = image * cell.out.pixels() + int64_t(y) * cell.out.width + x;
  if (last.z != nullptr) {
    A factor[V], offset[V];
    const A* affine = cell.affine + cell.norm(child, last.norm) + channel;
    load<V>(last.z + at * channels + channel, value);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      factor[v] = affine[v];
      offset[v] = affine[channels + v];
      value[v] = factor[v] * value[v] + offset[v];
    }
    return;
  }
#pragma unroll
  for (int v = 0; v < V; ++v) value[v] = A(0);
  if (route.operation == ZERO) return;
  const Plane plane = cell.slot_plane(route.source);
  const S* source = cell.slot(child, route.source) + image * plane.pixels() * channels + channel;
  const int stride = route.stride(cell.stride);
  if (route.operation == IDENTITY) load<V>(source + (int64_t(y) * plane.width + x) * channels, value);
  else pool<V>(source, plane, channels, route.operation == MAX_POOL_3, y * stride, x * stride, value);
}

// Adds what an edge sends back to pixel (y, x) of its source.
template <int V, class S, class A = Arithmetic<S>>
__device__ inline void add_edge_gradient(const CellBackward<S>& backward, int child, int edge, const Route& route,
                                         int image, int y, int x, int channel, A (&sum)[V]) {
  const Cell<S>& cell = backward.cell;
  const int channels = cell.channels;
  if (route.operation == ZERO) return;
  const Plane plane = cell.slot_plane(route.source);
  const int64_t at = int64_t(y) * plane.width + x;
  A value[V];
  if (route.separable() || route.strided_identity(cell.stride)) {
    load<V>(backward.edge(child, edge) + (image * plane.pixels() + at) * channels + channel, value);
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] += value[v];
    return;
  }
  const A scale = cell.scale_of(child, edge, image);
  const S* grad = backward.slot(child, 2 + edge / cell.sides) + image * cell.out.pixels() * channels + channel;
  if (route.operation == IDENTITY) {
    load<V>(grad + at * channels, value);
#pragma unroll
    for (int v = 0; v < V; ++v) sum[v] += scale * value[v];
    return;
  }
  const S* source = cell.slot(child, route.source) + image * plane.pixels() * channels + channel;
  pool_back<V>(source, plane, grad, cell.out, channels, route.stride(cell.stride), route.operation == MAX_POOL_3, scale,
               y, x, sum);
}

}  // namespace enas
