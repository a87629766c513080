// Augmentation on CUDA: a thread for each number of the result.
#include "../augment.h"

#include "launch.h"

namespace {
using namespace enas;

template <class T>
struct Stored {
  const uint8_t* images;
  int64_t count;  // of stored images
  const int64_t *indices, *shifts, *corners;
  const bool* flips;
  const T *mean, *std;
};

template <class S, class T>
__global__ void augment_numbers(Stored<T> stored_images, Pictures pictures, S* out) {
  const int height = pictures.height, width = pictures.width, channels = pictures.channels;
  const int64_t line = int64_t(width) * channels, size = height * line;
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= pictures.count * size) return;
  const int64_t number = i / size, index = stored_images.indices[number];
  const int row = int(i % size / line), column = int(i % line / channels), channel = int(i % channels);
  if (index < 0 || index >= stored_images.count) {  // the host does not wait to hear of it
    out[i] = stored<S>(T(NAN));
    return;
  }
  const Change change(number, stored_images.shifts, stored_images.flips, stored_images.corners, pictures.cutout);
  const int64_t place = change.source(row, column, height, width);
  const T value = place < 0 ? T(0)
                            : normalised_pixel(stored_images.images[index * size + place * channels + channel],
                                               stored_images.mean[channel], stored_images.std[channel]);
  out[i] = stored<S>(value);
}

template <class S, class T>
void run(const Pictures& pictures, const Tensor& images, const Tensor& indices, const std::optional<Tensor>& shifts,
         const std::optional<Tensor>& flips, const std::optional<Tensor>& corners, const Tensor& mean,
         const Tensor& std, const Tensor& out) {
  constexpr int THREADS = 256;
  const Stored<T> stored_images{pointer<uint8_t>(images),  images.size(0),         pointer<int64_t>(indices),
                                pointer<int64_t>(shifts),  pointer<int64_t>(corners), pointer<bool>(flips),
                                pointer<T>(mean),          pointer<T>(std)};
  launch(images, {blocks_of(out.numel(), THREADS), THREADS}, augment_numbers<S, T>, stored_images, pictures,
         pointer<S>(out));
}

Tensor augment(const Tensor& images, const Tensor& indices, const std::optional<Tensor>& shifts,
               const std::optional<Tensor>& flips, const std::optional<Tensor>& corners, int64_t cutout,
               const Tensor& mean, const Tensor& std, ScalarType type) {
  const Pictures pictures(images, indices, shifts, flips, corners, cutout, mean, std);
  Tensor out = empty(images, {pictures.count, pictures.height, pictures.width, pictures.channels}, type);
  dispatch(out, [&]<class S>() {
    if (mean.scalar_type() == ScalarType::Double)
      run<S, double>(pictures, images, indices, shifts, flips, corners, mean, std, out);
    else
      run<S, float>(pictures, images, indices, shifts, flips, corners, mean, std, out);
  });
  return out;
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(enas, CUDA, m) { m.impl("augment", TORCH_BOX(&augment)); }
