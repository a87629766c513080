// Every operation of the library on one page: its name and its schema. Each has a CPU twin (csrc/cpu) and a CUDA twin
// (csrc/cuda) under the same name; enas/kernels/native.py gives them gradients and shapes; enas/kernels/reference.py is
// their definition. To add an operation, copy what `null` has in these places.
//
// Tensors are contiguous and channels-last: images [M, B, H, W, C], M children of B images; an input with M = 1 is shared
// by all children. Images are float32, float64 or bfloat16; weights and statistics are float32, with float64 images
// float64. Statistics are [M, N, 2, C]: mean and biased variance of N normalisations, (0, 1) where one was not used.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(enas, m) {
  // A copy of x: the template of an operation, and the price of calling one.
  m.def("null(Tensor x) -> Tensor");

  // One half of a separable convolution: [affine,] ReLU, depthwise k x k, pointwise. x [M, B, H, W, C],
  // affine [M, 2, C] (factor, offset), depthwise [k, k, C], pointwise [C, C'] -> z [M, B, H', W', C'] and its
  // statistics [M, 2, C'] (mean, biased variance). k is 3, 5 or 7, stride and dilation 1 or 2.
  m.def(
      "sepconv_half(Tensor x, Tensor? affine, Tensor depthwise, Tensor pointwise, int stride, int dilation)"
      " -> (Tensor z, Tensor statistics)");
  // dz is the whole gradient of z. -> dx, daffine [M, 2, C] (empty without affine), ddepthwise, dpointwise.
  m.def(
      "sepconv_half_backward(Tensor dz, Tensor x, Tensor? affine, Tensor depthwise, Tensor pointwise, int stride,"
      " int dilation) -> (Tensor, Tensor, Tensor, Tensor)");

  // A doubled separable convolution, (ReLU, depthwise, pointwise, batch norm) twice: depthwise [2, k, k, C],
  // pointwise [2, C, C], gain and bias [2, C], statistics given or None. `slots` is 2 to keep what backward needs, else
  // 0. -> out [M, B, H', W', C], saved [M, slots, B, H', W', C] (the two outputs before their batch norms),
  // used [M, 2, 2, C].
  m.def(
      "separable(Tensor x, Tensor depthwise, Tensor pointwise, Tensor gain, Tensor bias, Tensor? statistics, int stride,"
      " int slots) -> (Tensor out, Tensor saved, Tensor used)");
  // `given` says that `used` was given and not of the batch. -> dx, ddepthwise, dpointwise, dgain, dbias.
  m.def(
      "separable_backward(Tensor grad, Tensor x, Tensor depthwise, Tensor pointwise, Tensor gain, Tensor bias, int stride,"
      " Tensor saved, Tensor used, bool given) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");

  // One cell for M children, told by routes int32 [M, E, 3]; see reference.cell. `weights` are the tensors of CellWeights
  // in order: separable3 and separable5 (depthwise, pointwise, gain, bias), identity, loose and, where the output is
  // projected, project (weight, gain, bias). `slots` is 0 to keep nothing, or the tensors kept for backward:
  // cell_slots(routes, stride) on the CPU, csrc/layout.h's cell_slots_at_most on CUDA, which cannot look.
  // -> out [M, B, H', W', C''], saved [M, slots, B, H', W', C], used [M, 2E + 3, 2, C].
  m.def(
      "cell(Tensor input0, Tensor input1, Tensor routes, Tensor[] weights, int[] block, int[] loose_row, Tensor? scale,"
      " Tensor? statistics, int stride, int slots) -> (Tensor out, Tensor saved, Tensor used)");
  // -> dinput0, dinput1, dscale (empty without scale), and a gradient for each of `weights`, zero in rows not used.
  m.def(
      "cell_backward(Tensor grad, Tensor input0, Tensor input1, Tensor routes, Tensor[] weights, int[] block,"
      " int[] loose_row, Tensor? scale, int stride, Tensor saved, Tensor used, bool given)"
      " -> (Tensor, Tensor, Tensor, Tensor[])");
  // The most tensors that a child of these routes (on the CPU) keeps for backward.
  m.def("cell_slots(Tensor routes, int stride) -> int");

  // ReLU, 1x1 convolution or (reduced) factorised reduction, batch norm. weight [C, C'], gain and bias [C'].
  // -> out, z (before the batch norm), used [M, 1, 2, C'].
  m.def(
      "pointwise_norm(Tensor x, Tensor weight, Tensor gain, Tensor bias, Tensor? statistics, bool reduced)"
      " -> (Tensor out, Tensor z, Tensor used)");
  // -> dx, dweight, dgain, dbias.
  m.def(
      "pointwise_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor gain, Tensor z, Tensor used, bool given,"
      " bool reduced) -> (Tensor, Tensor, Tensor, Tensor)");

  // Dense k x k convolution, padded by k / 2, and batch norm. kernel [k, k, C, C'] -> out, z, used [M, 1, 2, C'].
  m.def(
      "convolution_norm(Tensor x, Tensor kernel, Tensor gain, Tensor bias, Tensor? statistics)"
      " -> (Tensor out, Tensor z, Tensor used)");
  // -> dx (empty unless `wanted`), dkernel, dgain, dbias.
  m.def(
      "convolution_norm_backward(Tensor grad, Tensor x, Tensor kernel, Tensor gain, Tensor z, Tensor used, bool given,"
      " bool wanted) -> (Tensor, Tensor, Tensor, Tensor)");

  // Crop, flip, cutout, normalisation and cast of images uint8 [S, H, W, C] at `indices` int64 [N], as one gather; see
  // enas/kernels/augmentation.py. shifts int64 [N, 2] (rows, columns), flips bool [N], corners int64 [N, 2] (top,
  // left) of squares of `cutout` pixels; all three given or none. mean and std float32 or float64 [C].
  // -> [N, H, W, C] of type `dtype`.
  m.def(
      "augment(Tensor images, Tensor indices, Tensor? shifts, Tensor? flips, Tensor? corners, int cutout, Tensor mean,"
      " Tensor std, ScalarType dtype) -> Tensor");

  // A step of gradient descent, in place; see enas/kernels/descent.py. weights, all float32 or all float64, of any
  // shapes; momenta [N], one for each number of them in their order; gradients of their shapes, None for zero; a decay
  // for each; rate [] of their type. -> the norm [] of all gradients, before they are clipped.
  m.def(
      "descend(Tensor(a!)[] weights, Tensor(b!) momenta, Tensor?[] gradients, float[] decays, Tensor rate,"
      " float momentum, bool nesterov, float? clip) -> Tensor");

  // A recurrent policy: rows of decisions, sampled or given; see enas/kernels/recurrent.py. Weights, all float32 or all
  // float64, of H hidden units and V words: recurrent [2H, 4H], key and query [H, H], value [H, 1], inputs [1 + V, H],
  // softmax [V, H], bias [V]. The program: numbers float64 [D, 3 + A], steps int32 [S, 7], decisions int32 [D, 4 + A],
  // and how many nodes have keys and how many steps queries.
  // choices int64 [n, D] are given rows, or with Gumbel noise [n, D, A] only a shape; active bool [n, D].
  // -> scores [3, n] (log-probability, entropy, divergence of skips from their targets), chosen [n, D], saved [n, *] (*
  // is 0 unless kept for backward).
  m.def(
      "policy(Tensor recurrent, Tensor key, Tensor query, Tensor value, Tensor inputs, Tensor softmax, Tensor bias,"
      " Tensor numbers, Tensor steps, Tensor decisions, int nodes, int queries, Tensor choices, Tensor? active,"
      " Tensor? noise, bool keep) -> (Tensor scores, Tensor chosen, Tensor saved)");
  // -> a gradient for each of the weights.
  m.def(
      "policy_backward(Tensor grad, Tensor recurrent, Tensor key, Tensor query, Tensor value, Tensor inputs,"
      " Tensor softmax, Tensor bias, Tensor numbers, Tensor steps, Tensor decisions, int nodes, int queries,"
      " Tensor chosen, Tensor? active, Tensor saved) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");

  // A cell of DARTS and its kin: node i has an edge from each slot before it, 2 + i of them, and every edge gives the
  // sum of all `operations` (O codes), weighted by mixing [E, O]; see enas/kernels/mixed.py. `weights` are the tensors
  // of MixedWeights: depthwise [E, h, k, k, C] and pointwise [E, h, C, C] of each convolution, h its halves, then
  // identity [2 * nodes, C, C] (no rows with stride 1), gain and bias [E, N, C] of the N batch norms of an edge.
  // `slots` is 0, or csrc/mixed.h's count to keep what backward needs.
  // -> out [M, B, H', W', nodes * C], saved [M, slots, B, H', W', C], used [M, E * N, 2, C].
  m.def(
      "mixed_cell(Tensor input0, Tensor input1, Tensor mixing, Tensor[] weights, int[] operations, Tensor? statistics,"
      " int stride, int slots) -> (Tensor out, Tensor saved, Tensor used)");
  // -> dinput0, dinput1, dmixing, and a gradient for each of `weights`.
  m.def(
      "mixed_cell_backward(Tensor grad, Tensor input0, Tensor input1, Tensor mixing, Tensor[] weights,"
      " int[] operations, int stride, Tensor saved, Tensor used, bool given) -> (Tensor, Tensor, Tensor, Tensor[])");
}
