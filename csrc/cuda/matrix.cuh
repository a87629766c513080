// Products of pixels and weights, as matrices that are never written: 1x1 convolutions, factorised reductions, dense
// convolutions. A block computes a tile; its 256 threads hold FOUR rows x FIVE columns each, so that a tile of the
// published widths 20, 40 and 80 has no column too many.
#pragma once
#include "access.cuh"
#include "block.cuh"

namespace enas::matrix {

constexpr int THREADS = 256;
constexpr int FOUR = 4, FIVE = 5;
constexpr int DEPTH = 16;  // of the part of a tile's rows and columns that is in shared memory at once

// `S` threads stand side by side over the columns of a tile.
template <int S>
constexpr int COLUMNS = FIVE* S;
template <int S>
constexpr int ROWS = FOUR * (THREADS / S);

struct Shape {
  int batch, height, width, out_height, out_width, inputs, outputs, kernel;
  bool dense, reduced;  // a convolution, else 1x1 with ReLU in front, of which one may be a factorised reduction

  ENAS_BOTH int64_t pixels() const { return int64_t(batch) * height * width; }          // of a child
  ENAS_BOTH int64_t out_pixels() const { return int64_t(batch) * out_height * out_width; }  // of a child
  ENAS_BOTH int depth() const { return kernel * kernel * inputs; }                         // of the weights
  // A factorised reduction has two parts: outputs before `split` see the even pixels, the others their diagonal
  // neighbours.
  ENAS_BOTH int parts() const { return reduced ? 2 : 1; }
  ENAS_BOTH int split() const { return reduced ? (outputs + 1) / 2 : outputs; }
  ENAS_BOTH int begin(int part) const { return part == 0 ? 0 : split(); }
  ENAS_BOTH int end(int part) const { return part == 0 ? split() : outputs; }
  // Tiles of `columns` outputs; none has outputs of both parts.
  ENAS_BOTH int tiles(int part, int columns) const { return (end(part) - begin(part) + columns - 1) / columns; }
  ENAS_BOTH int64_t tiles_of_rows(int rows) const { return (out_pixels() + rows - 1) / rows; }
  ENAS_BOTH int tiles(int columns) const { return tiles(0, columns) + (reduced ? tiles(1, columns) : 0); }
};

// Some outputs of one part.
struct OutputTile {
  int part, first, count;

  __device__ OutputTile(const Shape& shape, int columns, int number) {
    const int before = shape.tiles(0, columns);
    part = number < before ? 0 : 1;
    first = shape.begin(part) + (part == 0 ? number : number - before) * columns;
    count = shape.end(part) - first < columns ? shape.end(part) - first : columns;
  }
};

// An output pixel, and where its input is: the only one, or the centre of those under the kernel.
struct Pixel {
  int image, y, x;  // y < 0: there is none

  __device__ Pixel() : image(0), y(-1), x(0) {}
  __device__ Pixel(const Shape& shape, int64_t number) {
    x = int(number % shape.out_width);
    y = int(number / shape.out_width % shape.out_height);
    image = int(number / (int64_t(shape.out_width) * shape.out_height));
  }
  __device__ int64_t out(const Shape& shape) const {
    return (int64_t(image) * shape.out_height + y) * shape.out_width + x;
  }
  __device__ int64_t at(const Shape& shape, int y, int x) const {
    return (int64_t(image) * shape.height + y) * shape.width + x;
  }
};

// What a batch norm's backward multiplies: [3][outputs] for a child, see NormBackward.
template <class S>
struct Gradient {
  const S *dy, *z;
  const Arithmetic<S>* factors;

  __device__ Arithmetic<S> at(const Shape& shape, int64_t pixel, int output) const {
    const int64_t i = pixel * shape.outputs + output;
    return factors[output] * widen(dy[i]) + factors[shape.outputs + output] * widen(z[i]) +
           factors[2 * shape.outputs + output];
  }
};

// The number that the weights' row `k` = (tap, input) multiplies for an output pixel of `part`; 0 outside the image.
template <class S>
__device__ inline Arithmetic<S> find_input(const Shape& shape, const S* x, const Pixel& pixel, int part, int k) {
  using A = Arithmetic<S>;
  if (pixel.y < 0 || k >= shape.depth()) return A(0);
  if (shape.dense) {
    const int tap = k / shape.inputs, input = k - tap * shape.inputs;
    const int row = tap / shape.kernel, half = shape.kernel / 2;
    const int at_y = pixel.y + row - half, at_x = pixel.x + (tap - row * shape.kernel) - half;
    if (at_y < 0 || at_y >= shape.height || at_x < 0 || at_x >= shape.width) return A(0);
    return widen(x[pixel.at(shape, at_y, at_x) * shape.inputs + input]);
  }
  const int at_y = shape.reduced ? 2 * pixel.y + part : pixel.y, at_x = shape.reduced ? 2 * pixel.x + part : pixel.x;
  if (at_y >= shape.height || at_x >= shape.width) return A(0);
  return relu(widen(x[pixel.at(shape, at_y, at_x) * shape.inputs + k]));
}

// Shared memory of a tile of ROWS x COLUMNS. `left` holds DEPTH columns of the left matrix and later the result.
template <int S, class A>
struct Tile {
  static constexpr int PITCH = ROWS<S> + 4;              // of left[k][row]
  static constexpr int RESULT_PITCH = COLUMNS<S> + 1;    // of result[row][column]
  static constexpr int AREA = DEPTH * PITCH > ROWS<S> * RESULT_PITCH ? DEPTH * PITCH : ROWS<S> * RESULT_PITCH;
  A *left, *right;
  Pixel* pixels;

  __device__ explicit Tile(SharedMemory& memory)
      : left(memory.take<A>(AREA)), right(memory.take<A>(DEPTH * COLUMNS<S>)), pixels(memory.take<Pixel>(ROWS<S>)) {}
  static size_t bytes() {
    return shared_bytes<A>(AREA) + shared_bytes<A>(DEPTH * COLUMNS<S>) + shared_bytes<Pixel>(ROWS<S>);
  }

  // The pixels of rows `first` ... of a child, and how many of them there are.
  __device__ int find_pixels(const Shape& shape, int64_t first) const {
    const int64_t left_over = shape.out_pixels() - first;
    const int count = left_over < ROWS<S> ? int(left_over) : ROWS<S>;
    for (int row = int(threadIdx.x); row < ROWS<S>; row += THREADS)
      pixels[row] = row < count ? Pixel(shape, first + row) : Pixel();
    __syncthreads();
    return count;
  }

  // result[row][column] = sum over k < depth of from_left(row, k) * from_right(k, column), for all threads to read.
  // RIGHT_BY_K: whether numbers of from_right lie side by side along k, else along the columns.
  template <bool RIGHT_BY_K, class Left, class Right>
  __device__ A* multiply(int depth, Left from_left, Right from_right) const {
    const int thread = int(threadIdx.x);
    A sums[FOUR][FIVE] = {};
    for (int first = 0; first < depth; first += DEPTH) {
      for (int i = thread; i < ROWS<S> * DEPTH; i += THREADS) {
        const int k = i % DEPTH, row = i / DEPTH;
        left[k * PITCH + row] = from_left(row, first + k);
      }
      for (int i = thread; i < DEPTH * COLUMNS<S>; i += THREADS) {
        const int k = RIGHT_BY_K ? i % DEPTH : i / COLUMNS<S>, column = RIGHT_BY_K ? i / DEPTH : i % COLUMNS<S>;
        right[k * COLUMNS<S> + column] = from_right(first + k, column);
      }
      __syncthreads();
      const A *rows = left + thread / S * FOUR, *columns = right + thread % S * FIVE;
#pragma unroll
      for (int k = 0; k < DEPTH; ++k) {
        A a[FOUR];
        load<FOUR>(rows + k * PITCH, a);
#pragma unroll
        for (int j = 0; j < FIVE; ++j) {
          const A b = columns[k * COLUMNS<S> + j];
#pragma unroll
          for (int i = 0; i < FOUR; ++i) sums[i][j] += a[i] * b;
        }
      }
      __syncthreads();
    }
    A* result = left;
#pragma unroll
    for (int i = 0; i < FOUR; ++i)
#pragma unroll
      for (int j = 0; j < FIVE; ++j)
        result[(thread / S * FOUR + i) * RESULT_PITCH + thread % S * FIVE + j] = sums[i][j];
    __syncthreads();
    return result;
  }
};

// z [M][pixels][outputs] and, unless null, the moments [M][tiles of rows][3][outputs] of each tile: its first pixel,
// the sums of the distances to that and of their squares. Blocks: (tiles of rows, tiles of outputs, M).
template <int S, class T, class A = Arithmetic<T>>
__device__ inline void forward(const uint3& block, const Shape& shape, const T* x, const A* weight, T* z, A* moments) {
  SharedMemory memory;
  const Tile<S, A> tile(memory);
  A* partial = memory.take<A>(2 * THREADS);
  const OutputTile outputs(shape, COLUMNS<S>, int(block.y));
  const int64_t child = block.z, first = int64_t(block.x) * ROWS<S>;
  const int rows = tile.find_pixels(shape, first);
  const T* own = x + child * shape.pixels() * shape.inputs;
  A* result = tile.template multiply<false>(
      shape.depth(), [&](int row, int k) { return find_input(shape, own, tile.pixels[row], outputs.part, k); },
      [&](int k, int column) {
        const bool inside = k < shape.depth() && column < outputs.count;
        return inside ? weight[int64_t(k) * shape.outputs + outputs.first + column] : A(0);
      });

  T* to = z + (child * shape.out_pixels() + first) * shape.outputs + outputs.first;
  for (int i = int(threadIdx.x); i < rows * outputs.count; i += THREADS) {
    const int row = i / outputs.count, column = i % outputs.count;
    A& value = result[row * tile.RESULT_PITCH + column];
    const T stored = narrow<T>(value);
    to[int64_t(row) * shape.outputs + column] = stored;
    value = widen(stored);  // the statistics are those of what is stored
  }
  if (moments == nullptr) return;
  __syncthreads();
  constexpr int SLICES = THREADS / COLUMNS<S>;
  const int slice = int(threadIdx.x) / COLUMNS<S>, column = int(threadIdx.x) % COLUMNS<S>;
  A sum = A(0), squares = A(0);
  if (slice < SLICES && column < outputs.count)
    for (int row = slice; row < rows; row += SLICES) {
      const A distance = result[row * tile.RESULT_PITCH + column] - result[column];
      sum += distance;
      squares += distance * distance;
    }
  partial[threadIdx.x] = sum;
  partial[THREADS + threadIdx.x] = squares;
  __syncthreads();
  if (slice != 0 || column >= outputs.count) return;
  for (int other = 1; other < SLICES; ++other) {
    sum += partial[other * COLUMNS<S> + column];
    squares += partial[THREADS + other * COLUMNS<S> + column];
  }
  A* moment = moments + (child * shape.tiles_of_rows(ROWS<S>) + block.x) * 3 * shape.outputs + outputs.first + column;
  moment[0] = result[column];
  moment[shape.outputs] = sum;
  moment[2 * shape.outputs] = squares;
}

// dx [M][pixels][inputs], by the output pixels. Blocks: (tiles of rows, tiles of inputs x parts, M).
template <int S, class T, class A = Arithmetic<T>>
__device__ inline void backward_inputs(const uint3& block, const Shape& shape, Gradient<T> gradient, const T* x,
                                       const A* weight, T* dx) {
  SharedMemory memory;
  const Tile<S, A> tile(memory);
  const int part = int(block.y) % shape.parts(), first = int(block.y) / shape.parts() * COLUMNS<S>;
  const int inputs = shape.inputs - first < COLUMNS<S> ? shape.inputs - first : COLUMNS<S>;
  const int64_t child = block.z;
  const int begin = shape.begin(part), count = shape.end(part) - begin;
  const int depth = shape.kernel * shape.kernel * count;
  const int rows = tile.find_pixels(shape, int64_t(block.x) * ROWS<S>);
  gradient.dy += child * shape.out_pixels() * shape.outputs;
  gradient.z += child * shape.out_pixels() * shape.outputs;
  gradient.factors += child * 3 * shape.outputs;
  const A* result = tile.template multiply<true>(
      depth,
      [&](int row, int k) {
        Pixel pixel = tile.pixels[row];
        if (pixel.y < 0 || k >= depth) return A(0);
        if (shape.dense) {
          const int tap = k / count, tap_y = tap / shape.kernel, half = shape.kernel / 2;
          k -= tap * count;
          pixel.y -= tap_y - half;
          pixel.x -= tap - tap_y * shape.kernel - half;
          if (pixel.y < 0 || pixel.y >= shape.height || pixel.x < 0 || pixel.x >= shape.width) return A(0);
        }
        return gradient.at(shape, pixel.out(shape), begin + k);
      },
      [&](int k, int column) {
        if (k >= depth || column >= inputs) return A(0);
        const int tap = shape.dense ? k / count : 0;
        return weight[(int64_t(tap) * shape.inputs + first + column) * shape.outputs + begin + k - tap * count];
      });

  const int64_t own = child * shape.pixels();
  for (int i = int(threadIdx.x); i < rows * inputs; i += THREADS) {
    const int row = i / inputs, column = i % inputs;
    const Pixel& pixel = tile.pixels[row];
    const int y = shape.reduced ? 2 * pixel.y + part : pixel.y, at_x = shape.reduced ? 2 * pixel.x + part : pixel.x;
    const auto index = [&](int y, int x) { return (own + pixel.at(shape, y, x)) * shape.inputs + first + column; };
    if (y >= shape.height || at_x >= shape.width) continue;
    const int64_t at = index(y, at_x);
    const bool passed = shape.dense || widen(x[at]) > A(0);
    dx[at] = narrow<T>(passed ? result[row * tile.RESULT_PITCH + column] : A(0));
    if (!shape.reduced || part != 0) continue;  // the other two of four pixels are seen by no output
    if (at_x + 1 < shape.width) dx[index(y, at_x + 1)] = narrow<T>(A(0));
    if (y + 1 < shape.height) dx[index(y + 1, at_x)] = narrow<T>(A(0));
  }
}

}  // namespace enas::matrix
