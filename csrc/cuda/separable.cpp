// Separable convolutions on CUDA: cells of one edge. Of a half it is the edge's first half; of a doubled one the edge's
// node is the output.
#include "../checks.h"
#include "passes.h"

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

std::tuple<Tensor, Tensor> sepconv_half(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise,
                                        const Tensor& pointwise, int64_t stride, int64_t dilation) {
  check_half(x, affine, depthwise, pointwise, stride, dilation);
  return dispatch(x, [&]<class S>() {
    Cell<S> cell = cell_of<S>(x, affine, depthwise, pointwise, stride, dilation);
    Tensor z = empty(x, {x.size(0), x.size(1), cell.out.height, cell.out.width, cell.outputs});
    Tensor statistics = empty(x, {x.size(0), 2, cell.outputs}, arithmetic_type(x));
    cell.saved = pointer<S>(z);
    cell.used = pointer<Arithmetic<S>>(statistics);
    cell.vector = wide<S>({cell.input[0], cell.saved}, {cell.channels, cell.outputs});
    Forward<S> program(x, cell, false);
    program.add_products(FIRST, 0);
    program.run();
    return std::make_tuple(z, statistics);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sepconv_half_backward(const Tensor& dz, const Tensor& x,
                                                                 const std::optional<Tensor>& affine,
                                                                 const Tensor& depthwise, const Tensor& pointwise,
                                                                 int64_t stride, int64_t dilation) {
  check_half(x, affine, depthwise, pointwise, stride, dilation);
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
    Backward<S> program(x, backward, nullptr);
    program.add_products(FIRST, 0);
    program.add_depthwise(FIRST, 0);
    program.add_chunks(FIRST, 0, 1);
    WeightTables<A> tables{{}, 0, 1};
    tables.add(pointer<A>(ddepthwise), ddepthwise.numel(), 1, OF_SEPARABLE_3, DEPTHWISE);
    tables.add(pointer<A>(dpointwise), dpointwise.numel(), 1, OF_SEPARABLE_3, POINTWISE);
    program.add_tables(tables);
    program.run();
    return std::make_tuple(dx, daffine, ddepthwise, dpointwise);
  });
}

template <class S>
Cell<S> cell_of(const Tensor& x, const Tensor& depthwise, const Tensor& pointwise, const Tensor& gain,
                const Tensor& bias, int64_t stride) {
  using A = Arithmetic<S>;
  check_separable(x, depthwise, pointwise, gain, bias, stride);
  const int channels = int(x.size(4)), kernel = int(depthwise.size(1));
  Cell<S> cell{};
  cell.only = {0, SEPARABLE_3, 0};
  cell.children = int(x.size(0));
  cell.edges = cell.sides = 1;
  cell.images = int(x.size(1));
  cell.channels = cell.outputs = channels;
  cell.stride = int(stride);
  cell.dilation = 1;
  cell.in = {int(x.size(2)), int(x.size(3))};
  cell.out = {(cell.in.height + cell.stride - 1) / cell.stride, (cell.in.width + cell.stride - 1) / cell.stride};
  cell.input[0] = pointer<S>(x);
  cell.input_step[0] = cell.in_size();
  cell.separable[0] = {pointer<A>(depthwise), pointer<A>(pointwise), pointer<A>(gain), pointer<A>(bias), kernel};
  cell.places = {1, true};
  cell.places_count = cell.norms = 2;
  return cell;
}

std::tuple<Tensor, Tensor, Tensor> separable(const Tensor& x, const Tensor& depthwise, const Tensor& pointwise,
                                             const Tensor& gain, const Tensor& bias,
                                             const std::optional<Tensor>& statistics, int64_t stride, int64_t slots) {
  return dispatch(x, [&]<class S>() {
    using A = Arithmetic<S>;
    Cell<S> cell = cell_of<S>(x, depthwise, pointwise, gain, bias, stride);
    const int64_t children = x.size(0), images = x.size(1), channels = x.size(4);
    Tensor saved = empty(x, {children, 2, images, cell.out.height, cell.out.width, channels});
    Tensor out = empty(x, {children, images, cell.out.height, cell.out.width, channels});
    Tensor used = empty(x, {children, 2, 2, channels}, arithmetic_type(x));
    Tensor affine = empty(x, {children, 2, 2, channels}, arithmetic_type(x));
    cell.given = pointer<A>(statistics);
    cell.saved = pointer<S>(saved);
    cell.used = pointer<A>(used);
    cell.affine = pointer<A>(affine);
    cell.vector = wide<S>({cell.input[0], cell.saved, pointer<S>(out)}, {channels});
    Forward<S> program(x, cell, false);
    program.add_products(FIRST, 0);
    program.add_products(SECOND, 0);
    program.add_node(0, pointer<S>(out));
    program.run();
    if (slots > 0) return std::make_tuple(out, saved, used);
    return std::make_tuple(out, empty(x, {children, 0, images, cell.out.height, cell.out.width, channels}), used);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> separable_backward(const Tensor& grad, const Tensor& x,
                                                                      const Tensor& depthwise, const Tensor& pointwise,
                                                                      const Tensor& gain, const Tensor& bias,
                                                                      int64_t stride, const Tensor& saved,
                                                                      const Tensor& used, bool given) {
  return dispatch(x, [&]<class S>() {
    using A = Arithmetic<S>;
    CellBackward<S> backward{};
    Cell<S>& cell = backward.cell;
    cell = cell_of<S>(x, depthwise, pointwise, gain, bias, stride);
    const int64_t children = x.size(0), images = x.size(1), channels = x.size(4);
    const auto scratch = [&](int64_t each, int64_t numbers, std::optional<ScalarType> type = {}) {
      return empty(x, {children, each, numbers, channels}, type);
    };
    Tensor dx = torch::stable::empty_like(x), ddepthwise = torch::stable::empty_like(depthwise);
    Tensor dpointwise = torch::stable::empty_like(pointwise), dgain = torch::stable::empty_like(gain);
    Tensor dbias = torch::stable::empty_like(bias);
    Tensor affine = scratch(2, 2, arithmetic_type(x)), coefficients = scratch(2, 3, arithmetic_type(x));
    Tensor dnorms = scratch(2, 2, arithmetic_type(x));
    Tensor between = scratch(1, images * cell.out.pixels()), middle = scratch(1, images * cell.out.pixels());
    cell.saved = pointer<S>(saved);
    cell.used = pointer<A>(used);
    cell.affine = pointer<A>(affine);
    backward.grad = pointer<S>(grad);
    backward.given = given;
    backward.centred = true;
    backward.edges = pointer<S>(dx);
    backward.between = pointer<S>(between);
    backward.depthwise = pointer<S>(middle);
    backward.coefficients = pointer<A>(coefficients);
    backward.dnorms = pointer<A>(dnorms);
    cell.vector = wide<S>({cell.input[0], cell.saved, backward.grad}, {channels});
    Backward<S> program(x, backward, nullptr);
    program.add_affine();
    program.add_gather(FIRST, 0);
    for (const Phase phase : {SECOND, FIRST}) {
      program.add_products(phase, 0);
      program.add_depthwise(phase, 0);
    }
    program.add_chunks(FIRST, 0, 2);
    WeightTables<A> tables{{}, 0, 2};
    const std::pair<const Tensor&, TableKind> gradients[] = {
        {ddepthwise, DEPTHWISE}, {dpointwise, POINTWISE}, {dgain, GAIN}, {dbias, BIAS}};
    for (const auto& [to, kind] : gradients) tables.add(pointer<A>(to), to.numel(), 1, OF_SEPARABLE_3, kind);
    program.add_tables(tables);
    program.run();
    return std::make_tuple(dx, ddepthwise, dpointwise, dgain, dbias);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) {
  m.impl("sepconv_half", TORCH_BOX(&sepconv_half));
  m.impl("sepconv_half_backward", TORCH_BOX(&sepconv_half_backward));
  m.impl("separable", TORCH_BOX(&separable));
  m.impl("separable_backward", TORCH_BOX(&separable_backward));
}
