// A recurrent policy on CUDA: a block walks a row; then the sums over rows, a thread for each number.
#include "../policy_arguments.h"
#include "../policy_backward.h"

#include "block.cuh"
#include "launch.h"

namespace {
using namespace enas;
using namespace enas::policy;

constexpr int THREADS = 256, WARP = 32;

template <class A>
class Block {
 public:
  __device__ Block() : partial_(SharedMemory().take<A>(THREADS)) {}

  template <class F>
  __device__ void each(int count, F f) const {
    const auto one = f(0);
    for (int i = int(threadIdx.x); i < count; i += THREADS) one(i);
    __syncthreads();
  }
  template <class F>
  __device__ void once(F f) const {
    if (threadIdx.x == 0) f(0);
    __syncthreads();
  }
  // A warp for each sum.
  template <class To, class F>
  __device__ void sums(int count, int depth, const To& to, F f) const {
    const auto one = f(0);
    const int lane = int(threadIdx.x) % WARP;
    for (int k = int(threadIdx.x) / WARP; k < count; k += THREADS / WARP) {
      A sum = A(0);
      for (int i = lane; i < depth; i += WARP) sum += one(k, i);
      for (int distance = WARP / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
      if (lane == 0) to(0)[k] = sum;
    }
    __syncthreads();
  }
  // As many threads share a column as there are, each with a part of the depth.
  template <class From, class To>
  __device__ void product(const From& from, int depth, const A* matrix, int pitch, int columns, const To& to,
                          bool add) const {
    const A* left = from(0);
    A* sums = to(0);
    const int side = columns < THREADS ? columns : THREADS, parts = THREADS / side;
    const int column = int(threadIdx.x) % side, part = int(threadIdx.x) / side;
    for (int first = 0; first < columns; first += side) {
      const int n = first + column;
      const bool inside = part < parts && n < columns;
      A sum = A(0);
      if (inside)
#pragma unroll 8
        for (int k = part * depth / parts; k < (part + 1) * depth / parts; ++k)
          sum += left[k] * matrix[int64_t(k) * pitch + n];
      partial_[threadIdx.x] = sum;
      __syncthreads();
      if (inside && part == 0) {
        for (int other = 1; other < parts; ++other) sum += partial_[other * side + column];
        sums[n] = add ? sums[n] + sum : sum;
      }
      __syncthreads();
    }
  }
  __device__ static A logistic(A x) { return A(1) / (A(1) + std::exp(-x)); }
  __device__ static A tanh(A x) { return std::tanh(x); }

 private:
  A* partial_;
};

// The rows from the one of this block on.
template <class A>
__device__ Rows<A> rows_of_block(const Policy<A>& policy, Rows<A> rows) {
  const int64_t row = blockIdx.x, choices = row * policy.sizes.choices;
  if (rows.given != nullptr) rows.given += choices;
  rows.chosen += choices;
  if (rows.active != nullptr) rows.active += choices;
  if (rows.noise != nullptr) rows.noise += choices * policy.sizes.alternatives;
  if (rows.saved != nullptr) rows.saved += row * policy.kept.size;
  rows.room += row * policy.room.size;
  if (rows.scores != nullptr) rows.scores += row;
  if (rows.dscores != nullptr) rows.dscores += row;
  if (rows.deltas != nullptr) rows.deltas += row * policy.deltas.size;
  return rows;
}

template <class A>
__global__ void __launch_bounds__(THREADS) walk_forward(Policy<A> policy, Rows<A> all) {
  Block<A> block;
  const Rows<A> rows = rows_of_block(policy, all);
  Forward<Block<A>, A>(block, policy, rows).walk();
}
template <class A>
__global__ void __launch_bounds__(THREADS) walk_backward(Policy<A> policy, Rows<A> all) {
  Block<A> block;
  const Rows<A> rows = rows_of_block(policy, all);
  Backward<Block<A>, A>(block, policy, rows).walk();
}

// The blocks of a line of the grid make one matrix of sums.
template <class A>
__global__ void __launch_bounds__(THREADS) compute_sums(AllSums<A> some) {
  const Sums<A>& sum = some.sums[blockIdx.y];
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= int64_t(sum.lines) * sum.columns) return;
  const A *left = sum.left + i / sum.columns * sum.left_line, *right = sum.right + i % sum.columns;
  A total = A(0);
  for (int64_t row = 0; row < sum.rows; ++row)
    for (int64_t item = 0; item < sum.items; ++item)
      total += left[row * sum.left_row + item * sum.left_item] * right[row * sum.right_row + item * sum.right_item];
  sum.to[i] = sum.add ? sum.to[i] + total : total;
}

template <class A>
void compute(const Tensor& on, const Sums<A>* sums, int count) {
  AllSums<A> some{};
  int64_t largest = 0;
  for (int i = 0; i < count; ++i) {
    some.sums[i] = sums[i];
    largest = std::max(largest, int64_t(sums[i].lines) * sums[i].columns);
  }
  launch(on, {dim3(blocks_of(largest, THREADS), unsigned(count)), THREADS}, compute_sums<A>, some);
}

template <class A>
Grid grid_of(const Tensor& choices) {
  return {unsigned(choices.size(0)), THREADS, shared_bytes<A>(THREADS)};
}

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& recurrent, const Tensor& key, const Tensor& query,
                                           const Tensor& value, const Tensor& inputs, const Tensor& softmax,
                                           const Tensor& bias, const Tensor& numbers, const Tensor& steps,
                                           const Tensor& decisions, int64_t nodes, int64_t queries,
                                           const Tensor& choices, const std::optional<Tensor>& active,
                                           const std::optional<Tensor>& noise, bool keep) {
  const Weights weights{recurrent, key, query, value, inputs, softmax, bias};
  return dispatch_policy(recurrent, [&]<class A>() -> std::tuple<Tensor, Tensor, Tensor> {
    Policy<A> policy = policy_of<A>(weights, {numbers, steps, decisions}, nodes, queries);
    check_forward(policy.sizes, recurrent, choices, active, noise);
    const int64_t count = choices.size(0);
    Tensor projected = empty(inputs, {inputs.size(0), policy.sizes.gates()});
    Tensor scores = empty(recurrent, {SCORES, count}), chosen = torch::stable::empty_like(choices);
    Tensor saved = empty(recurrent, {count, keep ? policy.kept.size : 0});
    Tensor room = empty(recurrent, {count, policy.room.size});
    policy.projected = pointer<A>(projected);
    const Sums<A> sums = projection(policy, pointer<A>(inputs), pointer<A>(projected));
    compute(recurrent, &sums, 1);
    Rows<A> rows{};
    rows.all = count;
    rows.given = pointer<int64_t>(choices);
    rows.chosen = pointer<int64_t>(chosen);
    rows.active = pointer<bool>(active);
    rows.noise = pointer<A>(noise);
    rows.saved = keep ? pointer<A>(saved) : nullptr;
    rows.room = pointer<A>(room);
    rows.scores = pointer<A>(scores);
    launch(recurrent, grid_of<A>(choices), walk_forward<A>, policy, rows);
    return {scores, chosen, saved};
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad, const Tensor& recurrent, const Tensor& key, const Tensor& query, const Tensor& value,
    const Tensor& inputs, const Tensor& softmax, const Tensor& bias, const Tensor& numbers, const Tensor& steps,
    const Tensor& decisions, int64_t nodes, int64_t queries, const Tensor& choices, const std::optional<Tensor>& active,
    const Tensor& saved) {
  const Weights weights{recurrent, key, query, value, inputs, softmax, bias};
  return dispatch_policy(recurrent, [&]<class A>() {
    Policy<A> policy = policy_of<A>(weights, {numbers, steps, decisions}, nodes, queries);
    check_backward(policy, recurrent, grad, choices, active, saved);
    const Transposes transposes(weights);
    transposes.set(policy);
    const int64_t count = choices.size(0);
    Tensor deltas = empty(saved, {count, policy.deltas.size}), room = empty(saved, {count, policy.room.size});
    Rows<A> rows{};
    rows.all = count;
    rows.chosen = pointer<int64_t>(choices);
    rows.active = pointer<bool>(active);
    rows.saved = pointer<A>(saved);
    rows.room = pointer<A>(room);
    rows.dscores = pointer<A>(grad);
    rows.deltas = pointer<A>(deltas);
    launch(recurrent, grid_of<A>(choices), walk_backward<A>, policy, rows);

    const Gradients made(weights);
    Tensor one = empty(recurrent, {1}), dprojected = empty(inputs, {inputs.size(0), policy.sizes.gates()});
    torch::stable::fill_(one, 1.0);
    const A* on_projected = pointer<A>(dprojected);
    const AllSums<A> all = sums_over_rows(policy, count, pointer<A>(saved), pointer<A>(deltas), pointer<A>(one),
                                          pointer<A>(dprojected), made);
    compute(recurrent, all.sums, SUMS);
    const Sums<A> rest[] = {input_gradient(policy, on_projected, made),
                            recurrent_gradient(policy, pointer<A>(inputs), on_projected, made)};
    compute(recurrent, rest, 2);
    return made.all();
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) {
  m.impl("policy", TORCH_BOX(&forward));
  m.impl("policy_backward", TORCH_BOX(&backward));
}
