// The device and the stream that torch is on.
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/macros.h>

#include "launch.h"

namespace enas {
namespace {
using CurrentCudaStream = AOTITorchError (*)(int32_t, void**);

// The library is built and loaded without libtorch_cuda, and would not see its symbols where that is loaded, since
// Python loads torch's libraries without making their symbols global: it is asked for by name.
CurrentCudaStream find() {
  void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  void* symbol = library == nullptr ? nullptr : dlsym(library, "aoti_torch_get_current_cuda_stream");
  STD_TORCH_CHECK(symbol != nullptr, "this torch has no CUDA");
  return reinterpret_cast<CurrentCudaStream>(symbol);
}
}  // namespace

CurrentStream::CurrentStream(int32_t device) {
  static const CurrentCudaStream current_stream = find();
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(current_stream(device, &stream));
  stream_ = static_cast<cudaStream_t>(stream);
  DeviceGuardHandle guard = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_create_device_guard(device, &guard));
  guard_ = guard;
}

CurrentStream::~CurrentStream() { aoti_torch_delete_device_guard(static_cast<DeviceGuardHandle>(guard_)); }

}  // namespace enas
