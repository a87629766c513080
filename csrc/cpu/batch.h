// Batches of images over threads, and the batch norms that join them again. Whatever is summed over images is summed in
// their order, in double or in fixed blocks, so that no result depends on the number of threads.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "../formulas.h"
#include "level.h"
#include "tensors.h"

namespace enas {

// `numbers` numbers of scratch of the calling thread, aligned for any vector; their content is left over.
template <class A>
inline A* thread_scratch(int64_t numbers) {
  struct Buffer {
    char* memory = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(memory); }
  };
  static thread_local Buffer buffer;
  const size_t wanted = (numbers * sizeof(A) + 4095) / 4096 * 4096;
  if (buffer.size < wanted) {
    std::free(buffer.memory);
    buffer.memory = static_cast<char*>(std::aligned_alloc(4096, wanted));
    STD_TORCH_CHECK(buffer.memory != nullptr, "no memory for scratch");
    std::memset(buffer.memory, 0, wanted);
    buffer.size = wanted;
  }
  return reinterpret_cast<A*>(buffer.memory);
}

// f(job) for all jobs, spread over threads: each has its share, and then helps with what others have left. Where jobs differ
// (children of other operations) or a core is taken away for a while, nobody waits for the slowest.
template <class F>
inline void parallel(int64_t jobs, F f) {
  const int64_t shares = std::min<int64_t>(jobs, torch::stable::get_num_threads());
  if (shares <= 1) {
    for (int64_t job = 0; job < jobs; ++job) f(job);
    return;
  }
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  std::vector<Share> share(shares);
  for (int64_t i = 0; i < shares; ++i) {
    share[i].next = i * jobs / shares;
    share[i].end = (i + 1) * jobs / shares;
  }
  torch::stable::parallel_for(0, shares, 1, [&](int64_t own, int64_t) {
    for (int64_t i = 0; i < shares; ++i) {
      Share& from = share[(own + i) % shares];
      for (int64_t job; (job = from.next.fetch_add(1, std::memory_order_relaxed)) < from.end;) f(job);
    }
  });
}

// Weight gradients are summed in blocks of images, then over the blocks in their order: in 16 blocks at most, fewer where
// images are so small that clearing and adding up a block's sums would take longer than the work on its pixels.
struct ImageBlocks {
  int64_t images, count;
  ImageBlocks(int64_t images, int64_t pixels)
      : images(images), count(std::min({images, MOST, std::max<int64_t>(1, images * pixels / PIXELS)})) {}
  int64_t begin(int64_t block) const { return block * images / count; }
  int64_t end(int64_t block) const { return (block + 1) * images / count; }

 private:
  static constexpr int64_t MOST = 16, PIXELS = 64;
};

// Gradients of `halves` weight sets, one buffer a block of images, reduced into the first.
template <class A>
class BlockGradients {
 public:
  BlockGradients(int64_t blocks, std::vector<int64_t> sizes) : blocks_(blocks), sizes_(std::move(sizes)) {
    for (int64_t size : sizes_) {
      begins_.push_back(total_);
      total_ += (size + 15) / 16 * 16;
    }
    memory_.reset(new A[blocks_ * total_]);
  }
  // To be called by the job of `block` before it adds.
  void clear(int64_t block) { std::memset(at(block, 0), 0, total_ * sizeof(A)); }
  A* at(int64_t block, int64_t set) { return memory_.get() + block * total_ + (begins_.empty() ? 0 : begins_[set]); }
  // Afterwards at(0, set) holds the sum over all blocks.
  void reduce() {
    // What one thread does sooner than others wake up is one piece.
    const int64_t piece_size = blocks_ * total_ < 65536 ? total_ : 4096;
    if (piece_size == 0) return;
    parallel((total_ + piece_size - 1) / piece_size, [&](int64_t piece) {
      const int64_t begin = piece * piece_size, size = std::min(piece_size, total_ - begin);
      for (int64_t block = 1; block < blocks_; ++block)
        level<A>().widen(size, memory_.get() + block * total_ + begin, A(1), memory_.get() + begin, true);
    });
  }

 private:
  int64_t blocks_, total_ = 0;
  std::vector<int64_t> sizes_, begins_;
  std::unique_ptr<A[]> memory_;
};

// One batch norm of one child: from its statistics, what is applied on load and what backward needs.
template <class A>
class Norm {
 public:
  Load<A> load() const { return {of(FACTOR), of(OFFSET)}; }

  // From the statistics `used` [2][channels].
  void set(int channels, const A* used, const A* gain, const A* bias) {
    make_room(channels);
    for (int c = 0; c < channels; ++c) {
      const Affine<A> affine = norm_affine(used[c], used[channels + c], gain[c], bias[c]);
      of(FACTOR)[c] = affine.factor;
      of(OFFSET)[c] = affine.offset;
    }
  }

  // From the sums [images][2][channels] of dy and dy * (z - mean); adds to the gradients of gain and bias.
  void set_backward(int channels, const A* used, const A* gain, const A* sums, int64_t images, int64_t pixels,
                    bool given, A* dgain, A* dbias) {
    make_room(channels);
    std::vector<double> totals(2 * channels);
    level<A>().sum_images(images, 2 * channels, sums, totals.data());
    for (int c = 0; c < channels; ++c) {
      const auto backward = norm_backward<double>(used[c], used[channels + c], gain[c], totals[c],
                                                  totals[channels + c], double(images) * double(pixels), given);
      of(ON_GRAD)[c] = A(backward.on_grad);
      of(ON_Z)[c] = A(backward.on_z);
      of(CONSTANT)[c] = A(backward.constant);
      dgain[c] += A(backward.dgain);
      dbias[c] += A(backward.dbias);
    }
  }
  Gradient<A> gradient(const A* dy, A scale) const { return {dy, scale, of(ON_GRAD), of(ON_Z), of(CONSTANT)}; }

 private:
  enum Row { FACTOR, OFFSET, ON_GRAD, ON_Z, CONSTANT, ROWS };
  std::unique_ptr<A[]> rows_;  // one piece of memory: cells have hundreds of norms
  int channels_ = 0;

  A* of(Row row) const { return rows_.get() + row * channels_; }
  void make_room(int channels) {
    if (rows_ != nullptr) return;
    rows_.reset(new A[ROWS * channels]);
    channels_ = channels;
  }
};

}  // namespace enas
