// How the steps of a cell are divided: images into tiles of 8 x 8 pixels, tiles into chunks, a chunk to each block. The
// division depends on sizes only, so that equal calls sum in equal order.
#pragma once
#include <algorithm>

#include "cell.h"

namespace enas {

constexpr int THREADS = 160;         // a multiple of 20 and of 16: see PIECE and the register tiles of product.cuh
constexpr int RESIDENT = 3;          // blocks that registers leave room for on a multiprocessor
constexpr int SIDE = 8;              // of a tile
constexpr int PIXELS = SIDE * SIDE;  // of a tile
constexpr int PIECE = 20;            // the most channels that are in shared memory at once
constexpr int PITCH = PIXELS + 4;    // between channels of a tile that stands pixel by pixel: no bank conflicts
constexpr int64_t MOST_CHUNKS = 256;

// All images of one child, tile by tile.
struct Tiling {
  Plane plane;
  int columns, per_image, chunks;
  int64_t tiles;

  Tiling() = default;
  Tiling(Plane plane, int images, int64_t most_chunks = MOST_CHUNKS)
      : plane(plane),
        columns((plane.width + SIDE - 1) / SIDE),
        per_image(columns * ((plane.height + SIDE - 1) / SIDE)),
        tiles(int64_t(per_image) * images) {
    chunks = int(tiles < most_chunks ? tiles : most_chunks);
  }
  __device__ int64_t begin(int chunk) const { return chunk * tiles / chunks; }
};

// How many pixels of the source a tile's row needs.
ENAS_BOTH inline int extent(int kernel, int stride, int dilation) {
  return (SIDE - 1) * stride + (kernel - 1) * dilation + 1;
}
// How many rows of gradients a tile of inputs can meet.
ENAS_BOTH inline int met(int kernel, int stride, int dilation) {
  return (SIDE - 1 + (kernel - 1) * dilation) / stride + 2;
}

// A thread of a product holds QUAD pixels x N outputs: 16 threads cover the pixels of a tile, 10 the outputs.
constexpr int QUAD = 4;
template <int N>
constexpr int WIDTH = 10 * N;

struct ProductPlan {
  Tiling tiling;
  int piece, output_pieces, area;
};

struct DepthwisePlan {
  Tiling in, out;  // of images with the size of the cell's inputs, and of its output
  int piece, pieces, area;
  ENAS_BOTH int chunks() const { return in.chunks > out.chunks ? in.chunks : out.chunks; }

  template <class S>
  ENAS_BOTH const Tiling& tiling(const Product<S>& product) const {
    return product.phase == FIRST && product.route.source < 2 ? in : out;
  }
};

struct GatherPlan {
  int slabs;   // of SLAB channels
  int images;  // of a chunk
  int parts;   // of an image, where a chunk is less than one
  int chunks;  // of a child
};
constexpr int SLAB = 80;

// The number of products of a phase in one step.
template <class S>
int jobs_of(const Cell<S>& cell, Phase phase) {
  if (phase == LOOSE) return cell.children * 2;
  return phase == OUTPUT ? cell.children : cell.children * cell.sides;
}

// N of a product's blocks, each of WIDTH<N> outputs: the fewest that hold them all, or 80. double has 40.
template <class S>
ENAS_BOTH int choose_number(int outputs) {
  if (std::is_same_v<S, double>) return 4;
  return outputs <= WIDTH<2> ? 2 : outputs <= WIDTH<4> ? 4 : 8;
}

constexpr size_t MOST_SHARED = 64 * 1024;  // of a block, so that several are on a multiprocessor at once

// The largest piece of channels whose shared memory bytes(piece) stays within bounds.
template <class F>
int choose_piece(F bytes) {
  for (int piece : {PIECE, 12, 8})
    if (bytes(piece) <= MOST_SHARED) return piece;
  return 4;
}

template <class S>
int largest_kernel(const Cell<S>& cell) {
  return std::max(cell.separable[0].kernel, cell.separable[1].kernel);
}
// The pixels on a side of the largest window that a phase may meet; 0 without a depthwise convolution.
template <class S>
int window_side(const Cell<S>& cell, Phase phase) {
  if (phase != FIRST && phase != SECOND) return 0;
  return phase == FIRST ? extent(largest_kernel(cell), cell.stride, cell.dilation) : extent(largest_kernel(cell), 1, 1);
}

}  // namespace enas
