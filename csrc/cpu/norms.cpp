// pointwise_norm and convolution_norm on the CPU: a product of pixels and weights, and a batch norm.
#include "batch.h"

namespace {
using namespace enas;

// What one image's product is, for both operations: a 1x1 convolution, a factorised reduction or a dense convolution.
template <class S>
struct Product {
  using A = Arithmetic<S>;
  bool dense;
  Linear linear;
  Dense convolution;
  bool relu;
  std::unique_ptr<A[]> prepared;

  int outputs() const { return dense ? convolution.outputs : linear.outputs; }
  int out_height() const { return dense ? convolution.height : linear.out_height(); }
  int out_width() const { return dense ? convolution.width : linear.out_width(); }
  int64_t out_pixels() const { return int64_t(out_height()) * out_width(); }
  int64_t out_size() const { return out_pixels() * outputs(); }
  int64_t in_size() const {
    return dense ? convolution.pixels() * convolution.inputs : linear.pixels() * linear.inputs;
  }
  int64_t scratch() const {
    return (dense ? level<S>().dense_scratch(convolution) : level<S>().linear_scratch(linear)) + 3 * out_size() +
           level<S>().channel_scratch(outputs()) + in_size() + 64;
  }
  int64_t gradients() const {
    return dense ? level<S>().dense_gradients(convolution) : level<S>().linear_gradients(linear);
  }
  void prepare(const Tensor& weight, Pass pass) {
    prepared.reset(new A[dense ? level<S>().dense_prepared(convolution) : level<S>().linear_prepared(linear)]);
    if (dense) level<S>().dense_prepare(convolution, pointer<A>(weight), prepared.get());
    else level<S>().linear_prepare(linear, pass, pointer<A>(weight), prepared.get());
  }
  void forward(const S* x, A* sum, A* scratch) const {
    if (dense) level<S>().dense_forward(convolution, prepared.get(), x, sum, scratch);
    else level<S>().linear_forward(linear, prepared.get(), x, relu, sum, false, scratch);
  }
  void backward(const S* x, const A* dz, A* dx, A* gradients, A* scratch) const {
    if (dense) level<S>().dense_backward(convolution, prepared.get(), x, dz, dx, gradients, scratch);
    else level<S>().linear_backward(linear, prepared.get(), x, relu, dz, dx, gradients, scratch);
  }
  void add_gradients(const A* gradients, A* weight) const {
    if (dense) level<S>().dense_add_gradients(convolution, gradients, weight);
    else level<S>().linear_add_gradients(linear, gradients, weight);
  }
};

int64_t rounded(int64_t numbers) { return (numbers + 15) / 16 * 16; }

template <class S>
std::tuple<Tensor, Tensor, Tensor> forward(Product<S> product, const Tensor& x, const Tensor& weight,
                                           const Tensor& gain, const Tensor& bias,
                                           const std::optional<Tensor>& statistics) {
  using A = Arithmetic<S>;
  const int64_t children = x.size(0), batch = x.size(1);
  const int channels = product.outputs();
  product.prepare(weight, Pass::FORWARD);
  Tensor z = empty(x, {children, batch, product.out_height(), product.out_width(), channels});
  Tensor out = empty(x, {children, batch, product.out_height(), product.out_width(), channels});
  Tensor used = empty(x, {children, 1, 2, channels}, arithmetic_type(x));
  std::unique_ptr<A[]> moments(new A[children * batch * 3 * channels]);
  parallel(children * batch, [&](int64_t image) {
    A* scratch = thread_scratch<A>(product.scratch());
    A* rest = scratch + rounded(product.out_size());
    S* to = pointer<S>(z) + image * product.out_size();
    A* sum = formed_in(to, scratch);
    product.forward(pointer<S>(x) + image * product.in_size(), sum, rest);
    level<S>().finish(product.out_pixels(), channels, sum, to, moments.get() + image * 3 * channels, rest);
  });
  std::vector<Norm<A>> norms(children);
  for (int64_t child = 0; child < children; ++child) {
    A* own = pointer<A>(used) + child * 2 * channels;
    if (statistics.has_value())
      std::memcpy(own, pointer<A>(*statistics) + child * 2 * channels, 2 * channels * sizeof(A));
    else
      level<A>().merge_moments(batch, product.out_pixels(), channels, moments.get() + child * batch * 3 * channels, own);
    norms[child].set(channels, own, pointer<A>(gain), pointer<A>(bias));
  }
  parallel(children * batch, [&](int64_t image) {
    A* scratch = thread_scratch<A>(product.scratch());
    S* to = pointer<S>(out) + image * product.out_size();
    A* sum = formed_in(to, scratch);
    level<S>().add_affine(product.out_pixels(), channels, pointer<S>(z) + image * product.out_size(),
                          norms[image / batch].load(), A(1), sum, false, scratch + rounded(product.out_size()));
    if constexpr (!std::is_same_v<S, A>) level<S>().narrow(product.out_size(), sum, to);
  });
  return {out, z, used};
}

template <class S>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(Product<S> product, const Tensor& grad, const Tensor& x,
                                                    const Tensor& weight, const Tensor& gain, const Tensor& z,
                                                    const Tensor& used, bool given, bool wanted) {
  using A = Arithmetic<S>;
  const int64_t children = x.size(0), batch = x.size(1);
  const int channels = product.outputs();
  product.prepare(weight, Pass::BACKWARD);
  Tensor dx = wanted ? empty(x, {children, batch, x.size(2), x.size(3), x.size(4)}) : empty(x, {0});
  Tensor dweight = zeros_like(weight), dgain = zeros_like(gain), dbias = zeros_like(gain);
  std::unique_ptr<A[]> sums(new A[children * batch * 2 * channels]);
  const int64_t out = product.out_size();
  const auto mean = [&](int64_t child) { return pointer<A>(used) + child * 2 * channels; };
  const auto widened = [&](int64_t image, [[maybe_unused]] A* room) -> const A* {
    const S* from = pointer<S>(grad) + image * out;
    if constexpr (std::is_same_v<S, A>) {
      return from;
    } else {
      level<S>().widen(out, from, A(1), room, false);
      return room;
    }
  };
  parallel(children * batch, [&](int64_t image) {
    A* room = thread_scratch<A>(product.scratch());
    level<S>().norm_sums(product.out_pixels(), channels, widened(image, room), pointer<S>(z) + image * out,
                         mean(image / batch), sums.get() + image * 2 * channels, room + rounded(out));
  });
  std::vector<Norm<A>> norms(children);
  for (int64_t child = 0; child < children; ++child)
    norms[child].set_backward(channels, mean(child), pointer<A>(gain), sums.get() + child * batch * 2 * channels, batch,
                              product.out_pixels(), given, pointer<A>(dgain), pointer<A>(dbias));
  const ImageBlocks blocks(batch, product.out_pixels());
  BlockGradients<A> gradients(children * blocks.count, {product.gradients()});
  parallel(children * blocks.count, [&](int64_t job) {
    const int64_t child = job / blocks.count, block = job % blocks.count;
    gradients.clear(job);
    for (int64_t b = blocks.begin(block); b < blocks.end(block); ++b) {
      const int64_t image = child * batch + b;
      A* room = thread_scratch<A>(product.scratch());
      A* dz = room + rounded(out);
      A* wide = dz + rounded(out);
      A* rest = wide + rounded(product.in_size());
      level<S>().norm_gradient(product.out_pixels(), channels, pointer<S>(z) + image * out,
                               norms[child].gradient(widened(image, room), A(1)), dz, rest);
      S* to = wanted ? pointer<S>(dx) + image * product.in_size() : nullptr;
      A* sum = wanted ? formed_in(to, wide) : nullptr;
      if (wanted) std::memset(sum, 0, product.in_size() * sizeof(A));
      product.backward(pointer<S>(x) + image * product.in_size(), dz, sum, gradients.at(job, 0), rest);
      if constexpr (!std::is_same_v<S, A>)
        if (wanted) level<S>().narrow(product.in_size(), wide, to);
    }
  });
  gradients.reduce();
  if (children * batch > 0) product.add_gradients(gradients.at(0, 0), pointer<A>(dweight));
  return {dx, dweight, dgain, dbias};
}

template <class S>
Product<S> pointwise_of(const Tensor& x, const Tensor& weight, const Tensor& gain, bool reduced) {
  check_images(x);
  check_weights(x, {&weight, &gain});
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(0) == x.size(4), "weight must be [C, C']");
  const Linear linear{int(x.size(2)), int(x.size(3)), int(x.size(4)), int(weight.size(1)), reduced};
  return {false, linear, {}, true, {}};
}

template <class S>
Product<S> convolution_of(const Tensor& x, const Tensor& kernel, const Tensor& gain) {
  check_images(x);
  check_weights(x, {&kernel, &gain});
  STD_TORCH_CHECK(kernel.dim() == 4 && kernel.size(0) == kernel.size(1) && kernel.size(2) == x.size(4),
                  "kernel must be [k, k, C, C']");
  const Dense dense{int(x.size(2)), int(x.size(3)), int(x.size(4)), int(kernel.size(3)), int(kernel.size(0))};
  return {true, {}, dense, false, {}};
}

std::tuple<Tensor, Tensor, Tensor> pointwise_norm(const Tensor& x, const Tensor& weight, const Tensor& gain,
                                                  const Tensor& bias, const std::optional<Tensor>& statistics,
                                                  bool reduced) {
  return dispatch(x, [&]<class S>() {
    return forward<S>(pointwise_of<S>(x, weight, gain, reduced), x, weight, gain, bias, statistics);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> pointwise_norm_backward(const Tensor& grad, const Tensor& x,
                                                                   const Tensor& weight, const Tensor& gain,
                                                                   const Tensor& z, const Tensor& used, bool given,
                                                                   bool reduced) {
  return dispatch(x, [&]<class S>() {
    return backward<S>(pointwise_of<S>(x, weight, gain, reduced), grad, x, weight, gain, z, used, given, true);
  });
}

std::tuple<Tensor, Tensor, Tensor> convolution_norm(const Tensor& x, const Tensor& kernel, const Tensor& gain,
                                                    const Tensor& bias, const std::optional<Tensor>& statistics) {
  return dispatch(x, [&]<class S>() {
    return forward<S>(convolution_of<S>(x, kernel, gain), x, kernel, gain, bias, statistics);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> convolution_norm_backward(const Tensor& grad, const Tensor& x,
                                                                     const Tensor& kernel, const Tensor& gain,
                                                                     const Tensor& z, const Tensor& used, bool given,
                                                                     bool wanted) {
  return dispatch(x, [&]<class S>() {
    return backward<S>(convolution_of<S>(x, kernel, gain), grad, x, kernel, gain, z, used, given, wanted);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) {
  m.impl("pointwise_norm", TORCH_BOX(&pointwise_norm));
  m.impl("pointwise_norm_backward", TORCH_BOX(&pointwise_norm_backward));
  m.impl("convolution_norm", TORCH_BOX(&convolution_norm));
  m.impl("convolution_norm_backward", TORCH_BOX(&convolution_norm_backward));
}
