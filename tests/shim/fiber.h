// Fibers: functions with a stack of their own that hand over to one another. AddressSanitizer is told of every switch.
#pragma once
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace shim {

struct Fiber {
  static constexpr size_t STACK = 256 * 1024, GUARD = 4096;

  char* stack = nullptr;  // none for the fiber that was there from the beginning
  const void* bottom = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;
#if defined(__x86_64__)
  void* pointer = nullptr;
#else
  ucontext_t context;
#endif

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  ~Fiber() {
    if (stack != nullptr) munmap(stack - GUARD, STACK + GUARD);
  }
};

inline Fiber* came_from = nullptr;  // the fiber of the last switch

// To be called first of all by what a fiber runs.
inline void arrive([[maybe_unused]] Fiber& self) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self.fake_stack, &came_from->bottom, &came_from->size);
#endif
}

#if defined(__x86_64__)
// Keeps what a function must keep (System V ABI), and goes on where `to` stands.
extern "C" void shim_switch(void** from, void* to);
asm(R"(
.text
.globl shim_switch
.hidden shim_switch
.type shim_switch, @function
shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size shim_switch, .-shim_switch
)");
#endif

// From `from`, which runs, to `to`. Returns when somebody switches back; where `finished`, nobody does.
inline void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool finished) {
  came_from = &from;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(finished ? nullptr : &from.fake_stack, to.bottom, to.size);
#endif
#if defined(__x86_64__)
  shim_switch(&from.pointer, to.pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
  arrive(from);
}

// Makes `fiber` begin `function`, which never returns, with an empty stack at the next switch to it.
inline void start_fiber(Fiber& fiber, void (*function)()) {
  if (fiber.stack == nullptr) {
    void* memory = mmap(nullptr, Fiber::STACK + Fiber::GUARD, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, Fiber::GUARD, PROT_NONE) != 0) std::abort();
    fiber.stack = static_cast<char*>(memory) + Fiber::GUARD;
    fiber.bottom = fiber.stack;
    fiber.size = Fiber::STACK;
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, Fiber::STACK);  // what an earlier run left there
  fiber.fake_stack = nullptr;
#endif
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(fiber.stack + Fiber::STACK);
  *--top = nullptr;                             // where `function` would return to; aligns its frame
  *--top = reinterpret_cast<void*>(function);
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // the registers
  fiber.pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = Fiber::STACK;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, function, 0);
#endif
}

}  // namespace shim
