// A step of gradient descent on CUDA: a launch that sums squares and one that moves, for every table of tensors.
#include "../descent_arguments.h"

#include <algorithm>

#include "access.cuh"
#include "block.cuh"
#include "launch.h"

namespace {
using namespace enas;

constexpr int THREADS = 256;
// Numbers of a block, at least; more where there would be more blocks than a device runs at once, since each of them
// adds up the sums of all.
constexpr int64_t CHUNK = 4096, CHUNKS = 1024;

template <class A>
struct Entry {
  const A* gradient;  // null: all zero
  A* weight;
  int64_t place;  // of its first number among the momenta
  A decay;
  int first;  // of its blocks
};

// Tensors of one launch, none of them empty: parameters of a kernel, which have at most 4 KiB in all.
template <class A>
struct Table {
  static constexpr int MOST = (4096 - 128) / sizeof(Entry<A>);
  Entry<A> entries[MOST];
  int64_t end;  // of the last among the momenta
  int64_t chunk;
  int count, blocks;
  int before;  // blocks of the launches before
};

// What one block works on.
template <class A>
struct Piece {
  const A* gradient;
  A* weight;
  int64_t place, size;
  A decay;

  __device__ Piece(const Table<A>& table, int block) {
    int entry = 0;
    for (int past = table.count; past - entry > 1;) {
      const int middle = (entry + past) / 2;
      if (table.entries[middle].first <= block) entry = middle;
      else past = middle;
    }
    const Entry<A>& own = table.entries[entry];
    const int64_t begin = (block - own.first) * table.chunk;
    const int64_t end = entry + 1 < table.count ? table.entries[entry + 1].place : table.end;
    gradient = own.gradient == nullptr ? nullptr : own.gradient + begin;
    weight = own.weight + begin;
    place = own.place + begin;
    size = min(table.chunk, end - place);
    decay = own.decay;
  }
};

// WIDE neighbours, at once where they are `aligned`. Which thread has which does not depend on that, so no sum does.
template <class A>
__device__ inline void load_neighbours(const A* from, bool aligned, A (&to)[WIDE]) {
  if (aligned) load<WIDE>(from, to);
  else
    for (int v = 0; v < WIDE; ++v) to[v] = from[v];
}
template <class A>
__device__ inline void store_neighbours(A* to, bool aligned, const A (&from)[WIDE]) {
  if (aligned) store<WIDE>(to, from);
  else
    for (int v = 0; v < WIDE; ++v) to[v] = from[v];
}
template <class A>
__device__ inline bool aligned(const A* numbers) {
  return reinterpret_cast<uintptr_t>(numbers) % alignof(Pack<A, WIDE>) == 0;
}

// The sum over the threads of a block, for each of them, always in the same order.
__device__ inline double block_sum(double value) {
  constexpr unsigned ALL = 0xffffffffu;
  SharedMemory memory;
  double* of_warps = memory.take<double>(THREADS / 32);
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL, value, distance);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (int warp = 0; warp < THREADS / 32; ++warp) sum += of_warps[warp];
  return sum;
}

template <class A>
__global__ void sum_squares(Table<A> table, double* sums) {
  const Piece<A> piece(table, blockIdx.x);
  const A* numbers = piece.gradient;
  double sum = 0;
  if (numbers != nullptr) {
    const int64_t whole = piece.size / WIDE * WIDE;
    const bool at_once = aligned(numbers);
    for (int64_t i = threadIdx.x * WIDE; i < whole; i += THREADS * WIDE) {
      A values[WIDE];
      load_neighbours(numbers + i, at_once, values);
      for (A value : values) sum += double(value) * double(value);
    }
    for (int64_t i = whole + threadIdx.x; i < piece.size; i += THREADS) sum += double(numbers[i]) * double(numbers[i]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[table.before + blockIdx.x] = sum;
}

template <class A>
struct Shared {
  const double* sums;
  int count;  // of them, for all tensors
  A* momenta;
  const A* rate;
  A momentum, clip;
  bool nesterov;
  A* norm;
};

template <class A>
__device__ inline void move_numbers(const Piece<A>& piece, const DescentRule<A>& rule, A* momenta) {
  const int64_t whole = piece.size / WIDE * WIDE;
  const bool at_once = aligned(piece.gradient) && aligned(piece.weight) && aligned(momenta);
  for (int64_t i = threadIdx.x * WIDE; i < whole; i += THREADS * WIDE) {
    A gradients[WIDE] = {}, weights[WIDE], own[WIDE];
    if (piece.gradient != nullptr) load_neighbours(piece.gradient + i, at_once, gradients);
    load_neighbours(piece.weight + i, at_once, weights);
    load_neighbours(momenta + i, at_once, own);
#pragma unroll
    for (int v = 0; v < WIDE; ++v) descend_one(rule, piece.decay, gradients[v], weights[v], own[v]);
    store_neighbours(piece.weight + i, at_once, weights);
    store_neighbours(momenta + i, at_once, own);
  }
  for (int64_t i = whole + threadIdx.x; i < piece.size; i += THREADS) {
    const A gradient = piece.gradient == nullptr ? A(0) : piece.gradient[i];
    descend_one(rule, piece.decay, gradient, piece.weight[i], momenta[i]);
  }
}

template <class A>
__global__ void move_tensors(Table<A> table, Shared<A> shared) {
  double sum = 0;
  for (int i = threadIdx.x; i < shared.count; i += THREADS) sum += shared.sums[i];
  const A norm = A(sqrt(block_sum(sum)));
  if (blockIdx.x == 0 && threadIdx.x == 0) *shared.norm = norm;
  if (int(blockIdx.x) >= table.blocks) return;

  Piece<A> piece(table, blockIdx.x);
  if (shared.sums[table.before + blockIdx.x] == 0) piece.gradient = nullptr;  // zeros are not read again
  const DescentRule<A> rule{clip_factor(norm, shared.clip), shared.momentum, *shared.rate, shared.nesterov};
  move_numbers(piece, rule, shared.momenta + piece.place);
}

template <class A>
std::vector<Table<A>> tables_of(const DescentCall& call) {
  const int64_t least = (call.momenta.numel() + CHUNKS - 1) / CHUNKS;
  const int64_t chunk = std::max<int64_t>(1, (least + CHUNK - 1) / CHUNK) * CHUNK;
  std::vector<Table<A>> tables(1, Table<A>{});
  tables.back().chunk = chunk;
  int64_t place = 0;
  for (size_t i = 0; i < call.weights.size(); ++i) {
    const int64_t numbers = call.weights[i].numel();
    if (numbers == 0) continue;
    if (tables.back().count == Table<A>::MOST) {
      const int before = tables.back().before + tables.back().blocks;
      tables.push_back({});
      tables.back().chunk = chunk;
      tables.back().before = before;
    }
    Table<A>& table = tables.back();
    table.entries[table.count++] = {pointer<A>(call.gradients[i]), pointer<A>(call.weights[i]), place,
                                    A(call.decays[i]), table.blocks};
    table.blocks += int(blocks_of(numbers, chunk));
    place += numbers;
    table.end = place;
  }
  return tables;
}

template <class A>
Tensor descend_as(const DescentCall& call) {
  const Tensor& momenta = call.momenta;
  const std::vector<Table<A>> tables = tables_of<A>(call);
  const int sums_count = tables.back().before + tables.back().blocks;
  const Tensor sums = empty(momenta, {sums_count}, ScalarType::Double);
  Tensor norm = empty(momenta, {});
  const size_t shared_memory = shared_bytes<double>(THREADS / 32);
  for (const Table<A>& table : tables)
    launch(momenta, {unsigned(table.blocks), THREADS, shared_memory}, sum_squares<A>, table, pointer<double>(sums));
  const Shared<A> shared{pointer<double>(sums), sums_count,   pointer<A>(momenta), pointer<A>(call.rate),
                         A(call.momentum),      A(call.clip), call.nesterov,       pointer<A>(norm)};
  for (const Table<A>& table : tables)  // one block at least, which knows the norm of nothing too
    launch(momenta, {unsigned(std::max(table.blocks, 1)), THREADS, shared_memory}, move_tensors<A>, table, shared);
  return norm;
}

Tensor descend(const std::vector<Tensor>& weights, const Tensor& momenta,
               const std::vector<std::optional<Tensor>>& gradients, const std::vector<double>& decays,
               const Tensor& rate, double momentum, bool nesterov, std::optional<double> clip) {
  const DescentCall call{weights, momenta, gradients, decays, rate, momentum, nesterov, clip.value_or(0.0)};
  call.check();
  return dispatch_weights(momenta, [&]<class A>() { return descend_as<A>(call); });
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) { m.impl("descend", TORCH_BOX(&descend)); }
