// pointwise_norm and convolution_norm on CUDA: a product of pixels and weights, and a batch norm; a program for each
// pass.
#include "batch_norm.cuh"
#include "matrix_weights.cuh"
#include "program.cuh"
#include "program.h"

namespace enas {
namespace {

using batch_norm::LANES;
using batch_norm::RowSums;
using batch_norm::THREADS;
using matrix::Shape;

Shape shape_of(const Tensor& x, int kernel, int64_t outputs, bool dense, bool reduced) {
  const int height = int(x.size(2)), width = int(x.size(3)), step = reduced ? 2 : 1;
  return {int(x.size(1)), height,       width,  (height + step - 1) / step, (width + step - 1) / step, int(x.size(4)),
          int(outputs),   kernel, dense, reduced};
}

// How many threads stand side by side to hold so many columns, each FIVE.
ENAS_BOTH int side_by_side(int columns) { return columns <= matrix::COLUMNS<4> ? 4 : 8; }
int columns_of(int side) { return matrix::FIVE * side; }
int rows_of(int side) { return matrix::FOUR * (matrix::THREADS / side); }

// Calls f(integral constant S) for S threads side by side.
template <class F>
__device__ inline void with_side(int columns, F f) {
  if (side_by_side(columns) == 4) f(std::integral_constant<int, 4>());
  else f(std::integral_constant<int, 8>());
}

enum Kind : int { PRODUCT, STATISTICS, APPLY, SUM, FINISH, ROWS, INPUTS, WEIGHTS };

template <class T>
struct ForwardArguments {
  using A = Arithmetic<T>;
  Shape shape;
  const T* x;
  const A *weight, *gain, *bias;
  T *z, *out;
  A *moments, *used;  // moments are null where statistics are given
  int tile, chunk;    // rows of a tile of the product, and of what is normalised at once
  bool vectors;
};

template <class T>
__global__ void __launch_bounds__(THREADS, 2)
    run_forward(const __grid_constant__ ForwardArguments<T> arguments, const __grid_constant__ Steps steps) {
  const Shape& shape = arguments.shape;
  const auto normalise = [&]<int V>(const uint3& block) {
    batch_norm::apply<V>(block, shape.out_pixels(), shape.outputs, arguments.chunk, arguments.z, arguments.used,
                         arguments.gain, arguments.bias, arguments.out);
  };
  each_block(steps, [&](const Step& step, const uint3& block) {
    if (step.kind == PRODUCT)
      with_side(shape.outputs, [&](auto side) {
        matrix::forward<decltype(side)::value>(block, shape, arguments.x, arguments.weight, arguments.z,
                                               arguments.moments);
      });
    else if (step.kind == STATISTICS)
      batch_norm::finish_forward(block, shape.out_pixels(), shape.outputs, arguments.tile,
                                 shape.tiles_of_rows(arguments.tile), arguments.moments, arguments.used);
    else if (arguments.vectors) normalise.template operator()<WIDE>(block);
    else normalise.template operator()<1>(block);
  });
}

template <class T>
struct BackwardArguments {
  using A = Arithmetic<T>;
  Shape shape;
  const T *grad, *x, *z;
  const A *weight, *gain, *used;
  bool given;
  int64_t rows, chunks;          // pixels of a chunk of the batch norm's sums, and how many there are
  A *sums, *factors, *children;  // [M][chunks][2][C'], [M][3][C'], [M][2][C']
  T* dx;
  int64_t step;  // pixels of a chunk of the gradient of the weights
  A* partial;
  RowSums<A> row_sums[3];  // of gain, bias, weights
};

template <class T>
__global__ void __launch_bounds__(THREADS, 2)
    run_backward(const __grid_constant__ BackwardArguments<T> arguments, const __grid_constant__ Steps steps) {
  const Shape& shape = arguments.shape;
  const matrix::Gradient<T> gradient{arguments.grad, arguments.z, arguments.factors};
  each_block(steps, [&](const Step& step, const uint3& block) {
    switch (step.kind) {
      case SUM:
        return batch_norm::sum_gradients(block, shape.out_pixels(), shape.outputs, arguments.rows, arguments.chunks,
                                         arguments.grad, arguments.z, arguments.used, arguments.sums);
      case FINISH:
        return batch_norm::finish_backward(block, shape.out_pixels(), shape.outputs, arguments.chunks, arguments.sums,
                                           arguments.used, arguments.gain, arguments.given, arguments.factors,
                                           arguments.children);
      case ROWS: return batch_norm::sum_rows(block, arguments.row_sums[step.phase]);
      case INPUTS:
        return with_side(shape.inputs, [&](auto side) {
          matrix::backward_inputs<decltype(side)::value>(block, shape, gradient, arguments.x, arguments.weight,
                                                         arguments.dx);
        });
      case WEIGHTS:
        return with_side(shape.outputs, [&](auto side) {
          matrix::backward_weights<decltype(side)::value>(block, shape, gradient, arguments.x, arguments.step,
                                                          arguments.partial);
        });
    }
  });
}

// Shared memory of a tile of a product.
template <class A>
size_t tile_bytes(int side) {
  return side == 4 ? matrix::Tile<4, A>::bytes() : matrix::Tile<8, A>::bytes();
}

template <class T>
std::tuple<Tensor, Tensor, Tensor> forward(const Shape& shape, const Tensor& x, const Tensor& weight,
                                           const Tensor& gain, const Tensor& bias,
                                           const std::optional<Tensor>& statistics) {
  using A = Arithmetic<T>;
  const int64_t children = x.size(0), pixels = shape.out_pixels();
  const int channels = shape.outputs, side = side_by_side(channels);
  Tensor z = empty(x, {children, shape.batch, shape.out_height, shape.out_width, channels});
  Tensor out = empty(x, {children, shape.batch, shape.out_height, shape.out_width, channels});
  Tensor used = statistics.has_value() ? torch::stable::clone(*statistics)
                                       : empty(x, {children, 1, 2, channels}, arithmetic_type(x));
  const int64_t tiles = shape.tiles_of_rows(rows_of(side));
  Tensor moments = empty(x, {statistics.has_value() ? 0 : children, tiles, 3, channels}, arithmetic_type(x));
  const int chunk = channels > 8192 ? 1 : 8192 / channels;
  Program program;
  program.add(PRODUCT, 0, 0, true,
              dim3(unsigned(tiles), unsigned(shape.tiles(columns_of(side))), unsigned(children)),
              tile_bytes<A>(side) + shared_bytes<A>(2 * THREADS));
  if (!statistics.has_value())
    program.add(STATISTICS, 0, 0, true, dim3(blocks_of(channels, LANES), unsigned(children)),
                shared_bytes<double>(THREADS));
  program.add(APPLY, 0, 0, true, dim3(blocks_of(pixels, chunk), unsigned(children)), 3 * shared_bytes<A>(channels));
  const ForwardArguments<T> arguments{shape,
                                      pointer<T>(x),
                                      pointer<A>(weight),
                                      pointer<A>(gain),
                                      pointer<A>(bias),
                                      pointer<T>(z),
                                      pointer<T>(out),
                                      statistics.has_value() ? nullptr : pointer<A>(moments),
                                      pointer<A>(used),
                                      rows_of(side),
                                      chunk,
                                      wide<T>({pointer<T>(z), pointer<T>(out)}, {channels})};
  program.run(x, THREADS, run_forward<T>, arguments);
  return {out, z, used};
}

template <class T>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Shape& shape, const Tensor& grad, const Tensor& x,
                                                    const Tensor& weight, const Tensor& gain, const Tensor& z,
                                                    const Tensor& used, bool given, bool wanted) {
  using A = Arithmetic<T>;
  const int64_t children = x.size(0), pixels = shape.out_pixels();
  const int channels = shape.outputs, side = side_by_side(channels), input_side = side_by_side(shape.inputs);
  const ScalarType type = arithmetic_type(x);
  // At most 512 chunks a child, of at least 256 pixels.
  const int64_t rows = std::max<int64_t>(256, (pixels + 511) / 512), chunks = (pixels + rows - 1) / rows;
  const int64_t numbers = int64_t(shape.depth()) * channels, step = matrix::chunk_pixels(shape);
  const int64_t weight_chunks = step == 0 ? 0 : (pixels + step - 1) / step;
  Tensor sums = empty(x, {children, chunks, 2, channels}, type), factors = empty(x, {children, 3, channels}, type);
  Tensor of_children = empty(x, {children, 2, channels}, type);
  Tensor partial = empty(x, {children, weight_chunks, numbers}, type);
  Tensor dx = wanted ? empty(x, {children, shape.batch, shape.height, shape.width, shape.inputs}) : empty(x, {0});
  Tensor dweight = torch::stable::empty_like(weight);
  Tensor dgain = empty(gain, {channels}), dbias = empty(gain, {channels});
  BackwardArguments<T> arguments{shape,
                                 pointer<T>(grad),
                                 pointer<T>(x),
                                 pointer<T>(z),
                                 pointer<A>(weight),
                                 pointer<A>(gain),
                                 pointer<A>(used),
                                 given,
                                 rows,
                                 chunks,
                                 pointer<A>(sums),
                                 pointer<A>(factors),
                                 pointer<A>(of_children),
                                 pointer<T>(dx),
                                 step,
                                 pointer<A>(partial),
                                 {}};
  Program program;
  const auto add_rows = [&](int which, bool waits, const RowSums<A>& rows_of_all) {
    arguments.row_sums[which] = rows_of_all;
    program.add(ROWS, which, 0, waits, blocks_of(rows_of_all.numbers, LANES), shared_bytes<A>(THREADS));
  };
  program.add(SUM, 0, 0, true, dim3(unsigned(chunks), blocks_of(channels, THREADS), unsigned(children)),
              shared_bytes<A>(2 * THREADS));
  program.add(FINISH, 0, 0, true, dim3(blocks_of(channels, LANES), unsigned(children)), shared_bytes<double>(THREADS));
  const unsigned weight_tiles = blocks_of(shape.depth(), columns_of(side)) * unsigned(shape.tiles(columns_of(side)));
  program.add(WEIGHTS, 0, 0, true, dim3(unsigned(weight_chunks), weight_tiles, unsigned(children)),
              side == 4 ? matrix::weights_bytes<4, A>() : matrix::weights_bytes<8, A>());
  const bool alone = weight_chunks * children == 0;  // the next step then follows FINISH
  if (wanted)
    program.add(INPUTS, 0, 0, alone,
                dim3(blocks_of(pixels, rows_of(input_side)),
                     blocks_of(shape.inputs, columns_of(input_side)) * unsigned(shape.parts()), unsigned(children)),
                tile_bytes<A>(input_side));
  add_rows(0, alone, {channels, children, 2 * channels, pointer<A>(of_children), pointer<A>(dgain)});
  add_rows(1, alone, {channels, children, 2 * channels, pointer<A>(of_children) + channels, pointer<A>(dbias)});
  add_rows(2, true, {numbers, children * weight_chunks, numbers, pointer<A>(partial), pointer<A>(dweight)});
  program.run(x, THREADS, run_backward<T>, arguments);
  return {dx, dweight, dgain, dbias};
}

Shape pointwise_of(const Tensor& x, const Tensor& weight, const Tensor& gain, bool reduced) {
  check_images(x);
  check_weights(x, {&weight, &gain});
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(0) == x.size(4), "weight must be [C, C']");
  return shape_of(x, 1, weight.size(1), false, reduced);
}

Shape convolution_of(const Tensor& x, const Tensor& kernel, const Tensor& gain) {
  check_images(x);
  check_weights(x, {&kernel, &gain});
  STD_TORCH_CHECK(kernel.dim() == 4 && kernel.size(0) == kernel.size(1) && kernel.size(2) == x.size(4),
                  "kernel must be [k, k, C, C']");
  return shape_of(x, int(kernel.size(0)), kernel.size(3), true, false);
}

std::tuple<Tensor, Tensor, Tensor> pointwise_norm(const Tensor& x, const Tensor& weight, const Tensor& gain,
                                                  const Tensor& bias, const std::optional<Tensor>& statistics,
                                                  bool reduced) {
  const Shape shape = pointwise_of(x, weight, gain, reduced);
  return dispatch(x, [&]<class T>() { return forward<T>(shape, x, weight, gain, bias, statistics); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> pointwise_norm_backward(const Tensor& grad, const Tensor& x,
                                                                   const Tensor& weight, const Tensor& gain,
                                                                   const Tensor& z, const Tensor& used, bool given,
                                                                   bool reduced) {
  const Shape shape = pointwise_of(x, weight, gain, reduced);
  return dispatch(x, [&]<class T>() { return backward<T>(shape, grad, x, weight, gain, z, used, given, true); });
}

std::tuple<Tensor, Tensor, Tensor> convolution_norm(const Tensor& x, const Tensor& kernel, const Tensor& gain,
                                                    const Tensor& bias, const std::optional<Tensor>& statistics) {
  const Shape shape = convolution_of(x, kernel, gain);
  return dispatch(x, [&]<class T>() { return forward<T>(shape, x, kernel, gain, bias, statistics); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> convolution_norm_backward(const Tensor& grad, const Tensor& x,
                                                                     const Tensor& kernel, const Tensor& gain,
                                                                     const Tensor& z, const Tensor& used, bool given,
                                                                     bool wanted) {
  const Shape shape = convolution_of(x, kernel, gain);
  return dispatch(x, [&]<class T>() { return backward<T>(shape, grad, x, kernel, gain, z, used, given, wanted); });
}
}  // namespace
}  // namespace enas

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) {
  m.impl("pointwise_norm", TORCH_BOX(&enas::pointwise_norm));
  m.impl("pointwise_norm_backward", TORCH_BOX(&enas::pointwise_norm_backward));
  m.impl("convolution_norm", TORCH_BOX(&enas::convolution_norm));
  m.impl("convolution_norm_backward", TORCH_BOX(&enas::convolution_norm_backward));
}
