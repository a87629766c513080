// A step of gradient descent on the CPU: one way over the gradients for their norm, one over everything to move.
#include "../descent_arguments.h"
#include "batch.h"

namespace {
using namespace enas;

constexpr int64_t BLOCK = 16384;  // numbers: what is summed and moved at once, whatever the number of threads

struct Block {
  size_t tensor;
  int64_t begin, size;  // of the numbers of the tensor
  int64_t place;        // of the first among the momenta
};

std::vector<Block> blocks_of(const std::vector<Tensor>& tensors) {
  std::vector<Block> blocks;
  int64_t place = 0;
  for (size_t tensor = 0; tensor < tensors.size(); ++tensor) {
    const int64_t numbers = tensors[tensor].numel();
    for (int64_t begin = 0; begin < numbers; begin += BLOCK)
      blocks.push_back({tensor, begin, std::min(BLOCK, numbers - begin), place + begin});
    place += numbers;
  }
  return blocks;
}

template <class A>
Tensor descend_as(const DescentCall& call) {
  const std::vector<Block> blocks = blocks_of(call.weights);
  std::vector<double> squares(blocks.size(), 0.0);
  parallel(blocks.size(), [&](int64_t number) {
    const Block& block = blocks[number];
    if (call.gradients[block.tensor].has_value())
      squares[number] = level<A>().sum_squares(block.size, pointer<A>(call.gradients[block.tensor]) + block.begin);
  });
  double sum = 0;
  for (double square : squares) sum += square;
  const A norm = A(std::sqrt(sum));

  const DescentRule<A> rule{clip_factor(norm, A(call.clip)), A(call.momentum), *pointer<A>(call.rate), call.nesterov};
  parallel(blocks.size(), [&](int64_t number) {
    const Block& block = blocks[number];
    // Most rows of shared weights belong to no child of the step: zeros are not read again.
    const A* gradient = squares[number] == 0 ? nullptr : pointer<A>(call.gradients[block.tensor]) + block.begin;
    level<A>().descend(block.size, rule, A(call.decays[block.tensor]), gradient,
                       pointer<A>(call.weights[block.tensor]) + block.begin, pointer<A>(call.momenta) + block.place);
  });
  Tensor result = empty(call.momenta, {});
  *pointer<A>(result) = norm;
  return result;
}

Tensor descend(const std::vector<Tensor>& weights, const Tensor& momenta,
               const std::vector<std::optional<Tensor>>& gradients, const std::vector<double>& decays,
               const Tensor& rate, double momentum, bool nesterov, std::optional<double> clip) {
  const DescentCall call{weights, momenta, gradients, decays, rate, momentum, nesterov, clip.value_or(0.0)};
  call.check();
  return dispatch_weights(momenta, [&]<class A>() { return descend_as<A>(call); });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CPU, m) { m.impl("descend", TORCH_BOX(&descend)); }
