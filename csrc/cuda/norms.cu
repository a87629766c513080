// pointwise_norm and convolution_norm on CUDA: a product of pixels and weights, and a batch norm.
#include "batch_norm.cuh"
#include "matrix_weights.cuh"

namespace {
using namespace enas;
using matrix::Shape;

const dim3 SUMMING(batch_norm::LANES, batch_norm::SLICES);

// What both operations have in common; the product is a convolution where `dense`, else 1x1 with ReLU in front.
struct Product {
  Shape shape;
  bool dense;

  Product(const Tensor& x, int kernel, int64_t outputs, bool dense, bool reduced)
      : shape{int(x.size(1)), int(x.size(2)), int(x.size(3)), int(x.size(2)),
              int(x.size(3)), int(x.size(4)), int(outputs), kernel, reduced},
        dense(dense) {
    if (!reduced) return;
    shape.out_height = (shape.height + 1) / 2;
    shape.out_width = (shape.width + 1) / 2;
  }
};

// Calls f.operator()<DENSE, S>(): S threads side by side hold up to 5 * S columns.
template <class F>
void choose(bool dense, int columns, F f) {
  const bool narrow = columns <= matrix::COLUMNS<4>;
  if (dense && narrow) f.template operator()<true, 4>();
  else if (dense) f.template operator()<true, 8>();
  else if (narrow) f.template operator()<false, 4>();
  else f.template operator()<false, 8>();
}

// Pixels of a block that goes over images once.
int chunk_rows(int channels) { return channels > 8192 ? 1 : 8192 / channels; }

template <class A>
void sum_rows(const Tensor& from, int64_t first, int64_t numbers, int64_t rows, int64_t pitch, const Tensor& to) {
  const size_t shared = shared_bytes<A>(batch_norm::LANES * batch_norm::SLICES);
  launch(from, {blocks_of(numbers, batch_norm::LANES), SUMMING, shared}, batch_norm::sum_rows<A>, numbers, rows, pitch,
         pointer<A>(from) + first, pointer<A>(to));
}

template <class T>
std::tuple<Tensor, Tensor, Tensor> forward(const Product& product, const Tensor& x, const Tensor& weight,
                                           const Tensor& gain, const Tensor& bias,
                                           const std::optional<Tensor>& statistics) {
  using A = Arithmetic<T>;
  const Shape& shape = product.shape;
  const int64_t children = x.size(0), pixels = shape.out_pixels();
  const int channels = shape.outputs;
  Tensor z = empty(x, {children, shape.batch, shape.out_height, shape.out_width, channels});
  Tensor out = empty(x, {children, shape.batch, shape.out_height, shape.out_width, channels});
  Tensor used = statistics.has_value() ? torch::stable::clone(*statistics)
                                       : empty(x, {children, 1, 2, channels}, arithmetic_type(x));
  choose(product.dense, channels, [&]<bool DENSE, int S>() {
    constexpr int rows = matrix::ROWS<S>;
    const int64_t tiles = (pixels + rows - 1) / rows;
    Tensor moments = empty(x, {statistics.has_value() ? 0 : children, tiles, 3, channels}, arithmetic_type(x));
    const dim3 blocks(unsigned(tiles), unsigned(shape.tiles(matrix::COLUMNS<S>)), unsigned(children));
    const size_t shared = matrix::Tile<S, A>::bytes() + shared_bytes<A>(2 * matrix::THREADS);
    launch(x, {blocks, matrix::THREADS, shared}, matrix::forward<DENSE, S, T>, shape, pointer<T>(x), pointer<A>(weight),
           pointer<T>(z), statistics.has_value() ? nullptr : pointer<A>(moments));
    if (statistics.has_value()) return;
    const dim3 norms(blocks_of(channels, batch_norm::LANES), unsigned(children));
    launch(x, {norms, SUMMING, shared_bytes<double>(batch_norm::LANES * batch_norm::SLICES)},
           batch_norm::finish_forward<A>, pixels, channels, rows, tiles, pointer<A>(moments), pointer<A>(used));
  });
  const Grid chunks{dim3(blocks_of(pixels, chunk_rows(channels)), unsigned(children)), batch_norm::THREADS,
                    3 * shared_bytes<A>(channels)};
  const bool vectors = wide<T>({pointer<T>(z), pointer<T>(out)}, {channels});
  launch(x, chunks, vectors ? batch_norm::apply<T, WIDE> : batch_norm::apply<T, 1>, pixels, channels,
         chunk_rows(channels), pointer<T>(z), pointer<A>(used), pointer<A>(gain), pointer<A>(bias), pointer<T>(out));
  return {out, z, used};
}

template <class T>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Product& product, const Tensor& grad, const Tensor& x,
                                                    const Tensor& weight, const Tensor& gain, const Tensor& z,
                                                    const Tensor& used, bool given, bool wanted) {
  using A = Arithmetic<T>;
  const Shape& shape = product.shape;
  const int64_t children = x.size(0), pixels = shape.out_pixels();
  const int channels = shape.outputs;
  const ScalarType type = arithmetic_type(x);

  // The batch norm. At most 512 chunks a child, of at least 256 pixels.
  const int64_t rows = std::max<int64_t>(256, (pixels + 511) / 512), chunks = (pixels + rows - 1) / rows;
  Tensor sums = empty(x, {children, chunks, 2, channels}, type);
  Tensor factors = empty(x, {children, 3, channels}, type), of_children = empty(x, {children, 2, channels}, type);
  const dim3 parts(unsigned(chunks), blocks_of(channels, batch_norm::THREADS), unsigned(children));
  launch(x, {parts, batch_norm::THREADS, shared_bytes<A>(2 * batch_norm::THREADS)}, batch_norm::sum_gradients<T>,
         pixels, channels, rows, pointer<T>(grad), pointer<T>(z), pointer<A>(used), pointer<A>(sums));
  const dim3 norms(blocks_of(channels, batch_norm::LANES), unsigned(children));
  launch(x, {norms, SUMMING, shared_bytes<double>(batch_norm::LANES * batch_norm::SLICES)},
         batch_norm::finish_backward<A>, pixels, channels, chunks, pointer<A>(sums), pointer<A>(used), pointer<A>(gain),
         given, pointer<A>(factors), pointer<A>(of_children));
  Tensor dgain = empty(gain, {channels}), dbias = empty(gain, {channels});
  sum_rows<A>(of_children, 0, channels, children, 2 * channels, dgain);
  sum_rows<A>(of_children, channels, channels, children, 2 * channels, dbias);

  // The product.
  const matrix::Gradient<T> gradient{pointer<T>(grad), pointer<T>(z), pointer<A>(factors)};
  Tensor dx = wanted ? empty(x, {children, shape.batch, shape.height, shape.width, shape.inputs}) : empty(x, {0});
  if (wanted)
    choose(product.dense, shape.inputs, [&]<bool DENSE, int S>() {
      const dim3 blocks(blocks_of(pixels, matrix::ROWS<S>),
                        blocks_of(shape.inputs, matrix::COLUMNS<S>) * unsigned(shape.parts()), unsigned(children));
      launch(x, {blocks, matrix::THREADS, matrix::Tile<S, A>::bytes()}, matrix::backward_inputs<DENSE, S, T>, shape,
             gradient, pointer<T>(x), pointer<A>(weight), pointer<T>(dx));
    });
  const int64_t numbers = int64_t(shape.depth()) * channels, step = matrix::chunk_pixels(shape);
  const int64_t weight_chunks = step == 0 ? 0 : (pixels + step - 1) / step;
  Tensor partial = empty(x, {children, weight_chunks, numbers}, type);
  choose(product.dense, channels, [&]<bool DENSE, int S>() {
    const unsigned tiles = blocks_of(shape.depth(), matrix::COLUMNS<S>) * unsigned(shape.tiles(matrix::COLUMNS<S>));
    const dim3 blocks(unsigned(weight_chunks), tiles, unsigned(children));
    launch(x, {blocks, matrix::THREADS, matrix::weights_bytes<S, A>()}, matrix::backward_weights<DENSE, S, T>,
           shape, gradient, pointer<T>(x), step, pointer<A>(partial));
  });
  Tensor dweight = torch::stable::empty_like(weight);
  sum_rows<A>(partial, 0, numbers, children * weight_chunks, numbers, dweight);
  return {dx, dweight, dgain, dbias};
}

Product pointwise_of(const Tensor& x, const Tensor& weight, const Tensor& gain, bool reduced) {
  check_images(x);
  check_weights(x, {&weight, &gain});
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(0) == x.size(4), "weight must be [C, C']");
  return {x, 1, weight.size(1), false, reduced};
}

Product convolution_of(const Tensor& x, const Tensor& kernel, const Tensor& gain) {
  check_images(x);
  check_weights(x, {&kernel, &gain});
  STD_TORCH_CHECK(kernel.dim() == 4 && kernel.size(0) == kernel.size(1) && kernel.size(2) == x.size(4),
                  "kernel must be [k, k, C, C']");
  return {x, int(kernel.size(0)), kernel.size(3), true, false};
}

std::tuple<Tensor, Tensor, Tensor> pointwise_norm(const Tensor& x, const Tensor& weight, const Tensor& gain,
                                                  const Tensor& bias, const std::optional<Tensor>& statistics,
                                                  bool reduced) {
  const Product product = pointwise_of(x, weight, gain, reduced);
  return dispatch(x, [&]<class T>() { return forward<T>(product, x, weight, gain, bias, statistics); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> pointwise_norm_backward(const Tensor& grad, const Tensor& x,
                                                                   const Tensor& weight, const Tensor& gain,
                                                                   const Tensor& z, const Tensor& used, bool given,
                                                                   bool reduced) {
  const Product product = pointwise_of(x, weight, gain, reduced);
  return dispatch(x, [&]<class T>() { return backward<T>(product, grad, x, weight, gain, z, used, given, true); });
}

std::tuple<Tensor, Tensor, Tensor> convolution_norm(const Tensor& x, const Tensor& kernel, const Tensor& gain,
                                                    const Tensor& bias, const std::optional<Tensor>& statistics) {
  const Product product = convolution_of(x, kernel, gain);
  return dispatch(x, [&]<class T>() { return forward<T>(product, x, kernel, gain, bias, statistics); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> convolution_norm_backward(const Tensor& grad, const Tensor& x,
                                                                     const Tensor& kernel, const Tensor& gain,
                                                                     const Tensor& z, const Tensor& used, bool given,
                                                                     bool wanted) {
  const Product product = convolution_of(x, kernel, gain);
  return dispatch(x, [&]<class T>() { return backward<T>(product, grad, x, kernel, gain, z, used, given, wanted); });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) {
  m.impl("pointwise_norm", TORCH_BOX(&pointwise_norm));
  m.impl("pointwise_norm_backward", TORCH_BOX(&pointwise_norm_backward));
  m.impl("convolution_norm", TORCH_BOX(&convolution_norm));
  m.impl("convolution_norm_backward", TORCH_BOX(&convolution_norm_backward));
}
