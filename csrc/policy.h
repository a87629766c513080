// A recurrent policy, for both twins: what its program means, and where a walk keeps what backward needs. See
// enas/kernels/recurrent.py for the definition, csrc/policy_walk.h and csrc/policy_backward.h for the walk.
//
// What a step reads is only ever seen through the input half of the recurrent weights, and is a sum of few vectors: the
// products of the inputs (start and embeddings) with that half are made once (`projected`), those of the anchors once for
// each node.
//
#pragma once
#include <cmath>

#include "layout.h"

// For functions of the walk: they are compiled for where the team is that walks.
#if defined(__CUDACC__)
#define ENAS_ON_DEVICE __device__
#else
#define ENAS_ON_DEVICE
#endif

namespace enas::policy {

// The fields of a row of `steps` and of `choices`, as enas/kernels/recurrent.py has them.
enum StepField : int { FROM_START, NODE, ANCHOR, QUERY, FIRST, LENGTH, CONSUMER, STEP_FIELDS };
enum ChoiceField : int { PLACE, KIND, ALTERNATIVES, WORD, NODES };
enum Kind : int { SOFTMAX, SOURCE, SKIP };
enum NumberField : int { TEMPERATURE, BOUND, TARGET, PRIOR };
// What a walk says of a row; SELECTED is what it counts on the way.
enum Total : int { LOG_PROBABILITY, ENTROPY, DIVERGENCE, SCORES, SELECTED = SCORES, TOTALS };

struct Sizes {
  int hidden, words, steps, nodes, queries, choices, alternatives;
  ENAS_BOTH int gates() const { return 4 * hidden; }
};

// What a row keeps for backward: of each step its gates, cell and hidden state; the hidden states that keys and queries
// were made of; keys and queries; of each decision its log-probabilities and the slopes of its logits.
struct Kept {
  int64_t states, node_hidden, query_hidden, keys, queries, logs, slopes, size;
  static Kept of(const Sizes& s) {
    const int64_t hidden = s.hidden, numbers = int64_t(s.choices) * s.alternatives;
    Kept kept{};
    kept.node_hidden = kept.states + s.steps * 6 * hidden;
    kept.query_hidden = kept.node_hidden + s.nodes * hidden;
    kept.keys = kept.query_hidden + s.queries * hidden;
    kept.queries = kept.keys + s.nodes * hidden;
    kept.logs = kept.queries + s.queries * hidden;
    kept.slopes = kept.logs + numbers;
    kept.size = kept.slopes + numbers;
    return kept;
  }
};

// What backward gives of a row: gradients of the gates of each step, of the queries and keys, of the products of anchors;
// and, to be summed over rows, gradients of `projected`, softmax, bias and value.
struct Deltas {
  int64_t gates, queries, keys, anchors, projected, softmax, bias, value, size;
  static Deltas of(const Sizes& s) {
    const int64_t hidden = s.hidden;
    Deltas deltas{};
    deltas.queries = deltas.gates + s.steps * 4 * hidden;
    deltas.keys = deltas.queries + s.queries * hidden;
    deltas.anchors = deltas.keys + s.nodes * hidden;
    deltas.projected = deltas.anchors + s.nodes * 4 * hidden;
    deltas.softmax = deltas.projected + (1 + s.words) * 4 * hidden;
    deltas.bias = deltas.softmax + s.words * hidden;
    deltas.value = deltas.bias + s.words;
    deltas.size = deltas.value + hidden;
    return deltas;
  }
};

// The room that a row needs while it walks.
struct Room {
  int64_t cell, hidden, before, input, query, logits, totals, anchors, keys, size;
  static Room of(const Sizes& s) {
    const int64_t hidden = s.hidden;
    Room room{};
    room.hidden = room.cell + hidden;
    room.before = room.hidden + hidden;  // the gates before their activation
    room.input = room.before + 4 * hidden;
    room.query = room.input + 4 * hidden;
    room.logits = room.query + hidden;
    room.totals = room.logits + s.alternatives;
    room.anchors = room.totals + TOTALS;
    room.keys = room.anchors + s.nodes * 4 * hidden;
    room.size = (room.keys + s.nodes * hidden + 15) / 16 * 16;
    return room;
  }
};

// The weights and the program. Of the recurrent weights the upper half is that of the input; `*_transposed` are only
// there for backward.
template <class A>
struct Policy {
  Sizes sizes;
  Kept kept;
  Deltas deltas;
  Room room;
  const A *recurrent, *key, *query, *value, *projected, *softmax, *bias;
  const A *recurrent_transposed, *key_transposed, *query_transposed;
  const double* numbers;
  const int32_t *steps, *choices;

  ENAS_ON_DEVICE const int32_t* step(int s) const { return steps + s * STEP_FIELDS; }
  ENAS_ON_DEVICE const int32_t* choice(int d) const { return choices + d * (NODES + sizes.alternatives); }
  ENAS_ON_DEVICE const double* number(int d) const { return numbers + d * (PRIOR + sizes.alternatives); }
  ENAS_ON_DEVICE const A* of_input() const { return recurrent; }
  ENAS_ON_DEVICE const A* of_hidden() const { return recurrent + int64_t(sizes.hidden) * 4 * sizes.hidden; }
};

// The rows that a team walks, the first of them at each pointer. Null: `active` where all decisions take part, `noise` where
// rows are given, `saved` where nothing is kept.
template <class A>
struct Rows {
  int64_t all;  // rows of the whole call
  const int64_t* given;
  int64_t* chosen;
  const bool* active;
  const A* noise;
  A* saved;
  A* room;
  A* scores;         // forward: [SCORES][all]
  const A* dscores;  // backward: the same
  A* deltas;
};

// A matrix of sums over rows and their items: to [lines][columns] = or += sum of left[line] * right[column]. Where rows or
// items are none it is zero.
template <class A>
struct Sums {
  const A *left, *right;
  int64_t left_row, left_item, left_line, right_row, right_item;
  int64_t rows, items;
  int lines, columns;
  A* to;
  bool add;
};

}  // namespace enas::policy
