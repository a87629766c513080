// The walk of a policy backward, from what the walk forward has kept.
#pragma once
#include "policy_walk.h"

namespace enas::policy {

template <class Team, class A>
class Backward : Walk<Team, A> {
 public:
  using Walk<Team, A>::Walk;

  ENAS_ON_DEVICE void walk() {
    const int hidden = sizes_.hidden, gates = sizes_.gates();
    clear(int(policy_.deltas.size - policy_.deltas.queries), in_deltas(policy_.deltas.queries));
    clear(2 * hidden, in_room(policy_.room.cell));  // where forward has the two states, backward has their gradients
    for (int s = sizes_.steps - 1; s >= 0; --s) {
      const int32_t* step = policy_.step(s);
      if (step[LENGTH] > 0) count_selected(step);
      for (int d = step[FIRST]; d < step[FIRST] + step[LENGTH]; ++d) decide_backward(s, d);
      if (step[QUERY] >= 0)
        team_.product(in_deltas(policy_.deltas.queries + int64_t(step[QUERY]) * hidden), hidden, policy_.query_transposed,
                      hidden, hidden, in_room(policy_.room.hidden), true);
      if (step[NODE] >= 0) key_backward(step[NODE], step[ANCHOR]);
      advance_backward(s, step[FROM_START]);
      if (s > 0)
        team_.product(in_deltas(policy_.deltas.gates + int64_t(s) * gates), gates,
                      policy_.recurrent_transposed + hidden, 2 * hidden, hidden, in_room(policy_.room.hidden), false);
    }
  }

 private:
  using Base = Walk<Team, A>;
  using typename Base::Place;
  using Base::active, Base::chosen, Base::clear, Base::delta, Base::divergence, Base::in_deltas, Base::in_room;
  using Base::in_saved, Base::node_of, Base::of_choice, Base::of_state, Base::policy_, Base::room, Base::rows_;
  using Base::saved, Base::sizes_, Base::team_, Base::totals, Base::wished;

  ENAS_ON_DEVICE void count_selected(const int32_t* step) {
    team_.once([=, this](int64_t row) {
      A& selected = totals(row)[SELECTED];
      selected = A(0);
      for (int d = step[FIRST]; d < step[FIRST] + step[LENGTH]; ++d)
        if (policy_.choice(d)[KIND] == SKIP) selected += A(chosen(row, d));
    });
  }

  ENAS_ON_DEVICE void decide_backward(int s, int d) {
    const int hidden = sizes_.hidden, gates = sizes_.gates();
    const int32_t *choice = policy_.choice(d), *step = policy_.step(s);
    const int kind = choice[KIND], size = choice[ALTERNATIVES], word = choice[WORD], consumer = step[CONSUMER];
    team_.once([=, this](int64_t row) { choose_backward(row, d); });
    for (int k = 0; k < (kind == SKIP ? 1 : size); ++k) {
      if (kind == SOFTMAX) {
        const int64_t line = int64_t(word + k) * hidden;
        team_.each(hidden, [=, this](int64_t row) {
          const A grad = room(row, policy_.room.logits)[k];
          const A *softmax = policy_.softmax + line, *state = saved(row, of_state(s) + 5 * hidden);
          A *dstate = room(row, policy_.room.hidden), *dsoftmax = delta(row, policy_.deltas.softmax + line);
          return [=](int i) {
            dstate[i] += grad * softmax[i];
            dsoftmax[i] += grad * state[i];
          };
        });
        continue;
      }
      const int64_t node = int64_t(choice[NODES + k]) * hidden, at = int64_t(step[QUERY]) * hidden;
      team_.each(hidden, [=, this](int64_t row) {
        const A grad = room(row, policy_.room.logits)[k];
        const A *value = policy_.value, *key = saved(row, policy_.kept.keys + node);
        const A* query = saved(row, policy_.kept.queries + at);
        A *dkey = delta(row, policy_.deltas.keys + node), *dquery = delta(row, policy_.deltas.queries + at);
        A* dvalue = delta(row, policy_.deltas.value);
        return [=](int i) {
          const A share = Team::tanh(key[i] + query[i]);
          const A inner = grad * value[i] * (A(1) - share * share);
          dkey[i] += inner;
          dquery[i] += inner;
          dvalue[i] += grad * share;
        };
      });
    }
    if (consumer < 0) return;
    team_.each(gates, [=, this](int64_t row) {
      const int64_t number = chosen(row, d);
      const A* from = delta(row, policy_.deltas.gates + int64_t(consumer) * gates);
      A* to = kind == SOFTMAX ? delta(row, policy_.deltas.projected + (1 + word + number) * gates)
                              : delta(row, policy_.deltas.anchors + int64_t(node_of(d, number)) * gates);
      const A weight = (kind == SKIP ? A(number) : A(1)) / (A(1) + totals(row)[SELECTED]);
      return [=](int i) { to[i] += weight * from[i]; };
    });
  }

  // Gradients of the logits before bias, temperature, bound and prior; of a skip, of its one score.
  ENAS_ON_DEVICE void choose_backward(int64_t row, int d) {
    const int32_t* choice = policy_.choice(d);
    const int size = choice[ALTERNATIVES];
    const A *logs = saved(row, of_choice(policy_.kept.logs, d)), *slopes = saved(row, of_choice(policy_.kept.slopes, d));
    const A on_log = active(row, d) ? rows_.dscores[row] : A(0);
    const A on_entropy = active(row, d) ? rows_.dscores[rows_.all + row] : A(0);
    const bool aims = policy_.number(d)[TARGET] > 0;
    const A on_divergence = aims && active(row, d) ? rows_.dscores[DIVERGENCE * rows_.all + row] : A(0);
    const A distance = divergence(d, logs);
    A* grads = room(row, policy_.room.logits);
    A spread = A(0);
    for (int a = 0; a < size; ++a) spread -= std::exp(logs[a]) * logs[a];
    for (int a = 0; a < size; ++a) {
      const A share = std::exp(logs[a]);
      A grad = on_log * (A(a == chosen(row, d)) - share) - on_entropy * share * (logs[a] + spread);
      if (aims) grad += on_divergence * share * (logs[a] - wished(d, a) - distance);
      grads[a] = grad * slopes[a];
    }
    if (choice[KIND] == SKIP) grads[0] = grads[1] - grads[0];
    if (choice[KIND] != SOFTMAX) return;
    A* dbias = delta(row, policy_.deltas.bias + choice[WORD]);
    for (int a = 0; a < size; ++a) dbias[a] += grads[a];
  }

  ENAS_ON_DEVICE void key_backward(int node, bool anchor) {
    const int hidden = sizes_.hidden, gates = sizes_.gates();
    const Place dstate = in_room(policy_.room.hidden);
    const Place dproduct = in_deltas(policy_.deltas.anchors + int64_t(node) * gates);
    team_.product(in_deltas(policy_.deltas.keys + int64_t(node) * hidden), hidden, policy_.key_transposed, hidden, hidden,
                  dstate, true);
    if (anchor) team_.product(dproduct, gates, policy_.recurrent_transposed, 2 * hidden, hidden, dstate, true);
    else clear(gates, dproduct);  // it is zero whatever the weights
  }

  ENAS_ON_DEVICE void advance_backward(int s, bool from_start) {
    const int hidden = sizes_.hidden;
    team_.each(hidden, [=, this](int64_t row) {
      const A *kept = saved(row, of_state(s)), *before = s > 0 ? saved(row, of_state(s - 1) + 4 * hidden) : nullptr;
      A *dcells = room(row, policy_.room.cell), *dstates = room(row, policy_.room.hidden);
      A* dgates = delta(row, policy_.deltas.gates + int64_t(s) * 4 * hidden);
      A* dstart = delta(row, policy_.deltas.projected);
      return [=](int i) {
        const A take = kept[i], forget = kept[hidden + i], show = kept[2 * hidden + i], content = kept[3 * hidden + i];
        const A share = Team::tanh(kept[4 * hidden + i]), cell = s > 0 ? before[i] : A(0);
        const A dcell = dcells[i] + dstates[i] * show * (A(1) - share * share);
        const A on_take = dcell * content * take * (A(1) - take);
        const A on_forget = dcell * cell * forget * (A(1) - forget);
        const A on_show = dstates[i] * share * show * (A(1) - show);
        const A on_content = dcell * take * (A(1) - content * content);
        dcells[i] = dcell * forget;
        dgates[i] = on_take;
        dgates[hidden + i] = on_forget;
        dgates[2 * hidden + i] = on_show;
        dgates[3 * hidden + i] = on_content;
        if (!from_start) return;
        dstart[i] += on_take;
        dstart[hidden + i] += on_forget;
        dstart[2 * hidden + i] += on_show;
        dstart[3 * hidden + i] += on_content;
      };
    });
  }
};

}  // namespace enas::policy
