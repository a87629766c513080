// The walk of a policy forward, as both twins do it.
//
// A Team does the work on one or more rows. It offers, each complete before the next begins:
//   rows()                                    the number of rows
//   each(count, f)                            f(row)(i) for all rows and i < count
//   once(f)                                   f(row) for all rows
//   sums(count, depth, to, f)                 to(row)[k] = sum over i < depth of f(row)(k, i)
//   product(from, depth, matrix, pitch, columns, to, add)   to(row) = or += from(row) x matrix, whose `depth` lines of
//                                             `columns` numbers lie `pitch` apart
// and the functions logistic and tanh.
#pragma once
#include "policy.h"

namespace enas::policy {

// What both directions know: where the arrays of each row are, and what they hold.
template <class Team, class A>
class Walk {
 public:
  ENAS_ON_DEVICE Walk(Team& team, const Policy<A>& policy, const Rows<A>& rows)
      : team_(team), policy_(policy), rows_(rows), sizes_(policy.sizes) {}

 protected:
  // Where an array of each row begins.
  struct Place {
    A* first;
    int64_t pitch;
    ENAS_ON_DEVICE A* operator()(int64_t row) const { return first + row * pitch; }
  };
  ENAS_ON_DEVICE Place in_room(int64_t at) const { return {rows_.room + at, policy_.room.size}; }
  ENAS_ON_DEVICE Place in_saved(int64_t at) const { return {rows_.saved + at, policy_.kept.size}; }
  ENAS_ON_DEVICE Place in_deltas(int64_t at) const { return {rows_.deltas + at, policy_.deltas.size}; }
  ENAS_ON_DEVICE A* room(int64_t row, int64_t at) const { return in_room(at)(row); }
  ENAS_ON_DEVICE A* saved(int64_t row, int64_t at) const { return in_saved(at)(row); }
  ENAS_ON_DEVICE A* delta(int64_t row, int64_t at) const { return in_deltas(at)(row); }
  ENAS_ON_DEVICE A* totals(int64_t row) const { return room(row, policy_.room.totals); }
  ENAS_ON_DEVICE int64_t& chosen(int64_t row, int d) const {
    return rows_.chosen[row * sizes_.choices + policy_.choice(d)[PLACE]];
  }
  ENAS_ON_DEVICE bool active(int64_t row, int d) const {
    return rows_.active == nullptr || rows_.active[row * sizes_.choices + policy_.choice(d)[PLACE]];
  }
  ENAS_ON_DEVICE int64_t of_choice(int64_t begin, int d) const { return begin + int64_t(d) * sizes_.alternatives; }
  ENAS_ON_DEVICE int64_t of_state(int s) const { return policy_.kept.states + int64_t(s) * 6 * sizes_.hidden; }
  // The node that a source or a skip stands for.
  ENAS_ON_DEVICE int node_of(int d, int64_t number) const {
    const int32_t* choice = policy_.choice(d);
    return choice[NODES + (choice[KIND] == SOURCE ? number : 0)];
  }

  ENAS_ON_DEVICE void clear(int count, Place to) {
    team_.each(count, [=](int64_t row) {
      A* target = to(row);
      return [=](int i) { target[i] = A(0); };
    });
  }
  ENAS_ON_DEVICE void copy(int count, Place from, Place to) {
    team_.each(count, [=](int64_t row) {
      const A* source = from(row);
      A* target = to(row);
      return [=](int i) { target[i] = source[i]; };
    });
  }

  // How far a skip is from its target: KL(policy || target), 0 without one; `logs` are its log-probabilities.
  ENAS_ON_DEVICE A divergence(int d, const A* logs) const {
    const double target = policy_.number(d)[TARGET];
    if (!(target > 0)) return A(0);
    return std::exp(logs[0]) * (logs[0] - wished(d, 0)) + std::exp(logs[1]) * (logs[1] - wished(d, 1));
  }
  // The logarithm of the probability that is wished of no (0) or yes (1).
  ENAS_ON_DEVICE A wished(int d, int answer) const {
    const double target = policy_.number(d)[TARGET];
    return A(std::log(answer == 1 ? target : 1 - target));
  }

  Team& team_;
  const Policy<A>& policy_;
  const Rows<A>& rows_;
  const Sizes sizes_;
};

template <class Team, class A>
class Forward : Walk<Team, A> {
 public:
  using Walk<Team, A>::Walk;

  ENAS_ON_DEVICE void walk() {
    const int hidden = sizes_.hidden, gates = sizes_.gates();
    clear(2 * hidden, in_room(policy_.room.cell));
    team_.once([this](int64_t row) {
      for (int score = 0; score < SCORES; ++score) totals(row)[score] = A(0);
    });
    for (int s = 0; s < sizes_.steps; ++s) {
      const int32_t* step = policy_.step(s);
      team_.product(in_room(policy_.room.hidden), hidden, policy_.of_hidden(), gates, gates, in_room(policy_.room.before),
                    false);
      advance(s, step[FROM_START]);
      if (step[NODE] >= 0) make_key(step[NODE], step[ANCHOR]);
      if (step[QUERY] >= 0) make_query(step[QUERY]);
      for (int d = step[FIRST]; d < step[FIRST] + step[LENGTH]; ++d) decide(d, d == step[FIRST]);
      if (skips(step)) average();
    }
    team_.once([this](int64_t row) {
      for (int score = 0; score < SCORES; ++score) rows_.scores[score * rows_.all + row] = totals(row)[score];
    });
  }

 private:
  using Base = Walk<Team, A>;
  using typename Base::Place;
  using Base::active, Base::chosen, Base::clear, Base::copy, Base::delta, Base::divergence, Base::in_deltas;
  using Base::in_room, Base::in_saved, Base::node_of, Base::of_choice, Base::of_state, Base::policy_, Base::room;
  using Base::rows_, Base::saved, Base::sizes_, Base::team_, Base::totals;

  ENAS_ON_DEVICE void advance(int s, bool from_start) {
    const int hidden = sizes_.hidden;
    const bool keep = rows_.saved != nullptr;
    team_.each(hidden, [=, this](int64_t row) {
      const A *before = room(row, policy_.room.before);
      const A* input = from_start ? policy_.projected : room(row, policy_.room.input);
      A *cell = room(row, policy_.room.cell), *state = room(row, policy_.room.hidden);
      A* kept = keep ? saved(row, of_state(s)) : nullptr;
      return [=](int i) {
        const A take = Team::logistic(before[i] + input[i]);
        const A forget = Team::logistic(before[hidden + i] + input[hidden + i]);
        const A show = Team::logistic(before[2 * hidden + i] + input[2 * hidden + i]);
        const A content = Team::tanh(before[3 * hidden + i] + input[3 * hidden + i]);
        const A next = forget * cell[i] + take * content, shown = show * Team::tanh(next);
        cell[i] = next;
        state[i] = shown;
        if (keep) {
          kept[i] = take;
          kept[hidden + i] = forget;
          kept[2 * hidden + i] = show;
          kept[3 * hidden + i] = content;
          kept[4 * hidden + i] = next;
          kept[5 * hidden + i] = shown;
        }
      };
    });
  }

  ENAS_ON_DEVICE void make_key(int node, bool anchor) {
    const int hidden = sizes_.hidden, gates = sizes_.gates();
    const Place state = in_room(policy_.room.hidden), key = in_room(policy_.room.keys + int64_t(node) * hidden);
    const Place product = in_room(policy_.room.anchors + int64_t(node) * gates);
    team_.product(state, hidden, policy_.key, hidden, hidden, key, false);
    if (anchor) {
      team_.product(state, hidden, policy_.of_input(), gates, gates, product, false);
    } else {
      clear(gates, product);
    }
    if (rows_.saved == nullptr) return;
    copy(hidden, state, in_saved(policy_.kept.node_hidden + int64_t(node) * hidden));
    copy(hidden, key, in_saved(policy_.kept.keys + int64_t(node) * hidden));
  }

  ENAS_ON_DEVICE void make_query(int query) {
    const int hidden = sizes_.hidden;
    const Place state = in_room(policy_.room.hidden), made = in_room(policy_.room.query);
    team_.product(state, hidden, policy_.query, hidden, hidden, made, false);
    if (rows_.saved == nullptr) return;
    copy(hidden, state, in_saved(policy_.kept.query_hidden + int64_t(query) * hidden));
    copy(hidden, made, in_saved(policy_.kept.queries + int64_t(query) * hidden));
  }

  ENAS_ON_DEVICE void decide(int d, bool first) {
    const int hidden = sizes_.hidden, gates = sizes_.gates();
    const int32_t* choice = policy_.choice(d);
    const int kind = choice[KIND], size = choice[ALTERNATIVES], word = choice[WORD];
    if (kind == SOFTMAX) {
      team_.sums(size, hidden, in_room(policy_.room.logits), [=, this](int64_t row) {
        const A *state = room(row, policy_.room.hidden), *softmax = policy_.softmax + int64_t(word) * hidden;
        return [=](int k, int i) { return softmax[int64_t(k) * hidden + i] * state[i]; };
      });
    } else {
      team_.sums(kind == SKIP ? 1 : size, hidden, in_room(policy_.room.logits), [=, this](int64_t row) {
        const A *query = room(row, policy_.room.query), *keys = room(row, policy_.room.keys), *value = policy_.value;
        const int32_t* nodes = choice + NODES;
        return [=](int k, int i) { return value[i] * Team::tanh(keys[int64_t(nodes[k]) * hidden + i] + query[i]); };
      });
    }
    team_.once([=, this](int64_t row) { choose(row, d, first); });
    team_.each(gates, [=, this](int64_t row) {
      A* input = room(row, policy_.room.input);
      const int64_t number = chosen(row, d);
      const A* from = kind == SOFTMAX ? policy_.projected + (1 + word + number) * gates
                                      : room(row, policy_.room.anchors) + int64_t(node_of(d, number)) * gates;
      const A weight = kind == SKIP ? A(number) : A(1);
      return [=](int i) { input[i] = (first ? A(0) : input[i]) + weight * from[i]; };
    });
  }

  // The logits, the choice, and what it adds to the scores.
  ENAS_ON_DEVICE void choose(int64_t row, int d, bool first) {
    const int32_t* choice = policy_.choice(d);
    const double* numbers = policy_.number(d);
    const int size = choice[ALTERNATIVES];
    const A temperature = A(numbers[TEMPERATURE]), bound = A(numbers[BOUND]);
    A *logits = room(row, policy_.room.logits), *total = totals(row);
    A* slopes = rows_.saved == nullptr ? nullptr : saved(row, of_choice(policy_.kept.slopes, d));
    if (choice[KIND] == SKIP) {
      logits[1] = logits[0];
      logits[0] = -logits[0];
    }
    A largest = A(-INFINITY);
    for (int a = 0; a < size; ++a) {
      A logit = logits[a], slope = A(1) / temperature;
      if (choice[KIND] == SOFTMAX) logit += policy_.bias[choice[WORD] + a];
      logit /= temperature;
      if (bound > A(0)) {
        const A share = std::tanh(logit);
        logit = bound * share;
        slope *= bound * (A(1) - share * share);
      }
      logits[a] = logit + A(numbers[PRIOR + a]);
      if (slopes != nullptr) slopes[a] = slope;
      if (!(logits[a] <= largest)) largest = logits[a];
    }
    A sum = A(0);
    for (int a = 0; a < size; ++a) sum += std::exp(logits[a] - largest);
    const A normaliser = largest + std::log(sum);
    A spread = A(0);
    for (int a = 0; a < size; ++a) {
      logits[a] -= normaliser;
      spread -= std::exp(logits[a]) * logits[a];
    }
    int64_t number = 0;
    if (rows_.noise != nullptr) {
      const A* noise = rows_.noise + of_choice(row * sizes_.choices * sizes_.alternatives, d);
      A best = A(-INFINITY);
      for (int a = 0; a < size; ++a)
        if (logits[a] + noise[a] > best) {
          best = logits[a] + noise[a];
          number = a;
        }
    } else {
      number = rows_.given[row * sizes_.choices + choice[PLACE]];
    }
    const bool legal = number >= 0 && number < size;  // on a device the host does not wait to hear of it
    if (!legal) number = 0;
    chosen(row, d) = number;
    if (active(row, d)) {
      total[LOG_PROBABILITY] += legal ? logits[number] : A(NAN);
      total[ENTROPY] += spread;
      total[DIVERGENCE] += divergence(d, logits);
    }
    total[SELECTED] = (first ? A(0) : total[SELECTED]) + A(choice[KIND] == SKIP ? number : 0);
    if (rows_.saved == nullptr) return;
    A* logs = saved(row, of_choice(policy_.kept.logs, d));
    for (int a = 0; a < sizes_.alternatives; ++a) {
      logs[a] = a < size ? logits[a] : A(0);
      if (a >= size) slopes[a] = A(0);
    }
  }

  // Whether what is chosen is a mean: of the anchors that are skipped to, and of nothing.
  ENAS_ON_DEVICE bool skips(const int32_t* step) const {
    for (int d = step[FIRST]; d < step[FIRST] + step[LENGTH]; ++d)
      if (policy_.choice(d)[KIND] == SKIP) return true;
    return false;
  }
  ENAS_ON_DEVICE void average() {
    team_.each(sizes_.gates(), [this](int64_t row) {
      A* input = room(row, policy_.room.input);
      const A count = A(1) + totals(row)[SELECTED];
      return [=](int i) { input[i] /= count; };
    });
  }
};

}  // namespace enas::policy
