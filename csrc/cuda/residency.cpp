// How many blocks of a kernel are on a device at once. Asked once for each kernel, device and size of shared memory, so
// that nothing is asked while a graph is captured of what has run before.
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "program.h"

namespace enas {
namespace {

// What ENAS_LAUNCH says: `cell`, the default, or `step`.
bool step_by_step() {
  const char* value = std::getenv("ENAS_LAUNCH");
  const std::string said = value == nullptr ? "cell" : value;
  STD_TORCH_CHECK(said == "cell" || said == "step", "ENAS_LAUNCH is '", said, "', and must be cell or step");
  return said == "step";
}

unsigned ask(const void* kernel, int device, int threads, size_t shared) {
  int able = 0, multiprocessors = 0, of_each = 0;
  check_cuda(cudaDeviceGetAttribute(&able, cudaDevAttrCooperativeLaunch, device));
  if (able == 0) return 0;
  allow_shared(kernel, shared);
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_each, kernel, threads, shared));
  STD_TORCH_CHECK(of_each > 0, "a block of ", threads, " threads with ", shared,
                  " bytes of shared memory is too large for this device");
  return unsigned(of_each) * unsigned(multiprocessors);
}

}  // namespace

unsigned resident_blocks(const void* kernel, int device, int threads, size_t shared) {
  static const bool asked_not_to = step_by_step();
  if (asked_not_to) return 0;
  static std::mutex mutex;
  static std::map<std::tuple<const void*, int, int, size_t>, unsigned> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const std::tuple<const void*, int, int, size_t> key(kernel, device, threads, shared);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  return known[key] = ask(kernel, device, threads, shared);
}

}  // namespace enas
