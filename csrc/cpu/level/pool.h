// 3x3 pools of one image, and the sums that make a node.
#pragma once
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

// body.operator()<T>(channel) for the channels of one pixel, in vectors and then one by one.
template <class A, class F>
inline void each_channel(int channels, F body) {
  int channel = 0;
  for (; channel + LANES<A> <= channels; channel += LANES<A>) body.template operator()<Vector<A>>(channel);
  for (; channel < channels; ++channel) body.template operator()<A>(channel);
}

template <class S, class A>
void pool_forward(const Pool& pool, const S* x, A scale, A* sum, bool add) {
  for (int row = 0; row < pool.out_height(); ++row)
    for (int column = 0; column < pool.out_width(); ++column, sum += pool.channels) {
      const Window window(pool, row, column);
      const A share = scale / A(window.count());
      each_channel<A>(pool.channels, [&]<class T>(int channel) {
        const auto at = [&](int y, int i) {
          return get_stored<T>(x + (int64_t(y) * pool.width + i) * pool.channels + channel);
        };
        T value = at(window.top, window.left);
        for (int y = window.top; y < window.bottom; ++y)
          for (int i = window.left; i < window.right; ++i) {
            if (y == window.top && i == window.left) continue;
            const T next = at(y, i);
            // A NaN wins, as in torch.
            if (pool.maximum) value = (next > value) | (next != next) ? next : value;
            else value += next;
          }
        value = value * (pool.maximum ? scale : share);
        put(sum + channel, add ? get<T>(sum + channel) + value : value);
      });
    }
}

template <class S, class A>
void pool_backward(const Pool& pool, const S* x, const A* dy, A scale, A* dx) {
  for (int row = 0; row < pool.out_height(); ++row)
    for (int column = 0; column < pool.out_width(); ++column, dy += pool.channels) {
      const Window window(pool, row, column);
      const A share = scale / A(window.count());
      each_channel<A>(pool.channels, [&]<class T>(int channel) {
        const auto place = [&](int y, int i) { return (int64_t(y) * pool.width + i) * pool.channels + channel; };
        const T gradient = get<T>(dy + channel) * (pool.maximum ? scale : share);
        if (!pool.maximum) {
          for (int y = window.top; y < window.bottom; ++y)
            for (int i = window.left; i < window.right; ++i)
              put(dx + place(y, i), get<T>(dx + place(y, i)) + gradient);
          return;
        }
        T most = get_stored<T>(x + place(window.top, window.left));
        for (int y = window.top; y < window.bottom; ++y)
          for (int i = window.left; i < window.right; ++i) {
            const T next = get_stored<T>(x + place(y, i));
            most = (next > most) | (next != next) ? next : most;
          }
        T left = gradient;  // the first of equal maxima takes all of it, as in torch
        for (int y = window.top; y < window.bottom; ++y)
          for (int i = window.left; i < window.right; ++i) {
            const T here = get_stored<T>(x + place(y, i));
            const T taken = (here == most) | (here != here) ? left : T{};
            put(dx + place(y, i), get<T>(dx + place(y, i)) + taken);
            left = left - taken;
          }
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
