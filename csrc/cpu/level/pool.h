// 3x3 pools of one image, and the sums that make a node.
#pragma once
#include <algorithm>
#include <limits>

#include "elementwise.h"
#include "half.h"

namespace enas::ENAS_LEVEL {

// The pixels under a pool's window that are inside the image.
struct Window {
  int top, bottom, left, right;
  Window(const Pool& pool, int row, int column) {
    top = row * pool.stride > 0 ? row * pool.stride - 1 : 0;
    left = column * pool.stride > 0 ? column * pool.stride - 1 : 0;
    bottom = row * pool.stride + 2 < pool.height ? row * pool.stride + 2 : pool.height;
    right = column * pool.stride + 2 < pool.width ? column * pool.stride + 2 : pool.width;
  }
  int count() const { return (bottom - top) * (right - left); }
};

// body.operator()<T>(channel) for the channels of one pixel: in vectors, in fours, and then one by one.
template <class S, class F>
inline void each_channel(int channels, F body) {
  using A = Arithmetic<S>;
  typedef A Four __attribute__((vector_size(4 * sizeof(A)), may_alias));
  int channel = 0;
  for (; channel + LANES<A> <= channels; channel += LANES<A>) body.template operator()<Vector<A>>(channel);
  if constexpr (std::is_same_v<S, A> && LANES<A> > 4)
    for (; channel + 4 <= channels; channel += 4) body.template operator()<Four>(channel);
  for (; channel < channels; ++channel) body.template operator()<A>(channel);
}

// body(begin, size, left, right) for stretches of a row of numbers whose pixels have the same neighbours: `left` is -1
// where there is one to the left, else 0; `right` likewise.
template <class F>
inline void each_stretch(const Pool& pool, F body) {
  const int channels = pool.channels, last = (pool.width - 1) * channels;
  body(0, channels, 0, pool.width > 1 ? 1 : 0);
  if (pool.width > 2) body(channels, last - channels, -1, 1);
  if (pool.width > 1) body(last, channels, -1, 0);
}

// The larger one; a NaN wins, as in torch.
template <class T>
inline auto exceeds(T next, T value) {
  return (next > value) | (next != next);
}

// With stride 1 a pool is one over columns, in a row of scratch with a pixel's border, and one over that row.
template <class S, class A>
void pool_rows_forward(const Pool& pool, const S* x, A scale, A* sum, bool add, A* scratch) {
  const int channels = pool.channels;
  const int64_t row_size = int64_t(pool.width) * channels;
  A* middle = scratch + channels;
  std::fill_n(scratch, row_size + 2 * channels, pool.maximum ? -std::numeric_limits<A>::infinity() : A(0));
  for (int row = 0; row < pool.height; ++row, sum += row_size) {
    const int top = row > 0 ? row - 1 : 0, bottom = row + 2 < pool.height ? row + 2 : pool.height;
    each<A>(row_size, 1, 0, [&]<class T>(int64_t i, int) {
      T value = get_stored<T>(x + top * row_size + i);
      for (int y = top + 1; y < bottom; ++y) {
        const T next = get_stored<T>(x + y * row_size + i);
        if (pool.maximum) value = exceeds(next, value) ? next : value;
        else value += next;
      }
      put(middle + i, value);
    });
    each_stretch(pool, [&](int64_t begin, int64_t size, int left, int right) {
      const A share = pool.maximum ? scale : scale / A((bottom - top) * (1 + right - left));
      each<A>(size, 1, 0, [&]<class T>(int64_t i, int) {
        const A* here = middle + begin + i;
        T value = get<T>(here - channels);
        for (const T next : {get<T>(here), get<T>(here + channels)}) {
          if (pool.maximum) value = exceeds(next, value) ? next : value;
          else value += next;
        }
        value = value * share;
        put(sum + begin + i, add ? get<T>(sum + begin + i) + value : value);
      });
    });
  }
}

template <class A>
void average_rows_backward(const Pool& pool, const A* dy, A scale, A* dx, A* scratch) {
  const int channels = pool.channels;
  const int64_t row_size = int64_t(pool.width) * channels;
  A* middle = scratch + channels;
  std::fill_n(scratch, row_size + 2 * channels, A(0));
  const auto rows_under = [&](int row) { return 1 + (row > 0) + (row + 1 < pool.height); };
  for (int row = 0; row < pool.height; ++row, dx += row_size) {
    const int top = row > 0 ? row - 1 : 0, bottom = row + 2 < pool.height ? row + 2 : pool.height;
    each_stretch(pool, [&](int64_t begin, int64_t size, int left, int right) {
      each<A>(size, 1, 0, [&]<class T>(int64_t i, int) {
        T value{};
        for (int y = top; y < bottom; ++y)
          value += get<T>(dy + y * row_size + begin + i) * (scale / A(rows_under(y) * (1 + right - left)));
        put(middle + begin + i, value);
      });
    });
    each<A>(row_size, 1, 0, [&]<class T>(int64_t i, int) {
      const A* here = middle + i;
      put(dx + i, get<T>(dx + i) + (get<T>(here - channels) + get<T>(here) + get<T>(here + channels)));
    });
  }
}

// First the place of each window's maximum, the first of equals as in torch; then each pixel collects from the windows
// that took it.
template <class S, class A>
void maximum_rows_backward(const Pool& pool, const S* x, const A* dy, A scale, A* dx, A* scratch) {
  const int channels = pool.channels;
  const int64_t row_size = int64_t(pool.width) * channels, pitch = row_size + 2 * channels;
  const int64_t plane = (pool.height + 2) * pitch;
  A *places = scratch + pitch + channels, *gradients = places + plane;
  std::fill_n(scratch, plane, A(-1));
  std::memset(scratch + plane, 0, plane * sizeof(A));
  for (int row = 0; row < pool.height; ++row) {
    const int top = row > 0 ? row - 1 : 0, bottom = row + 2 < pool.height ? row + 2 : pool.height;
    each_stretch(pool, [&](int64_t begin, int64_t size, int left, int right) {
      each<A>(size, 1, 0, [&]<class T>(int64_t i, int) {
        T most{}, place{};
        for (int y = top; y < bottom; ++y)
          for (int side = left; side <= right; ++side) {
            const T next = get_stored<T>(x + y * row_size + begin + i + side * channels);
            const T number = T{} + A((y - row + 1) * 3 + side + 1);
            const bool first = y == top && side == left;
            place = first ? number : exceeds(next, most) ? number : place;
            most = first ? next : exceeds(next, most) ? next : most;
          }
        put(places + row * pitch + begin + i, place);
        put(gradients + row * pitch + begin + i, get<T>(dy + row * row_size + begin + i) * scale);
      });
    });
  }
  for (int row = 0; row < pool.height; ++row, dx += row_size)
    each<A>(row_size, 1, 0, [&]<class T>(int64_t i, int) {
      T value = get<T>(dx + i);
#pragma GCC unroll 9
      for (int window = 0; window < 9; ++window) {  // the one whose place 8 - window this pixel is
        const int64_t at = (row + window / 3 - 1) * pitch + i + (window % 3 - 1) * channels;
        const T taken = get<T>(places + at), number = T{} + A(8 - window);
        value += taken == number ? get<T>(gradients + at) : T{};
      }
      put(dx + i, value);
    });
}

template <class A>
int64_t pool_scratch(const Pool& pool) {
  return 2 * (int64_t(pool.height) + 2) * (pool.width + 2) * pool.channels + LANES<A>;
}

template <class S, class A>
void pool_forward(const Pool& pool, const S* x, A scale, A* sum, bool add, A* scratch) {
  if (pool.stride == 1) return pool_rows_forward(pool, x, scale, sum, add, scratch);
  for (int row = 0; row < pool.out_height(); ++row)
    for (int column = 0; column < pool.out_width(); ++column, sum += pool.channels) {
      const Window window(pool, row, column);
      const A share = pool.maximum ? scale : scale / A(window.count());
      each_channel<S>(pool.channels, [&]<class T>(int channel) {
        T value{};
        for (int y = window.top; y < window.bottom; ++y)
          for (int i = window.left; i < window.right; ++i) {
            const T next = get_stored<T>(x + (int64_t(y) * pool.width + i) * pool.channels + channel);
            if (!pool.maximum) value += next;
            else if (y == window.top && i == window.left) value = next;
            else value = exceeds(next, value) ? next : value;
          }
        value = value * share;
        put(sum + channel, add ? get<T>(sum + channel) + value : value);
      });
    }
}

template <class S, class A>
void pool_backward(const Pool& pool, const S* x, const A* dy, A scale, A* dx, A* scratch) {
  if (pool.stride == 1) {
    if (pool.maximum) return maximum_rows_backward(pool, x, dy, scale, dx, scratch);
    return average_rows_backward(pool, dy, scale, dx, scratch);
  }
  for (int row = 0; row < pool.out_height(); ++row)
    for (int column = 0; column < pool.out_width(); ++column, dy += pool.channels) {
      const Window window(pool, row, column);
      const A share = scale / A(window.count());
      each_channel<S>(pool.channels, [&]<class T>(int channel) {
        const auto pixel = [&](int y, int i) { return (int64_t(y) * pool.width + i) * pool.channels + channel; };
        const T gradient = get<T>(dy + channel) * (pool.maximum ? scale : share);
        if (!pool.maximum) {
          for (int y = window.top; y < window.bottom; ++y)
            for (int i = window.left; i < window.right; ++i)
              put(dx + pixel(y, i), get<T>(dx + pixel(y, i)) + gradient);
          return;
        }
        T most = get_stored<T>(x + pixel(window.top, window.left)), place{};
        for (int y = window.top, number = 0; y < window.bottom; ++y)
          for (int i = window.left; i < window.right; ++i, ++number) {
            const T next = get_stored<T>(x + pixel(y, i));
            place = exceeds(next, most) ? T{} + A(number) : place;
            most = exceeds(next, most) ? next : most;
          }
        for (int y = window.top, number = 0; y < window.bottom; ++y)
          for (int i = window.left; i < window.right; ++i, ++number)
            put(dx + pixel(y, i), get<T>(dx + pixel(y, i)) + (place == T{} + A(number) ? gradient : T{}));
      });
    }
}

// sum (=, +=) scale * (factor * z + offset).
template <class S, class A>
void add_affine(int64_t pixels, int channels, const S* z, Load<A> load, A scale, A* sum, bool add, A* scratch) {
  Pieces<A> pieces{scratch};
  A* factor = pieces.take(repeated_size<A>(channels));
  A* offset = pieces.take(repeated_size<A>(channels));
  repeat(load.factor, channels, factor);
  repeat(load.offset, channels, offset);
  each<A>(pixels * channels, period_of<A>(channels), 0, [&]<class T>(int64_t i, int at) {
    const T value = (get_stored<T>(z + i) * get<T>(factor + at) + get<T>(offset + at)) * scale;
    put(sum + i, add ? get<T>(sum + i) + value : value);
  });
}

template <class S, class A>
void widen_all(int64_t size, const S* from, A scale, A* to, bool add) {
  each<A>(size, 1, 0, [&]<class T>(int64_t i, int) {
    const T value = get_stored<T>(from + i) * scale;
    put(to + i, add ? get<T>(to + i) + value : value);
  });
}

template <class S, class A>
void narrow_all(int64_t size, const A* from, S* to) {
  each<A>(size, 1, 0, [&]<class T>(int64_t i, int) { put_stored(to + i, get<T>(from + i)); });
}

}  // namespace enas::ENAS_LEVEL
