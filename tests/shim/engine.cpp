// Runs kernels on the host: each thread of a block is a fiber with a stack of its own. A fiber runs until it waits,
// then the next one does, in an order that the test chooses: a result that depends on it shows a missing barrier.
#include <cuda_runtime.h>
#include <torch/csrc/stable/macros.h>

#include <memory>
#include <mutex>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/launch.cuh"
#include "fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace shim {
namespace {

constexpr int LANES = 32;
constexpr uint64_t NOTHING = ~uint64_t(0);  // a NaN in every floating-point type
// What an A100 has: a kernel that asks for more would fail there.
constexpr size_t MOST_SHARED = 163 * 1024;

enum class State { READY, AT_BARRIER, AT_LANES, RETURNED };

struct Thread {
  Fiber fiber;
  uint3 index{};
  State state = State::READY;
  Place place{};
  unsigned mask = 0;
  uint64_t word = 0;
  uint64_t words[LANES];
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
  Fiber host;
  std::vector<std::unique_ptr<Thread>> threads;
  unsigned count = 0;  // threads of the block that runs
  Thread* current = nullptr;
  const std::function<void()>* body = nullptr;
  unsigned at_barrier = 0;
  std::vector<unsigned> at_lanes;  // of each warp
  struct Array {
    std::unique_ptr<char[]> memory;
    size_t size;
  };
  std::vector<Array> arrays;
  size_t shared_limit = 0;
  std::string error;
};
Engine engine;

unsigned number(const Thread& thread) {
  return thread.index.x + blockDim.x * (thread.index.y + blockDim.y * thread.index.z);
}

std::string text(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string where(const Thread& thread) {
  std::ostringstream out;
  const char* waits = thread.state == State::AT_BARRIER ? "waits for its block" : "waits for lanes";
  if (thread.state == State::RETURNED) return "has returned";
  out << waits << " at " << thread.place.file << ":" << thread.place.line;
  if (thread.state == State::AT_LANES) out << " with mask 0x" << std::hex << thread.mask;
  return out.str();
}

// Every place where threads stand, and the first of them.
std::string describe_deadlock() {
  std::vector<std::string> places;
  std::ostringstream out;
  out << "threads wait for others that never come:";
  for (unsigned i = 0; i < engine.count; ++i) {
    const std::string place = where(*engine.threads[i]);
    if (std::find(places.begin(), places.end(), place) != places.end()) continue;
    places.push_back(place);
    out << "\n  thread " << text(engine.threads[i]->index) << " " << place;
  }
  return out.str();
}

void suspend() { switch_fiber(engine.current->fiber, engine.host, false); }

[[noreturn]] void fail(const std::string& message) {
  engine.error = "thread " + text(threadIdx) + ": " + message;
  suspend();
  std::abort();  // it is not resumed
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
  switch_fiber(engine.host, thread.fiber, false);
}

void run_block() {
  for (auto& array : engine.arrays) std::memset(array.memory.get(), 0xff, array.size);
  engine.at_barrier = 0;
  engine.at_lanes.assign((engine.count + LANES - 1) / LANES, 0);
  for (unsigned i = 0; i < engine.count; ++i) {
    Thread& thread = *engine.threads[i];
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    thread.state = State::READY;
    start_fiber(thread.fiber, thread_main);
  }
  const Order order(engine.seed, engine.count);
  for (unsigned returned = 0; returned < engine.count;) {
    bool progress = false;
    for (unsigned i = 0; i < engine.count; ++i) {
      Thread& thread = *engine.threads[order.at(i)];
      if (thread.state != State::READY) continue;
      progress = true;
      resume(thread);
      if (!engine.error.empty()) return;
      if (thread.state == State::RETURNED) ++returned;
    }
    if (!progress) {
      engine.error = describe_deadlock();
      return;
    }
  }
}

}  // namespace

void run(const cudaLaunchConfig_t& configuration, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(engine.one_launch);
  gridDim = configuration.gridDim;
  blockDim = configuration.blockDim;
  const uint64_t blocks = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
  const uint64_t threads = uint64_t(blockDim.x) * blockDim.y * blockDim.z;
  STD_TORCH_CHECK(blocks > 0 && gridDim.x < 1u << 31 && gridDim.y < 1 << 16 && gridDim.z < 1 << 16,
                  "no grid of ", gridDim.x, " x ", gridDim.y, " x ", gridDim.z, " blocks");
  STD_TORCH_CHECK(threads > 0 && threads <= 1024 && blockDim.z <= 64,
                  "no block of ", blockDim.x, " x ", blockDim.y, " x ", blockDim.z, " threads");
  STD_TORCH_CHECK(configuration.dynamicSmemBytes <= MOST_SHARED,
                  configuration.dynamicSmemBytes, " bytes of shared memory are too many");
  ++engine.launches;
  engine.count = unsigned(threads);
  while (engine.threads.size() < threads) engine.threads.push_back(std::make_unique<Thread>());
  engine.body = &body;
  engine.shared_limit = configuration.dynamicSmemBytes;
  engine.arrays.clear();
  engine.error.clear();
  const Order order(engine.seed, blocks);
  for (uint64_t i = 0; i < blocks && engine.error.empty(); ++i) {
    const uint64_t block = order.at(i);
    blockIdx = {unsigned(block % gridDim.x), unsigned(block / gridDim.x % gridDim.y),
                unsigned(block / gridDim.x / gridDim.y)};
    run_block();
  }
  if (!engine.error.empty()) throw std::runtime_error("block " + text(blockIdx) + ": " + engine.error);
}

void* shared_array(size_t index, size_t bytes) {
  if (index == engine.arrays.size()) {
    size_t taken = enas::shared_bytes<char>(int64_t(bytes));
    for (const auto& array : engine.arrays) taken += enas::shared_bytes<char>(int64_t(array.size));
    if (taken > engine.shared_limit)
      fail("takes " + std::to_string(taken) + " bytes of shared memory and was launched with " +
            std::to_string(engine.shared_limit));
    engine.arrays.push_back({std::unique_ptr<char[]>(new char[bytes]), bytes});
    std::memset(engine.arrays.back().memory.get(), 0xff, bytes);
  }
  if (engine.arrays[index].size != bytes) fail("takes another array of shared memory than other threads");
  return engine.arrays[index].memory.get();
}

void wait_for_block(Place place) {
  Thread& self = *engine.current;
  self.state = State::AT_BARRIER;
  self.place = place;
  if (++engine.at_barrier < engine.count) return suspend();
  for (unsigned i = 0; i < engine.count; ++i) {
    const Place& other = engine.threads[i]->place;
    if (other.line != place.line || std::strcmp(other.file, place.file) != 0)
      fail("waits at " + std::string(place.file) + ":" + std::to_string(place.line) + ", but thread " +
            text(engine.threads[i]->index) + " " + where(*engine.threads[i]));
  }
  engine.at_barrier = 0;
  for (unsigned i = 0; i < engine.count; ++i) engine.threads[i]->state = State::READY;
}

unsigned lane() { return number(*engine.current) % LANES; }

const uint64_t* wait_for_lanes(unsigned mask, uint64_t word, Place place) {
  Thread& self = *engine.current;
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
  if (++engine.at_lanes[warp] < wanted) {
    suspend();
    return self.words;
  }
  uint64_t words[LANES];
  for (unsigned i = 0; i < LANES; ++i) {
    words[i] = NOTHING;
    if ((mask >> i & 1) == 0) continue;
    const Thread& other = *engine.threads[warp * LANES + i];
    const bool here = other.state == State::AT_LANES && other.mask == self.mask && other.place.line == place.line &&
                      std::strcmp(other.place.file, place.file) == 0;
    if (!here) {
      suspend();
      return self.words;
    }
    words[i] = other.word;
  }
  engine.at_lanes[warp] -= wanted;
  for (unsigned i = 0; i < LANES; ++i) {
    if ((mask >> i & 1) == 0) continue;
    Thread& other = *engine.threads[warp * LANES + i];
    std::copy(words, words + LANES, other.words);
    other.state = State::READY;
  }
  return self.words;
}

}  // namespace shim

// What csrc/cuda/stream.cu asks of a torch with CUDA.
namespace enas {
CurrentStream::CurrentStream(int32_t) {}
CurrentStream::~CurrentStream() {}
}  // namespace enas

// The order of blocks and of the threads of a block: 0 forwards, 1 backwards, else another for each seed.
extern "C" __attribute__((visibility("default"))) void shim_set_order(uint64_t seed) { shim::engine.seed = seed; }

// How many kernels have been launched so far.
extern "C" __attribute__((visibility("default"))) uint64_t shim_launches() { return shim::engine.launches; }
