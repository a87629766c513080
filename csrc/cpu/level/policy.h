// The team of one thread that walks a few rows of a policy, and the matrices of sums around it.
#pragma once
#include <algorithm>
#include <bit>

#include "../../policy_backward.h"
#include "vector.h"

namespace enas::ENAS_LEVEL {

constexpr int SIDE = VECTOR_BYTES == 64 ? 4 : 2;  // vectors side by side in a tile of a product

// e^x. In float a polynomial over [-ln 2 / 2, ln 2 / 2], fitted by least squares, relative error 5e-9: loops over it become
// loops over vectors. What is not a number stays so.
inline double exponential(double x) { return std::exp(x); }
inline float exponential(float x) {
  constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: added to a small number, it leaves the nearest integer in the last bits
  x = x < -87.0f ? -87.0f : x;
  x = x > 87.0f ? 87.0f : x;
  const float shifted = x * 1.44269504f + ROUND, power = shifted - ROUND;
  const float r = (x - power * 0.693359375f) + power * 2.12194440e-4f;  // ln 2 in two parts
  float sum = 0.00139476f;
  sum = sum * r + 0.00836987f;
  sum = sum * r + 0.04166625f;
  sum = sum * r + 0.1666651f;
  sum = sum * r + 0.50000001f;
  sum = sum * r * r + r + 1.0f;
  return sum * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127u) << 23);
}

inline double hyperbolic_tangent(double x) { return std::tanh(x); }
inline float hyperbolic_tangent(float x) {
  const float z = x * x;
  float small = -0.00589395f;  // fitted over |x| < 0.6, relative error 3e-9
  small = small * z + 0.02079462f;
  small = small * z - 0.05378329f;
  small = small * z + 0.13331915f;
  small = small * z - 0.33333298f;
  small = small * z * x + x;
  const float large = 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f);
  return z < 0.36f ? small : large;
}

// to[row][n] = or += sum over k of from[row][k] * matrix[k][n], for `count` rows and SIDE or fewer vectors of columns.
template <int count, int side, class A, class From, class To>
inline void policy_tile(const From& from, int64_t row, int depth, const A* matrix, int pitch, const To& to, int column,
                        bool add) {
  const A* left[count];
  Vector<A> sums[count][side];
#pragma GCC unroll 8
  for (int r = 0; r < count; ++r) {
    left[r] = from(row + r);
#pragma GCC unroll 8
    for (int v = 0; v < side; ++v) sums[r][v] = Vector<A>{};
  }
  for (int k = 0; k < depth; ++k) {
    Vector<A> line[side];
#pragma GCC unroll 8
    for (int v = 0; v < side; ++v) line[v] = load(matrix + int64_t(k) * pitch + column + v * LANES<A>);
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < side; ++v) sums[r][v] += left[r][k] * line[v];
  }
#pragma GCC unroll 8
  for (int r = 0; r < count; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < side; ++v) {
      A* there = to(row + r) + column + v * LANES<A>;
      store(there, add ? load(there) + sums[r][v] : sums[r][v]);
    }
}

template <int count, class A, class From, class To>
inline void policy_columns(const From& from, int64_t row, int depth, const A* matrix, int pitch, int columns,
                           const To& to, bool add) {
  int n = 0;
  for (; n + SIDE * LANES<A> <= columns; n += SIDE * LANES<A>)
    policy_tile<count, SIDE>(from, row, depth, matrix, pitch, to, n, add);
  for (; n + LANES<A> <= columns; n += LANES<A>)
    policy_tile<count, 1>(from, row, depth, matrix, pitch, to, n, add);
  for (; n < columns; ++n)
    for (int r = 0; r < count; ++r) {
      const A* left = from(row + r);
      A sum = A(0);
      for (int k = 0; k < depth; ++k) sum += left[k] * matrix[int64_t(k) * pitch + n];
      A& there = to(row + r)[n];
      there = add ? there + sum : sum;
    }
}

template <class A>
class PolicyTeam {
 public:
  explicit PolicyTeam(int64_t rows) : rows_(rows) {}

  template <class F>
  void each(int count, F f) const {
    for (int64_t row = 0; row < rows_; ++row) {
      const auto one = f(row);
#pragma GCC ivdep
      for (int i = 0; i < count; ++i) one(i);
    }
  }
  template <class F>
  void once(F f) const {
    for (int64_t row = 0; row < rows_; ++row) f(row);
  }
  // In a fixed number of sums side by side, whatever the instruction set.
  template <class To, class F>
  void sums(int count, int depth, const To& to, F f) const {
    constexpr int PARTS = 16;
    for (int64_t row = 0; row < rows_; ++row) {
      const auto one = f(row);
      for (int k = 0; k < count; ++k) {
        A parts[PARTS] = {};
        int i = 0;
        for (; i + PARTS <= depth; i += PARTS)
#pragma GCC ivdep
          for (int part = 0; part < PARTS; ++part) parts[part] += one(k, i + part);
        for (int part = 0; i < depth; ++i, ++part) parts[part] += one(k, i);
        for (int half = PARTS / 2; half > 0; half /= 2)
          for (int part = 0; part < half; ++part) parts[part] += parts[part + half];
        to(row)[k] = parts[0];
      }
    }
  }
  template <class From, class To>
  void product(const From& from, int depth, const A* matrix, int pitch, int columns, const To& to, bool add) const {
    int64_t row = 0;
    for (; row + policy::TEAM <= rows_; row += policy::TEAM)
      policy_columns<policy::TEAM>(from, row, depth, matrix, pitch, columns, to, add);
    for (; row < rows_; ++row) policy_columns<1>(from, row, depth, matrix, pitch, columns, to, add);
  }
  static A logistic(A x) { return A(1) / (A(1) + exponential(-x)); }
  static A tanh(A x) { return hyperbolic_tangent(x); }

 private:
  int64_t rows_;
};

template <class A>
void policy_forward(const policy::Policy<A>& policy, const policy::Rows<A>& rows, int64_t count) {
  PolicyTeam<A> team(count);
  policy::Forward<PolicyTeam<A>, A>(team, policy, rows).walk();
}
template <class A>
void policy_backward(const policy::Policy<A>& policy, const policy::Rows<A>& rows, int64_t count) {
  PolicyTeam<A> team(count);
  policy::Backward<PolicyTeam<A>, A>(team, policy, rows).walk();
}

// `count` lines of a matrix of sums from `line` on, and SIDE or fewer vectors of columns.
template <int count, int side, class A>
inline void sum_tile(const policy::Sums<A>& sum, int line, int column) {
  Vector<A> sums[count][side];
#pragma GCC unroll 8
  for (int k = 0; k < count; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < side; ++v) sums[k][v] = Vector<A>{};
  for (int64_t row = 0; row < sum.rows; ++row)
    for (int64_t item = 0; item < sum.items; ++item) {
      const A* left = sum.left + row * sum.left_row + item * sum.left_item + line * sum.left_line;
      const A* right = sum.right + row * sum.right_row + item * sum.right_item + column;
      Vector<A> numbers[side];
#pragma GCC unroll 8
      for (int v = 0; v < side; ++v) numbers[v] = load(right + v * LANES<A>);
#pragma GCC unroll 8
      for (int k = 0; k < count; ++k)
#pragma GCC unroll 8
        for (int v = 0; v < side; ++v) sums[k][v] += left[k * sum.left_line] * numbers[v];
    }
#pragma GCC unroll 8
  for (int k = 0; k < count; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < side; ++v) {
      A* there = sum.to + int64_t(line + k) * sum.columns + column + v * LANES<A>;
      store(there, sum.add ? load(there) + sums[k][v] : sums[k][v]);
    }
}

template <int count, class A>
inline void sum_columns(const policy::Sums<A>& sum, int line) {
  int n = 0;
  for (; n + SIDE * LANES<A> <= sum.columns; n += SIDE * LANES<A>) sum_tile<count, SIDE>(sum, line, n);
  for (; n + LANES<A> <= sum.columns; n += LANES<A>) sum_tile<count, 1>(sum, line, n);
  for (; n < sum.columns; ++n)
    for (int k = line; k < line + count; ++k) {
      A total = A(0);
      for (int64_t row = 0; row < sum.rows; ++row)
        for (int64_t item = 0; item < sum.items; ++item)
          total += sum.left[row * sum.left_row + item * sum.left_item + k * sum.left_line] *
                   sum.right[row * sum.right_row + item * sum.right_item + n];
      A& there = sum.to[int64_t(k) * sum.columns + n];
      there = sum.add ? there + total : total;
    }
}

// policy::LINES lines from `line` on, or those that are left.
template <class A>
void policy_sums(const policy::Sums<A>& sum, int line) {
  const int end = std::min(line + policy::LINES, sum.lines);
  for (; line + 4 <= end; line += 4) sum_columns<4>(sum, line);
  for (; line < end; ++line) sum_columns<1>(sum, line);
}

}  // namespace enas::ENAS_LEVEL
