// sepconv_half on CUDA: a cell of one edge, and of that its first half.
#include "phases.h"

namespace {
using namespace enas;

template <class S>
Cell<S> cell_of(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise, const Tensor& pointwise,
                int64_t stride, int64_t dilation) {
  using A = Arithmetic<S>;
  Cell<S> cell{};
  cell.only = {0, SEPARABLE_3, 0};
  cell.children = int(x.size(0));
  cell.edges = cell.sides = 1;
  cell.images = int(x.size(1));
  cell.channels = int(x.size(4));
  cell.outputs = int(pointwise.size(1));
  cell.stride = int(stride);
  cell.dilation = int(dilation);
  cell.in = {int(x.size(2)), int(x.size(3))};
  cell.out = {(cell.in.height + cell.stride - 1) / cell.stride, (cell.in.width + cell.stride - 1) / cell.stride};
  cell.input[0] = pointer<S>(x);
  cell.input_step[0] = cell.in_size();
  cell.input_affine = pointer<A>(affine);
  cell.separable[0] = {pointer<A>(depthwise), pointer<A>(pointwise), nullptr, nullptr, int(depthwise.size(0))};
  cell.places = {1, true};
  cell.places_count = cell.norms = 1;
  return cell;
}

void check(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise, const Tensor& pointwise,
           int64_t stride, int64_t dilation) {
  check_images(x);
  check_weights(x, {&depthwise, &pointwise});
  const int64_t kernel = depthwise.size(0), channels = x.size(4);
  STD_TORCH_CHECK(depthwise.dim() == 3 && depthwise.size(1) == kernel && depthwise.size(2) == channels,
                  "depthwise must be [k, k, C]");
  STD_TORCH_CHECK(kernel == 3 || kernel == 5 || kernel == 7, "k must be 3, 5 or 7");
  STD_TORCH_CHECK(pointwise.dim() == 2 && pointwise.size(0) == channels, "pointwise must be [C, C']");
  STD_TORCH_CHECK(stride == 1 || stride == 2, "stride must be 1 or 2");
  STD_TORCH_CHECK(dilation == 1 || dilation == 2, "dilation must be 1 or 2");
  if (affine.has_value()) check_weights(x, {&*affine});
}

std::tuple<Tensor, Tensor> sepconv_half(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise,
                                        const Tensor& pointwise, int64_t stride, int64_t dilation) {
  check(x, affine, depthwise, pointwise, stride, dilation);
  return dispatch(x, [&]<class S>() {
    Cell<S> cell = cell_of<S>(x, affine, depthwise, pointwise, stride, dilation);
    Tensor z = empty(x, {x.size(0), x.size(1), cell.out.height, cell.out.width, cell.outputs});
    Tensor statistics = empty(x, {x.size(0), 2, cell.outputs}, arithmetic_type(x));
    cell.saved = pointer<S>(z);
    cell.used = pointer<Arithmetic<S>>(statistics);
    cell.vector = wide<S>({cell.input[0], cell.saved}, {cell.channels, cell.outputs});
    run_products(x, cell, FIRST, 0, make_work(x, cell));
    return std::make_tuple(z, statistics);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sepconv_half_backward(const Tensor& dz, const Tensor& x,
                                                                 const std::optional<Tensor>& affine,
                                                                 const Tensor& depthwise, const Tensor& pointwise,
                                                                 int64_t stride, int64_t dilation) {
  check(x, affine, depthwise, pointwise, stride, dilation);
  return dispatch(x, [&]<class S>() {
    using A = Arithmetic<S>;
    CellBackward<S> backward{};
    Cell<S>& cell = backward.cell;
    cell = cell_of<S>(x, affine, depthwise, pointwise, stride, dilation);
    Tensor dx = torch::stable::empty_like(x);
    Tensor daffine = empty(x, {affine.has_value() ? x.size(0) : 0, 2, cell.channels}, arithmetic_type(x));
    Tensor ddepthwise = torch::stable::empty_like(depthwise), dpointwise = torch::stable::empty_like(pointwise);
    Tensor between = empty(x, {x.size(0), x.size(1), cell.out.height, cell.out.width, cell.channels});
    backward.grad = pointer<S>(dz);
    backward.edges = pointer<S>(dx);
    backward.depthwise = pointer<S>(between);
    backward.dnorms = pointer<A>(daffine);
    cell.vector = wide<S>({cell.input[0], backward.grad}, {cell.channels, cell.outputs});
    const Work work = make_work(x, cell);
    const WeightWork<S> weights = make_weight_work(x, backward);
    run_product_gradients(x, backward, FIRST, 0, weights);
    run_depthwise_gradients(x, backward, FIRST, 0, weights, work);
    sum_weight_chunks(x, backward, FIRST, 0, 1, weights);
    WeightTables<A> tables{{}, 0, 1};
    add_table<A>(tables, ddepthwise, 1, OF_SEPARABLE_3, DEPTHWISE);
    add_table<A>(tables, dpointwise, 1, OF_SEPARABLE_3, POINTWISE);
    sum_weight_tables(x, backward, weights, tables);
    return std::make_tuple(dx, daffine, ddepthwise, dpointwise);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) {
  m.impl("sepconv_half", TORCH_BOX(&sepconv_half));
  m.impl("sepconv_half_backward", TORCH_BOX(&sepconv_half_backward));
}
