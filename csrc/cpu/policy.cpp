// A recurrent policy on the CPU: a few rows a thread; then the sums over rows, a few lines of each a thread.
#include "../policy_arguments.h"

#include "batch.h"

namespace {
using namespace enas;
using namespace enas::policy;

// f(first row, rows) for all rows in teams of nearly equal size, whatever the number of threads.
template <class F>
void each_team(int64_t rows, F f) {
  const int64_t teams = (rows + TEAM - 1) / TEAM;
  parallel(teams, [&](int64_t team) {
    const int64_t first = team * rows / teams;
    f(first, (team + 1) * rows / teams - first);
  });
}

// All parts of some matrices of sums.
template <class A>
void compute(const Sums<A>* sums, int count) {
  std::vector<std::pair<int, int>> parts;
  for (int i = 0; i < count; ++i)
    for (int line = 0; line < sums[i].lines; line += LINES) parts.push_back({i, line});
  parallel(int64_t(parts.size()), [&](int64_t part) {
    level<A>().policy_sums(sums[parts[part].first], parts[part].second);
  });
}

// Sets what the walk reads of the inputs, and returns it.
template <class A>
Tensor project(Policy<A>& policy, const Tensor& inputs) {
  Tensor projected = empty(inputs, {inputs.size(0), policy.sizes.gates()});
  policy.projected = pointer<A>(projected);
  const Sums<A> sums = projection(policy, pointer<A>(inputs), pointer<A>(projected));
  compute(&sums, 1);
  return projected;
}

template <class A>
std::tuple<Tensor, Tensor, Tensor> forward(const Policy<A>& policy, const Tensor& like, const Tensor& choices,
                                           const std::optional<Tensor>& active, const std::optional<Tensor>& noise,
                                           bool keep) {
  const Sizes& sizes = policy.sizes;
  const int64_t count = choices.size(0);
  Tensor scores = empty(like, {SCORES, count}), chosen = torch::stable::empty_like(choices);
  Tensor saved = empty(like, {count, keep ? policy.kept.size : 0});
  const int64_t numbers = int64_t(sizes.choices) * sizes.alternatives;
  each_team(count, [&](int64_t first, int64_t rows) {
    Rows<A> some{};
    some.all = count;
    some.given = pointer<int64_t>(choices) + first * sizes.choices;
    some.chosen = pointer<int64_t>(chosen) + first * sizes.choices;
    if (active.has_value()) some.active = pointer<bool>(active) + first * sizes.choices;
    if (noise.has_value()) some.noise = pointer<A>(noise) + first * numbers;
    if (keep) some.saved = pointer<A>(saved) + first * policy.kept.size;
    some.room = thread_scratch<A>(rows * policy.room.size);
    some.scores = pointer<A>(scores) + first;
    level<A>().policy_forward(policy, some, rows);
  });
  return {scores, chosen, saved};
}

std::tuple<Tensor, Tensor, Tensor> forward_of(const Tensor& recurrent, const Tensor& key, const Tensor& query,
                                              const Tensor& value, const Tensor& inputs, const Tensor& softmax,
                                              const Tensor& bias, const Tensor& numbers, const Tensor& steps,
                                              const Tensor& decisions, int64_t nodes, int64_t queries,
                                              const Tensor& choices, const std::optional<Tensor>& active,
                                              const std::optional<Tensor>& noise, bool keep) {
  const Weights weights{recurrent, key, query, value, inputs, softmax, bias};
  return dispatch_policy(recurrent, [&]<class A>() {
    Policy<A> policy = policy_of<A>(weights, {numbers, steps, decisions}, nodes, queries);
    check_forward(policy.sizes, recurrent, choices, active, noise);
    const int64_t width = policy.sizes.choices;
    for (int64_t i = 0; i < choices.numel() && !noise.has_value(); ++i) {
      const int32_t* decision = policy.choice(int(i % width));
      const int64_t choice = pointer<int64_t>(choices)[i / width * width + decision[PLACE]];
      STD_TORCH_CHECK(choice >= 0 && choice < decision[ALTERNATIVES], "a choice is none of the alternatives");
    }
    const Tensor projected = project(policy, inputs);
    return forward(policy, recurrent, choices, active, noise, keep);
  });
}

template <class A>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const Policy<A>& policy, const Weights& weights, const Tensor& grad, const Tensor& choices,
    const std::optional<Tensor>& active, const Tensor& saved) {
  const Sizes& sizes = policy.sizes;
  const int64_t count = choices.size(0);
  Tensor deltas = empty(saved, {count, policy.deltas.size});
  each_team(count, [&](int64_t first, int64_t rows) {
    Rows<A> some{};
    some.all = count;
    some.chosen = pointer<int64_t>(choices) + first * sizes.choices;
    if (active.has_value()) some.active = pointer<bool>(active) + first * sizes.choices;
    some.saved = pointer<A>(saved) + first * policy.kept.size;
    some.room = thread_scratch<A>(rows * policy.room.size);
    some.dscores = pointer<A>(grad) + first;
    some.deltas = pointer<A>(deltas) + first * policy.deltas.size;
    level<A>().policy_backward(policy, some, rows);
  });

  const Gradients made(weights);
  const A one = A(1);
  std::vector<A> dprojected((1 + sizes.words) * sizes.gates());
  const AllSums<A> all =
      sums_over_rows(policy, count, pointer<A>(saved), pointer<A>(deltas), &one, dprojected.data(), made);
  compute(all.sums, SUMS);
  const Sums<A> rest[] = {input_gradient(policy, dprojected.data(), made),
                          recurrent_gradient(policy, pointer<A>(weights.inputs), dprojected.data(), made)};
  compute(rest, 2);
  return made.all();
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward_of(
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
    return backward(policy, weights, grad, choices, active, saved);
  });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) {
  m.impl("policy", TORCH_BOX(&forward_of));
  m.impl("policy_backward", TORCH_BOX(&backward_of));
}
