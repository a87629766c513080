// What the code compiled once for each instruction set offers to the rest: work on ONE image, by one thread. Everything
// that knows of batches, children, routes and threads is compiled once, in csrc/cpu/*.cpp.
//
// S is the type of storage (float, double, BFloat16), A that of arithmetic (float, or double for double). Images are
// [pixels][channels] without gaps. `scratch` is `*_scratch(...)` numbers, private to the calling thread.
#pragma once
#include "../descent.h"
#include "../policy.h"
#include "../storage.h"

namespace enas {

// The size of an image and what is done to it.
struct Half {  // depthwise kernel x kernel, pointwise
  int height, width, channels, outputs, kernel, stride, dilation;
  int out_height() const { return (height + stride - 1) / stride; }
  int out_width() const { return (width + stride - 1) / stride; }
  int64_t pixels() const { return int64_t(height) * width; }
  int64_t out_pixels() const { return int64_t(out_height()) * out_width(); }
};
struct Linear {  // 1x1 convolution, or a factorised reduction of two of them
  int height, width, inputs, outputs;
  bool reduced;
  int out_height() const { return reduced ? (height + 1) / 2 : height; }
  int out_width() const { return reduced ? (width + 1) / 2 : width; }
  int64_t pixels() const { return int64_t(height) * width; }
  int64_t out_pixels() const { return int64_t(out_height()) * out_width(); }
};
struct Dense {  // kernel x kernel convolution, stride 1
  int height, width, inputs, outputs, kernel;
  int64_t pixels() const { return int64_t(height) * width; }
};
struct Pool {  // 3 x 3
  int height, width, channels, stride;
  bool maximum;
  int out_height() const { return (height + stride - 1) / stride; }
  int out_width() const { return (width + stride - 1) / stride; }
};

// What weights are prepared for: each pass reads them in its own order.
enum class Pass { FORWARD, BACKWARD };

// Per-channel factors and offsets of an affine map that is applied on load; none where null.
template <class A>
struct Load {
  const A* factor;
  const A* offset;
};

// dz = scale * on_grad * dy + on_z * z + constant, per channel; dz = scale * dy where null.
template <class A>
struct Gradient {
  const A* dy;
  A scale;
  const A* on_grad;
  const A* on_z;
  const A* constant;
};

// How many rows of a policy a thread walks at once, and how many lines of a matrix of sums.
namespace policy {
constexpr int TEAM = 5;
constexpr int LINES = 16;
}

template <class S, class A = Arithmetic<S>>
struct Level {
  // Weights in the order the loops read them; their gradients in blocks of `*_gradients` numbers, to be zeroed first.
  int64_t (*half_prepared)(const Half&);
  void (*half_prepare)(const Half&, Pass, const A* depthwise, const A* pointwise, A* prepared);
  int64_t (*half_gradients)(const Half&);
  void (*half_add_gradients)(const Half&, const A* gradients, A* depthwise, A* pointwise);
  int64_t (*linear_prepared)(const Linear&);
  void (*linear_prepare)(const Linear&, Pass, const A* weight, A* prepared);
  int64_t (*linear_gradients)(const Linear&);
  void (*linear_add_gradients)(const Linear&, const A* gradients, A* weight);
  int64_t (*dense_prepared)(const Dense&);
  void (*dense_prepare)(const Dense&, const A* kernel, A* prepared);
  int64_t (*dense_gradients)(const Dense&);
  void (*dense_add_gradients)(const Dense&, const A* gradients, A* kernel);

  // z of a half, and its moments [3][outputs]: a shift and the sums of (z - shift) and (z - shift)^2.
  int64_t (*half_scratch)(const Half&);
  void (*half_forward)(const Half&, const A* prepared, const S* x, Load<A>, S* z, A* moments, A* scratch);
  // Backward of a half with recompute. The gradient of x (with `load`, of factor * x + offset) is stored in dx, or added
  // to it; sums [2][channels], where wanted, are those of it and of it * (x - centre).
  void (*half_backward)(const Half&, const A* prepared, const S* x, Load<A>, const S* z, Gradient<A>, A* dx, bool add,
                        const A* centre, A* sums, A* gradients, A* scratch);

  // sum (+)= x W with or without ReLU in front; sum is [out_pixels][outputs].
  int64_t (*linear_scratch)(const Linear&);
  void (*linear_forward)(const Linear&, const A* prepared, const S* x, bool relu, A* sum, bool add, A* scratch);
  // dx += dz W^T where the ReLU let x pass, [pixels][inputs]; `gradients` grows.
  void (*linear_backward)(const Linear&, const A* prepared, const S* x, bool relu, const A* dz, A* dx, A* gradients,
                          A* scratch);
  int64_t (*dense_scratch)(const Dense&);
  void (*dense_forward)(const Dense&, const A* prepared, const S* x, A* sum, A* scratch);
  void (*dense_backward)(const Dense&, const A* prepared, const S* x, const A* dz, A* dx, A* gradients, A* scratch);

  // z = sum in storage, and its moments.
  void (*finish)(int64_t pixels, int channels, const A* sum, S* z, A* moments, A* scratch);
  // dz of a batch norm.
  void (*norm_gradient)(int64_t pixels, int channels, const S* z, Gradient<A>, A* dz, A* scratch);
  // sums [2][channels] of dy and of dy * (z - centre).
  void (*norm_sums)(int64_t pixels, int channels, const A* dy, const S* z, const A* centre, A* sums, A* scratch);
  // sum = or += scale * (factor * z + offset).
  void (*add_affine)(int64_t pixels, int channels, const S* z, Load<A>, A scale, A* sum, bool add, A* scratch);
  // sum = or += scale * pool(x); dx += scale * its backward.
  int64_t (*pool_scratch)(const Pool&);
  void (*pool_forward)(const Pool&, const S* x, A scale, A* sum, bool add, A* scratch);
  void (*pool_backward)(const Pool&, const S* x, const A* dy, A scale, A* dx, A* scratch);
  void (*widen)(int64_t size, const S* from, A scale, A* to, bool add);
  void (*narrow)(int64_t size, const A* from, S* to);
  // totals[i] = the sum over the images of from[image * size + i].
  void (*sum_images)(int64_t images, int64_t size, const A* from, double* totals);
  // Mean and biased variance [2][channels] over images of `pixels` each, from moments [images][3][channels].
  void (*merge_moments)(int64_t images, int64_t pixels, int channels, const A* moments, A* used);
  // Walks `count` rows of a policy; one part of a matrix of sums.
  void (*policy_forward)(const policy::Policy<A>&, const policy::Rows<A>&, int64_t count);
  void (*policy_backward)(const policy::Policy<A>&, const policy::Rows<A>&, int64_t count);
  void (*policy_sums)(const policy::Sums<A>&, int line);
  // The sum of the squares of some numbers; a step of gradient descent of one tensor, whose gradient is zero where null.
  double (*sum_squares)(int64_t size, const A* numbers);
  void (*descend)(int64_t size, const DescentRule<A>&, A decay, const A* gradient, A* weight, A* momentum);
  int64_t (*channel_scratch)(int channels);  // for finish, norm_gradient, norm_sums, add_affine
};

// The best that this processor can run.
template <class S>
const Level<S>& level();

}  // namespace enas
