// From the arguments of a policy to what its walk knows, for both twins.
#pragma once
#include <algorithm>

#include "policy.h"
#include "tensors.h"

namespace enas::policy {

inline void check_shape(const Tensor& tensor, std::initializer_list<int64_t> sizes, const char* what) {
  STD_TORCH_CHECK(tensor.is_contiguous() && tensor.dim() == int64_t(sizes.size()) &&
                      std::equal(sizes.begin(), sizes.end(), tensor.sizes().begin()),
                  what);
}

struct Weights {
  const Tensor &recurrent, &key, &query, &value, &inputs, &softmax, &bias;
};

struct Tables {
  const Tensor &numbers, &steps, &choices;
};

// The sizes are those of the tensors; nodes and queries are counted by the caller, since the tables may be on a device.
template <class A>
Policy<A> policy_of(const Weights& weights, const Tables& tables, int64_t nodes, int64_t queries) {
  STD_TORCH_CHECK(weights.key.dim() == 2 && weights.softmax.dim() == 2 && tables.numbers.dim() == 2 &&
                      tables.steps.dim() == 2 && nodes >= 0 && queries >= 0,
                  "weights and tables must be those of a policy");
  STD_TORCH_CHECK(tables.steps.size(0) > 0, "a program has steps");
  const int64_t hidden = weights.key.size(0), words = weights.softmax.size(0);
  const int64_t choices = tables.numbers.size(0), alternatives = tables.numbers.size(1) - PRIOR;
  const ScalarType type = weights.recurrent.scalar_type();
  for (const Tensor* weight : {&weights.key, &weights.query, &weights.value, &weights.inputs, &weights.softmax, &weights.bias})
    STD_TORCH_CHECK(weight->scalar_type() == type, "all weights must have one type");
  check_shape(weights.recurrent, {2 * hidden, 4 * hidden}, "recurrent must be [2H, 4H]");
  check_shape(weights.key, {hidden, hidden}, "key must be [H, H]");
  check_shape(weights.query, {hidden, hidden}, "query must be [H, H]");
  check_shape(weights.value, {hidden, 1}, "value must be [H, 1]");
  check_shape(weights.inputs, {1 + words, hidden}, "inputs must be [1 + V, H]");
  check_shape(weights.softmax, {words, hidden}, "softmax must be [V, H]");
  check_shape(weights.bias, {words}, "bias must be [V]");
  STD_TORCH_CHECK(tables.numbers.scalar_type() == ScalarType::Double && tables.steps.scalar_type() == ScalarType::Int &&
                      tables.choices.scalar_type() == ScalarType::Int,
                  "numbers must be float64, steps and choices int32");
  STD_TORCH_CHECK(tables.numbers.is_contiguous(), "numbers must be contiguous");
  check_shape(tables.steps, {tables.steps.size(0), STEP_FIELDS}, "steps must be [S, 7]");
  check_shape(tables.choices, {choices, NODES + alternatives}, "choices of the program must be [D, 4 + A]");

  Policy<A> policy{};
  policy.sizes = {int(hidden), int(words),   int(tables.steps.size(0)), int(nodes),
                  int(queries), int(choices), int(alternatives)};
  policy.kept = Kept::of(policy.sizes);
  policy.deltas = Deltas::of(policy.sizes);
  policy.room = Room::of(policy.sizes);
  policy.recurrent = pointer<A>(weights.recurrent);
  policy.key = pointer<A>(weights.key);
  policy.query = pointer<A>(weights.query);
  policy.value = pointer<A>(weights.value);
  policy.softmax = pointer<A>(weights.softmax);
  policy.bias = pointer<A>(weights.bias);
  policy.numbers = pointer<double>(tables.numbers);
  policy.steps = pointer<int32_t>(tables.steps);
  policy.choices = pointer<int32_t>(tables.choices);
  return policy;
}

inline void check_rows(const Sizes& sizes, const Tensor& rows, const std::optional<Tensor>& active) {
  STD_TORCH_CHECK(rows.scalar_type() == ScalarType::Long && rows.dim() == 2, "rows must be int64 [n, D]");
  check_shape(rows, {rows.size(0), sizes.choices}, "rows must be [n, D]");
  if (!active.has_value()) return;
  STD_TORCH_CHECK(active->scalar_type() == ScalarType::Bool, "active must be bool");
  check_shape(*active, {rows.size(0), sizes.choices}, "active must be [n, D]");
}
inline void check_forward(const Sizes& sizes, const Tensor& recurrent, const Tensor& rows,
                          const std::optional<Tensor>& active, const std::optional<Tensor>& noise) {
  check_rows(sizes, rows, active);
  if (!noise.has_value()) return;
  STD_TORCH_CHECK(noise->scalar_type() == recurrent.scalar_type(), "noise must have the type of the weights");
  check_shape(*noise, {rows.size(0), sizes.choices, sizes.alternatives}, "noise must be [n, D, A]");
}
template <class A>
void check_backward(const Policy<A>& policy, const Tensor& recurrent, const Tensor& grad, const Tensor& rows,
                    const std::optional<Tensor>& active, const Tensor& saved) {
  check_rows(policy.sizes, rows, active);
  for (const Tensor* tensor : {&grad, &saved})
    STD_TORCH_CHECK(tensor->scalar_type() == recurrent.scalar_type(), "gradients must have the type of the weights");
  check_shape(grad, {SCORES, rows.size(0)}, "the gradient must be [3, n]");
  check_shape(saved, {rows.size(0), policy.kept.size}, "saved must be what forward kept");
}

// Calls f.operator()<A>() for the type of the weights.
template <class F>
auto dispatch_policy(const Tensor& recurrent, F f) {
  switch (recurrent.scalar_type()) {
    case ScalarType::Float: return f.template operator()<float>();
#if !defined(__CUDACC__)
    case ScalarType::Double: return f.template operator()<double>();
#endif
    default: STD_TORCH_CHECK(false, "a policy is float32, or on the CPU float64"); std::abort();
  }
}

// The transposes that backward reads.
struct Transposes {
  Tensor recurrent, key, query;
  explicit Transposes(const Weights& weights)
      : recurrent(of(weights.recurrent)), key(of(weights.key)), query(of(weights.query)) {}
  static Tensor of(const Tensor& weight) { return torch::stable::contiguous(torch::stable::transpose(weight, 0, 1)); }
  template <class A>
  void set(Policy<A>& policy) const {
    policy.recurrent_transposed = pointer<A>(recurrent);
    policy.key_transposed = pointer<A>(key);
    policy.query_transposed = pointer<A>(query);
  }
};

// The gradients of all weights, in the order of Weights.
struct Gradients {
  Tensor recurrent, key, query, value, inputs, softmax, bias;
  explicit Gradients(const Weights& weights)
      : recurrent(torch::stable::empty_like(weights.recurrent)),
        key(torch::stable::empty_like(weights.key)),
        query(torch::stable::empty_like(weights.query)),
        value(torch::stable::empty_like(weights.value)),
        inputs(torch::stable::empty_like(weights.inputs)),
        softmax(torch::stable::empty_like(weights.softmax)),
        bias(torch::stable::empty_like(weights.bias)) {}
  std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> all() const {
    return {recurrent, key, query, value, inputs, softmax, bias};
  }
};

// The products of the inputs with the input half of the recurrent weights.
template <class A>
Sums<A> projection(const Policy<A>& policy, const A* inputs, A* projected) {
  const int64_t hidden = policy.sizes.hidden, gates = 4 * hidden;
  return {inputs, policy.recurrent, 0, 1, hidden, 0, gates, 1, hidden, 1 + policy.sizes.words, int(gates), projected, false};
}

// What is summed over rows once all are walked back: gradients of the recurrent weights (hidden state, anchors), of key
// and query; and, as products with a column of ones, of `projected`, softmax, bias and value.
constexpr int SUMS = 8;
template <class A>
struct AllSums {
  Sums<A> sums[SUMS];
};
template <class A>
AllSums<A> sums_over_rows(const Policy<A>& policy, int64_t rows, const A* saved, const A* deltas, const A* one,
                          A* dprojected, const Gradients& to) {
  const Sizes& s = policy.sizes;
  const Deltas& at = policy.deltas;
  const int64_t hidden = s.hidden, gates = 4 * hidden, left = policy.kept.size, right = at.size;
  const A *nodes = saved + policy.kept.node_hidden, *queries = saved + policy.kept.query_hidden;
  const A* states = saved + policy.kept.states + 5 * hidden;
  A* recurrent = pointer<A>(to.recurrent);
  const auto outer = [&](const A* from, int64_t from_item, int64_t items, int64_t delta, int64_t width, A* target) {
    return Sums<A>{from, deltas + delta, left, from_item, 1, right, width, rows, items, s.hidden, int(width), target, false};
  };
  const auto plain = [&](int64_t delta, int64_t end, A* target) {
    return Sums<A>{one, deltas + delta, 0, 0, 0, right, 0, rows, 1, 1, int(end - delta), target, false};
  };
  return {{
      outer(states, 6 * hidden, s.steps - 1, at.gates + gates, gates, recurrent + hidden * gates),
      outer(nodes, hidden, s.nodes, at.anchors, gates, recurrent),
      outer(nodes, hidden, s.nodes, at.keys, hidden, pointer<A>(to.key)),
      outer(queries, hidden, s.queries, at.queries, hidden, pointer<A>(to.query)),
      plain(at.projected, at.softmax, dprojected),
      plain(at.softmax, at.bias, pointer<A>(to.softmax)),
      plain(at.bias, at.value, pointer<A>(to.bias)),
      plain(at.value, at.size, pointer<A>(to.value)),
  }};
}

// What follows from the gradient of `projected`: that of the inputs, and the rest of that of the recurrent weights.
template <class A>
Sums<A> input_gradient(const Policy<A>& policy, const A* dprojected, const Gradients& to) {
  const int64_t hidden = policy.sizes.hidden, gates = 4 * hidden;
  return {dprojected, policy.recurrent_transposed, 0, 1, gates, 0, 2 * hidden, 1, gates, 1 + policy.sizes.words,
          int(hidden), pointer<A>(to.inputs), false};
}
template <class A>
Sums<A> recurrent_gradient(const Policy<A>& policy, const A* inputs, const A* dprojected, const Gradients& to) {
  const int64_t hidden = policy.sizes.hidden, gates = 4 * hidden;
  return {inputs, dprojected, 0, hidden, 1, 0, gates, 1, 1 + policy.sizes.words, int(hidden), int(gates),
          pointer<A>(to.recurrent), true};
}

}  // namespace enas::policy
