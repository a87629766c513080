// Runs kernels on the host: each thread of a block is a fiber with a stack of its own. A fiber runs until it waits,
// then the next one does, in an order that the test chooses: a result that depends on it shows a missing barrier.
#include <cuda_runtime.h>
#include <torch/csrc/stable/macros.h>

#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace shim {
namespace {

constexpr int LANES = 32;
constexpr uint64_t NOTHING = ~uint64_t(0);  // a NaN in every floating-point type
// What an A100 has: a kernel that asks for more would fail there.
constexpr size_t MOST_SHARED = 163 * 1024;
constexpr size_t SHARED_UNASKED = 48 * 1024;

enum class State { READY, AT_BARRIER, AT_GRID, AT_LANES, RETURNED };

struct Block;

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  uint3 index{};
  State state = State::READY;
  Place place{};
  unsigned mask = 0;
  uint64_t word = 0;
  uint64_t words[LANES];
  unsigned division = 0;  // of shared memory
};

struct Block {
  uint3 index{};
  std::vector<std::unique_ptr<Thread>> threads;
  unsigned at_barrier = 0;
  std::vector<unsigned> at_lanes;  // of each warp
  struct Array {
    std::unique_ptr<char[]> memory;
    size_t size;
  };
  std::vector<Array> arrays;
  unsigned division = 0;  // that the arrays belong to
  unsigned returned = 0;
};

// A permutation of 0 .. count - 1: forwards for seed 0, backwards for 1, else in strides of about the seed.
class Order {
 public:
  Order(uint64_t seed, uint64_t count) : count_(count) {
    if (seed == 0 || count < 2) return;
    stride_ = seed == 1 ? count - 1 : seed * 7919 % count;
    while (std::gcd(stride_, count) != 1) stride_ = (stride_ + 1) % count;
    start_ = seed == 1 ? count - 1 : seed * 104729 % count;
  }
  uint64_t at(uint64_t i) const { return (start_ + i * stride_) % count_; }

 private:
  uint64_t count_, stride_ = 1, start_ = 0;
};

struct Engine {
  std::mutex one_launch;
  uint64_t seed = 0;
  uint64_t launches = 0;
  int multiprocessors = 2;
  Fiber host;
  std::vector<std::unique_ptr<Block>> blocks;  // those that are there at once first
  unsigned count = 0;                          // threads of a block
  uint64_t together = 0;                       // blocks of a cooperative launch; 0 in another
  uint64_t at_grid = 0;                        // threads
  Thread* current = nullptr;
  const std::function<void()>* body = nullptr;
  size_t shared_limit = 0;
  std::map<const void*, size_t> allowed_shared;  // of kernels that something was set for
  std::string error;
};
Engine engine;

unsigned number(const Thread& thread) {
  return thread.index.x + blockDim.x * (thread.index.y + blockDim.y * thread.index.z);
}

std::string text(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string name(const Thread& thread) {
  return "block " + text(thread.block->index) + ", thread " + text(thread.index);
}

std::string where(const Thread& thread) {
  std::ostringstream out;
  const char* waits = thread.state == State::AT_BARRIER ? "waits for its block"
                      : thread.state == State::AT_GRID  ? "waits for its grid"
                                                        : "waits for lanes";
  if (thread.state == State::RETURNED) return "has returned";
  out << waits << " at " << thread.place.file << ":" << thread.place.line;
  if (thread.state == State::AT_LANES) out << " with mask 0x" << std::hex << thread.mask;
  return out.str();
}

// Every place where threads of the first `blocks` blocks stand, and the first of them.
std::string describe_deadlock(uint64_t blocks) {
  std::vector<std::string> places;
  std::ostringstream out;
  out << "threads wait for others that never come:";
  for (uint64_t block = 0; block < blocks; ++block)
    for (unsigned i = 0; i < engine.count; ++i) {
      const Thread& thread = *engine.blocks[block]->threads[i];
      const std::string place = where(thread);
      if (std::find(places.begin(), places.end(), place) != places.end()) continue;
      places.push_back(place);
      out << "\n  " << name(thread) << " " << place;
    }
  return out.str();
}

void suspend() { switch_fiber(engine.current->fiber, engine.host, false); }

[[noreturn]] void fail(const std::string& message) {
  engine.error = name(*engine.current) + ": " + message;
  suspend();
  std::abort();  // it is not resumed
}

// Fails unless `other` waits at the same place as the running thread.
void check_place(const Thread& other) {
  const Place &place = engine.current->place, &its = other.place;
  if (its.line != place.line || std::strcmp(its.file, place.file) != 0)
    fail("waits at " + std::string(place.file) + ":" + std::to_string(place.line) + ", but " + name(other) + " " +
         where(other));
}

// What the fiber of every thread runs.
void thread_main() {
  arrive(engine.current->fiber);
  (*engine.body)();
  engine.current->state = State::RETURNED;
  switch_fiber(engine.current->fiber, engine.host, true);
}

void resume(Thread& thread) {
  engine.current = &thread;
  threadIdx = thread.index;
  blockIdx = thread.block->index;
  switch_fiber(engine.host, thread.fiber, false);
}

// Makes the number-th block there, which is `index` of the grid.
void start_block(uint64_t number, uint64_t index) {
  if (number == engine.blocks.size()) engine.blocks.push_back(std::make_unique<Block>());
  Block& block = *engine.blocks[number];
  block.index = {unsigned(index % gridDim.x), unsigned(index / gridDim.x % gridDim.y),
                 unsigned(index / gridDim.x / gridDim.y)};
  block.arrays.clear();
  block.division = block.at_barrier = block.returned = 0;
  block.at_lanes.assign((engine.count + LANES - 1) / LANES, 0);
  while (block.threads.size() < engine.count) block.threads.push_back(std::make_unique<Thread>());
  for (unsigned i = 0; i < engine.count; ++i) {
    Thread& thread = *block.threads[i];
    thread.block = &block;
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    thread.state = State::READY;
    thread.division = 0;
    start_fiber(thread.fiber, thread_main);
  }
}

// Resumes every thread of a block that waits for nobody, once; whether there was one.
bool run_round(Block& block, const Order& order) {
  bool progress = false;
  for (unsigned i = 0; i < engine.count && engine.error.empty(); ++i) {
    Thread& thread = *block.threads[order.at(i)];
    if (thread.state != State::READY) continue;
    progress = true;
    resume(thread);
    if (thread.state == State::RETURNED) ++block.returned;
  }
  return progress;
}

// Runs the first `count` blocks until all have returned. In the orders 0 and 1 each runs as far as it can before the
// next one does, so that what one reads too early is not there yet; in others they go on side by side.
void run_blocks(uint64_t count) {
  const Order blocks(engine.seed, count), threads(engine.seed, engine.count);
  for (uint64_t returned = 0; returned < count * engine.count;) {
    bool progress = false;
    for (uint64_t i = 0; i < count; ++i) {
      Block& block = *engine.blocks[blocks.at(i)];
      const unsigned before = block.returned;
      bool again = run_round(block, threads);
      progress = progress || again;
      while (again && engine.seed < 2) again = run_round(block, threads);
      returned += block.returned - before;
      if (!engine.error.empty()) return;
    }
    if (!progress) {
      engine.error = describe_deadlock(count);
      return;
    }
  }
}

size_t find_allowed(const void* kernel) {
  const auto found = engine.allowed_shared.find(kernel);
  return found == engine.allowed_shared.end() ? SHARED_UNASKED : found->second;
}

}  // namespace

size_t allowed_shared(const void* kernel) {
  const std::lock_guard<std::mutex> lock(engine.one_launch);
  return find_allowed(kernel);
}

void run(const void* kernel, const cudaLaunchConfig_t& configuration, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(engine.one_launch);
  gridDim = configuration.gridDim;
  blockDim = configuration.blockDim;
  const uint64_t blocks = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
  const uint64_t threads = uint64_t(blockDim.x) * blockDim.y * blockDim.z;
  STD_TORCH_CHECK(blocks > 0 && gridDim.x < 1u << 31 && gridDim.y < 1 << 16 && gridDim.z < 1 << 16,
                  "no grid of ", gridDim.x, " x ", gridDim.y, " x ", gridDim.z, " blocks");
  STD_TORCH_CHECK(threads > 0 && threads <= 1024 && blockDim.z <= 64,
                  "no block of ", blockDim.x, " x ", blockDim.y, " x ", blockDim.z, " threads");
  const size_t most_shared = find_allowed(kernel);
  STD_TORCH_CHECK(configuration.dynamicSmemBytes <= most_shared, configuration.dynamicSmemBytes,
                  " bytes of shared memory are more than the ", most_shared, " that the kernel may have");
  bool cooperative = false;
  for (unsigned i = 0; i < configuration.numAttrs; ++i)
    cooperative = cooperative || configuration.attrs[i].val.cooperative != 0;
  const uint64_t most = uint64_t(engine.multiprocessors) * BLOCKS_AT_ONCE;
  STD_TORCH_CHECK(!cooperative || blocks <= most, blocks, " blocks cannot wait for one another where ", most,
                  " are there at once");
  ++engine.launches;
  engine.count = unsigned(threads);
  engine.body = &body;
  engine.shared_limit = configuration.dynamicSmemBytes;
  engine.together = cooperative ? blocks : 0;
  engine.at_grid = 0;
  engine.error.clear();
  const uint64_t there = cooperative ? blocks : 1;
  const Order order(engine.seed, blocks);
  for (uint64_t i = 0; i < blocks && engine.error.empty(); i += there) {
    for (uint64_t block = 0; block < there; ++block) start_block(block, cooperative ? block : order.at(i));
    run_blocks(there);
  }
  if (!engine.error.empty()) throw std::runtime_error(engine.error);
}

int multiprocessors() { return engine.multiprocessors; }

void* shared_array(size_t index, size_t bytes) {
  Block& block = *engine.current->block;
  if (index == block.arrays.size()) {
    size_t taken = enas::shared_bytes<char>(int64_t(bytes));
    for (const auto& array : block.arrays) taken += enas::shared_bytes<char>(int64_t(array.size));
    if (taken > engine.shared_limit)
      fail("takes " + std::to_string(taken) + " bytes of shared memory and was launched with " +
           std::to_string(engine.shared_limit));
    block.arrays.push_back({std::unique_ptr<char[]>(new char[bytes]), bytes});
    std::memset(block.arrays.back().memory.get(), 0xff, bytes);
  }
  if (block.arrays[index].size != bytes) fail("takes another array of shared memory than other threads");
  return block.arrays[index].memory.get();
}

void divide_anew() {
  Block& block = *engine.current->block;
  if (++engine.current->division <= block.division) return;
  block.division = engine.current->division;
  block.arrays.clear();
}

void wait_for_block(Place place) {
  Thread& self = *engine.current;
  Block& block = *self.block;
  self.state = State::AT_BARRIER;
  self.place = place;
  if (++block.at_barrier < engine.count) return suspend();
  for (unsigned i = 0; i < engine.count; ++i) check_place(*block.threads[i]);
  block.at_barrier = 0;
  for (unsigned i = 0; i < engine.count; ++i) block.threads[i]->state = State::READY;
}

void wait_for_grid(Place place) {
  if (engine.together == 0) fail("waits for a grid that was not launched as a cooperative one");
  Thread& self = *engine.current;
  self.state = State::AT_GRID;
  self.place = place;
  if (++engine.at_grid < engine.together * engine.count) return suspend();
  const auto each = [](auto f) {
    for (uint64_t block = 0; block < engine.together; ++block)
      for (unsigned i = 0; i < engine.count; ++i) f(*engine.blocks[block]->threads[i]);
  };
  each(check_place);
  engine.at_grid = 0;
  each([](Thread& thread) { thread.state = State::READY; });
}

unsigned lane() { return number(*engine.current) % LANES; }

const uint64_t* wait_for_lanes(unsigned mask, uint64_t word, Place place) {
  Thread& self = *engine.current;
  Block& block = *self.block;
  const unsigned warp = number(self) / LANES;
  if ((mask >> lane() & 1) == 0) fail("is not in the mask that it gives");
  self.state = State::AT_LANES;
  self.place = place;
  self.mask = mask;
  self.word = word;
  // A block's last warp may have fewer lanes than a full mask names.
  const unsigned lanes = std::min<unsigned>(LANES, engine.count - warp * LANES);
  if (lanes < LANES) mask &= (1u << lanes) - 1;
  const unsigned wanted = unsigned(__builtin_popcount(mask));
  if (++block.at_lanes[warp] < wanted) {
    suspend();
    return self.words;
  }
  uint64_t words[LANES];
  for (unsigned i = 0; i < LANES; ++i) {
    words[i] = NOTHING;
    if ((mask >> i & 1) == 0) continue;
    const Thread& other = *block.threads[warp * LANES + i];
    const bool here = other.state == State::AT_LANES && other.mask == self.mask && other.place.line == place.line &&
                      std::strcmp(other.place.file, place.file) == 0;
    if (!here) {
      suspend();
      return self.words;
    }
    words[i] = other.word;
  }
  block.at_lanes[warp] -= wanted;
  for (unsigned i = 0; i < LANES; ++i) {
    if ((mask >> i & 1) == 0) continue;
    Thread& other = *block.threads[warp * LANES + i];
    std::copy(words, words + LANES, other.words);
    other.state = State::READY;
  }
  return self.words;
}

}  // namespace shim

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  const std::lock_guard<std::mutex> lock(shim::engine.one_launch);
  if (value < 0 || size_t(value) > shim::MOST_SHARED) return cudaErrorInvalidValue;
  shim::engine.allowed_shared[kernel] = size_t(value);
  return cudaSuccess;
}

// What csrc/cuda/stream.cpp asks of a torch with CUDA.
namespace enas {
CurrentStream::CurrentStream(int32_t) {}
CurrentStream::~CurrentStream() {}
}  // namespace enas

// The order of blocks and of the threads of a block: 0 forwards, 1 backwards, else another for each seed.
extern "C" __attribute__((visibility("default"))) void shim_set_order(uint64_t seed) { shim::engine.seed = seed; }

// The number of multiprocessors. To be said before the first launch: what was found out of a device is remembered.
extern "C" __attribute__((visibility("default"))) void shim_set_multiprocessors(int count) {
  shim::engine.multiprocessors = count;
}

// How many kernels have been launched so far.
extern "C" __attribute__((visibility("default"))) uint64_t shim_launches() { return shim::engine.launches; }
