// A doubled separable convolution on the CPU.
#include <array>

#include "../checks.h"
#include "batch.h"

namespace {
using namespace enas;

struct Halves {
  Half first, second;
  const Half& operator[](int half) const { return half ? second : first; }
};

Halves halves_of(const Tensor& x, const Tensor& depthwise, const Tensor& pointwise, const Tensor& gain,
                 const Tensor& bias, int64_t stride) {
  check_separable(x, depthwise, pointwise, gain, bias, stride);
  const int channels = int(x.size(4)), kernel = int(depthwise.size(1));
  const Half first{int(x.size(2)), int(x.size(3)), channels, channels, kernel, int(stride), 1};
  return {first, {first.out_height(), first.out_width(), channels, channels, kernel, 1, 1}};
}

// The weights of both halves in the order that the loops read.
template <class S, class A = Arithmetic<S>>
std::array<std::unique_ptr<A[]>, 2> prepare(const Halves& halves, Pass pass, const Tensor& depthwise,
                                            const Tensor& pointwise) {
  std::array<std::unique_ptr<A[]>, 2> prepared;
  const int64_t channels = halves.first.channels, taps = int64_t(halves.first.kernel) * halves.first.kernel;
  parallel(2, [&](int64_t half) {
    prepared[half].reset(new A[level<S>().half_prepared(halves[int(half)])]);
    level<S>().half_prepare(halves[int(half)], pass, pointer<A>(depthwise) + half * taps * channels,
                            pointer<A>(pointwise) + half * channels * channels, prepared[half].get());
  });
  return prepared;
}

template <class S>
std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& x, const Tensor& depthwise, const Tensor& pointwise,
                                           const Tensor& gain, const Tensor& bias,
                                           const std::optional<Tensor>& statistics, const Halves& halves,
                                           int64_t slots) {
  using A = Arithmetic<S>;
  const int64_t children = x.size(0), batch = x.size(1), images = children * batch;
  const int channels = halves.first.channels;
  const int64_t in = halves.first.pixels() * channels, out = halves.second.pixels() * channels;
  const auto shape = [&](int64_t count) {
    return empty(x, {children, count, batch, halves.second.height, halves.second.width, channels});
  };
  Tensor kept = shape(2);
  Tensor result = empty(x, {children, batch, halves.second.height, halves.second.width, channels});
  Tensor used = empty(x, {children, 2, 2, channels}, arithmetic_type(x));
  const auto prepared = prepare<S>(halves, Pass::FORWARD, depthwise, pointwise);
  std::unique_ptr<A[]> moments(new A[images * 3 * channels]);
  std::vector<Norm<A>> norms(2 * children);
  const auto z = [&](int64_t image, int half) {
    return pointer<S>(kept) + ((image / batch * 2 + half) * batch + image % batch) * out;
  };
  for (int half = 0; half < 2; ++half) {
    const int64_t scratch = level<S>().half_scratch(halves[half]);
    parallel(images, [&](int64_t image) {
      const S* source = half ? z(image, 0) : pointer<S>(x) + image * in;
      const Load<A> load = half ? norms[image / batch * 2].load() : Load<A>{nullptr, nullptr};
      level<S>().half_forward(halves[half], prepared[half].get(), source, load, z(image, half),
                              moments.get() + image * 3 * channels, thread_scratch<A>(scratch));
    });
    for (int64_t child = 0; child < children; ++child) {
      const int64_t place = child * 2 + half;
      A* own = pointer<A>(used) + place * 2 * channels;
      if (statistics.has_value())
        std::memcpy(own, pointer<A>(*statistics) + place * 2 * channels, 2 * channels * sizeof(A));
      else
        level<A>().merge_moments(batch, halves.second.pixels(), channels, moments.get() + child * batch * 3 * channels, own);
      norms[place].set(channels, own, pointer<A>(gain) + half * channels, pointer<A>(bias) + half * channels);
    }
  }
  parallel(images, [&](int64_t image) {
    A* scratch = thread_scratch<A>(out + level<S>().channel_scratch(channels) + 64);
    S* to = pointer<S>(result) + image * out;
    A* sum = formed_in(to, scratch);
    level<S>().add_affine(halves.second.pixels(), channels, z(image, 1), norms[image / batch * 2 + 1].load(), A(1), sum,
                          false, scratch + (out + 15) / 16 * 16);
    if constexpr (!std::is_same_v<S, A>) level<S>().narrow(out, sum, to);
  });
  return {result, slots ? kept : shape(0), used};
}

template <class S>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x,
                                                            const Tensor& depthwise, const Tensor& pointwise,
                                                            const Tensor& gain, const Tensor& bias, const Tensor& saved,
                                                            const Tensor& used, bool given, const Halves& halves) {
  using A = Arithmetic<S>;
  const int64_t children = x.size(0), batch = x.size(1), images = children * batch;
  const int channels = halves.first.channels;
  const int64_t in = halves.first.pixels() * channels, out = halves.second.pixels() * channels;
  const int64_t taps = int64_t(halves.first.kernel) * halves.first.kernel;
  Tensor dx = empty(x, {children, batch, halves.first.height, halves.first.width, channels});
  Tensor ddepthwise = zeros_like(depthwise), dpointwise = zeros_like(pointwise);
  Tensor dgain = zeros_like(gain), dbias = zeros_like(gain);
  const auto prepared = prepare<S>(halves, Pass::BACKWARD, depthwise, pointwise);
  const int64_t wide = (std::max(in, out) + 15) / 16 * 16;
  std::unique_ptr<A[]> sums(new A[images * 2 * channels]);
  std::unique_ptr<A[]> between(new A[images * out]);  // the gradient of what the first half's batch norm gives
  std::vector<Norm<A>> norms(2 * children);
  const auto z = [&](int64_t image, int half) {
    return pointer<S>(saved) + ((image / batch * 2 + half) * batch + image % batch) * out;
  };
  const auto statistics = [&](int64_t child, int half) { return pointer<A>(used) + (child * 2 + half) * 2 * channels; };
  for (int64_t child = 0; child < children; ++child)
    norms[2 * child].set(channels, statistics(child, 0), pointer<A>(gain), pointer<A>(bias));
  const auto join = [&](int half) {
    for (int64_t child = 0; child < children; ++child)
      norms[2 * child + half].set_backward(channels, statistics(child, half), pointer<A>(gain) + half * channels,
                                           sums.get() + child * batch * 2 * channels, batch, halves.second.pixels(),
                                           given, pointer<A>(dgain) + half * channels,
                                           pointer<A>(dbias) + half * channels);
  };
  const auto widened = [&](int64_t image, [[maybe_unused]] A* to) -> const A* {
    const S* from = pointer<S>(grad) + image * out;
    if constexpr (std::is_same_v<S, A>) {
      return from;
    } else {
      level<S>().widen(out, from, A(1), to, false);
      return to;
    }
  };
  parallel(images, [&](int64_t image) {
    A* own = thread_scratch<A>(wide + level<S>().channel_scratch(channels));
    level<S>().norm_sums(halves.second.pixels(), channels, widened(image, own), z(image, 1),
                         statistics(image / batch, 1), sums.get() + image * 2 * channels, own + wide);
  });
  join(1);
  const ImageBlocks blocks(batch, halves.second.pixels());
  for (int half = 1; half >= 0; --half) {
    const int64_t scratch = level<S>().half_scratch(halves[half]) + wide;
    BlockGradients<A> gradients(children * blocks.count, {level<S>().half_gradients(halves[half])});
    parallel(children * blocks.count, [&](int64_t job) {
      const int64_t child = job / blocks.count, block = job % blocks.count;
      const Norm<A>& norm = norms[2 * child + half];
      gradients.clear(job);
      for (int64_t image = child * batch + blocks.begin(block); image < child * batch + blocks.end(block); ++image) {
        A* own = thread_scratch<A>(scratch);
        A* middle = between.get() + image * out;
        if (half) {
          level<S>().half_backward(halves.second, prepared[1].get(), z(image, 0), norms[2 * child].load(), z(image, 1),
                                   norm.gradient(widened(image, own), A(1)), middle, false, statistics(child, 0),
                                   sums.get() + image * 2 * channels, gradients.at(job, 0), own + wide);
        } else {
          S* to = pointer<S>(dx) + image * in;
          A* wide_to = own;
          if constexpr (std::is_same_v<S, A>) wide_to = to;
          level<S>().half_backward(halves.first, prepared[0].get(), pointer<S>(x) + image * in, {nullptr, nullptr},
                                   z(image, 0), norm.gradient(middle, A(1)), wide_to, false, nullptr, nullptr,
                                   gradients.at(job, 0), own + wide);
          if constexpr (!std::is_same_v<S, A>) level<S>().narrow(in, wide_to, to);
        }
      }
    });
    gradients.reduce();
    if (images > 0)
      level<S>().half_add_gradients(halves[half], gradients.at(0, 0), pointer<A>(ddepthwise) + half * taps * channels,
                                    pointer<A>(dpointwise) + half * channels * channels);
    if (half) join(0);
  }
  return {dx, ddepthwise, dpointwise, dgain, dbias};
}

std::tuple<Tensor, Tensor, Tensor> separable(const Tensor& x, const Tensor& depthwise, const Tensor& pointwise,
                                             const Tensor& gain, const Tensor& bias,
                                             const std::optional<Tensor>& statistics, int64_t stride, int64_t slots) {
  const Halves halves = halves_of(x, depthwise, pointwise, gain, bias, stride);
  return dispatch(x, [&]<class S>() {
    return forward<S>(x, depthwise, pointwise, gain, bias, statistics, halves, slots);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> separable_backward(const Tensor& grad, const Tensor& x,
                                                                      const Tensor& depthwise, const Tensor& pointwise,
                                                                      const Tensor& gain, const Tensor& bias,
                                                                      int64_t stride, const Tensor& saved,
                                                                      const Tensor& used, bool given) {
  const Halves halves = halves_of(x, depthwise, pointwise, gain, bias, stride);
  return dispatch(x, [&]<class S>() {
    return backward<S>(grad, x, depthwise, pointwise, gain, bias, saved, used, given, halves);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) {
  m.impl("separable", TORCH_BOX(&separable));
  m.impl("separable_backward", TORCH_BOX(&separable_backward));
}
