// sepconv_half on the CPU.
#include "../checks.h"
#include "batch.h"

namespace {
using namespace enas;

Half half_of(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise, const Tensor& pointwise,
             int64_t stride, int64_t dilation) {
  check_half(x, affine, depthwise, pointwise, stride, dilation);
  return {int(x.size(2)),         int(x.size(3)), int(x.size(4)), int(pointwise.size(1)),
          int(depthwise.size(0)), int(stride),    int(dilation)};
}

template <class S>
std::tuple<Tensor, Tensor> forward(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise,
                                   const Tensor& pointwise, const Half& half) {
  using A = Arithmetic<S>;
  const int64_t children = x.size(0), batch = x.size(1);
  Tensor z = empty(x, {children, batch, half.out_height(), half.out_width(), half.outputs});
  Tensor statistics = empty(x, {children, 2, half.outputs}, arithmetic_type(x));
  std::vector<A> prepared(level<S>().half_prepared(half)), moments(children * batch * 3 * half.outputs);
  level<S>().half_prepare(half, Pass::FORWARD, pointer<A>(depthwise), pointer<A>(pointwise), prepared.data());
  const int64_t scratch = level<S>().half_scratch(half);
  parallel(children * batch, [&](int64_t image) {
    const A* own = pointer<A>(affine);
    Load<A> load{nullptr, nullptr};
    if (own != nullptr) {
      own += image / batch * 2 * half.channels;
      load = {own, own + half.channels};
    }
    level<S>().half_forward(half, prepared.data(), pointer<S>(x) + image * half.pixels() * half.channels, load,
                            pointer<S>(z) + image * half.out_pixels() * half.outputs,
                            moments.data() + image * 3 * half.outputs, thread_scratch<A>(scratch));
  });
  for (int64_t child = 0; child < children; ++child)
    level<A>().merge_moments(batch, half.out_pixels(), half.outputs, moments.data() + child * batch * 3 * half.outputs,
                  pointer<A>(statistics) + child * 2 * half.outputs);
  return {z, statistics};
}

template <class S>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& dz, const Tensor& x,
                                                    const std::optional<Tensor>& affine, const Tensor& depthwise,
                                                    const Tensor& pointwise, const Half& half) {
  using A = Arithmetic<S>;
  const int64_t children = x.size(0), batch = x.size(1), channels = half.channels;
  Tensor dx = empty(x, {children, batch, half.height, half.width, channels});
  Tensor daffine = zeros(x, {affine.has_value() ? children : 0, 2, channels}, arithmetic_type(x));
  Tensor ddepthwise = zeros_like(depthwise), dpointwise = zeros_like(pointwise);
  std::vector<A> prepared(level<S>().half_prepared(half)), zero(channels, A(0)), sums(children * batch * 2 * channels);
  level<S>().half_prepare(half, Pass::BACKWARD, pointer<A>(depthwise), pointer<A>(pointwise), prepared.data());
  const int64_t out = half.out_pixels() * half.outputs, in = half.pixels() * channels;
  const int64_t scratch = level<S>().half_scratch(half);
  const ImageBlocks blocks(batch, half.out_pixels());
  BlockGradients<A> gradients(children * blocks.count, {level<S>().half_gradients(half)});
  parallel(children * blocks.count, [&](int64_t job) {
    const int64_t child = job / blocks.count, block = job % blocks.count;
    gradients.clear(job);
    for (int64_t b = blocks.begin(block); b < blocks.end(block); ++b) {
      const int64_t image = child * batch + b;
      A* own = thread_scratch<A>(scratch + out + in + 64);
      A *wide_dz = own, *wide_dx = own + (out + 15) / 16 * 16, *rest = wide_dx + (in + 15) / 16 * 16;
      level<S>().widen(out, pointer<S>(dz) + image * out, A(1), wide_dz, false);
      const A* values = affine.has_value() ? pointer<A>(*affine) + child * 2 * channels : nullptr;
      const Load<A> load{values, values == nullptr ? nullptr : values + channels};
      A* sum = values == nullptr ? nullptr : sums.data() + image * 2 * channels;
      level<S>().half_backward(half, prepared.data(), pointer<S>(x) + image * in, load, nullptr,
                               {wide_dz, A(1), nullptr, nullptr, nullptr}, wide_dx, false, zero.data(), sum,
                               gradients.at(job, 0), rest);
      // The gradient of factor * x + offset: of the factor its sum with x, of the offset its sum.
      if (values != nullptr)
        for (int64_t i = 0; i < in; ++i) wide_dx[i] *= values[i % channels];
      level<S>().narrow(in, wide_dx, pointer<S>(dx) + image * in);
    }
  });
  gradients.reduce();
  if (children * batch > 0)
    level<S>().half_add_gradients(half, gradients.at(0, 0), pointer<A>(ddepthwise), pointer<A>(dpointwise));
  if (affine.has_value())
    for (int64_t image = 0; image < children * batch; ++image) {
      A* to = pointer<A>(daffine) + image / batch * 2 * channels;
      const A* from = sums.data() + image * 2 * channels;
      for (int64_t c = 0; c < channels; ++c) {
        to[c] += from[channels + c];
        to[channels + c] += from[c];
      }
    }
  return {dx, daffine, ddepthwise, dpointwise};
}

std::tuple<Tensor, Tensor> sepconv_half(const Tensor& x, const std::optional<Tensor>& affine, const Tensor& depthwise,
                                        const Tensor& pointwise, int64_t stride, int64_t dilation) {
  const Half half = half_of(x, affine, depthwise, pointwise, stride, dilation);
  return dispatch(x, [&]<class S>() { return forward<S>(x, affine, depthwise, pointwise, half); });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sepconv_half_backward(const Tensor& dz, const Tensor& x,
                                                                 const std::optional<Tensor>& affine,
                                                                 const Tensor& depthwise, const Tensor& pointwise,
                                                                 int64_t stride, int64_t dilation) {
  const Half half = half_of(x, affine, depthwise, pointwise, stride, dilation);
  return dispatch(x, [&]<class S>() { return backward<S>(dz, x, affine, depthwise, pointwise, half); });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) {
  m.impl("sepconv_half", TORCH_BOX(&sepconv_half));
  m.impl("sepconv_half_backward", TORCH_BOX(&sepconv_half_backward));
}
