"""The compiled loops of :mod:`~dipfilters.engines.cpu`; imported with the first product, for numba is slow.

Two displacements t = (t_r, t_c) and (t_r, t_c − W) share one plane whose rows are all of one length: their
overlaps have W − t_c and t_c columns. Between them lies a gap as wide as the means' loss of columns. So a
stage is one long loop over a strip of rows, whose entries are numbers of one type side by side:

    column 0 … of u           for t_c      | gap | column W − t_c … of u      for t_c − W
    column t_c … of u + t                  | gap | column 0 … of u + t

The *near* layout of a picture holds its values at u, the *far* one those at u + t less the rows t_r, which
are an offset of whole rows. In the gap, norms and columns are zero, so that whatever the means make of
their neighbours there (finite numbers) counts for nothing.

A loop over slices from zero is one that numba vectorises; an index that is a sum may not be. No loop has so
many arrays that the check for overlaps, which comes before it, is given up (eight comparisons). The tests
check types by wrapping each function, which numba cannot follow: ``no_type_check`` keeps them out.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
from numba import njit

# Kinds of stages; a tail is the last activation, where only means of size 1 follow.
MEAN, ACTIVATION, TAIL = 0, 1, 2
FOLD = 32  # so many products are added in the planes' own precision before they join a float64 sum
PIECE = 2048  # entries whose sums along a row are formed together


@no_type_check
def _nothing():
    pass


def _can_cache() -> bool:
    """Whether numba finds a folder that it may write compiled code to."""
    try:
        njit(cache=True)(_nothing)
    except RuntimeError:
        return False
    return True


_options: Any = {"nogil": True, "cache": _can_cache(), "error_model": "numpy", "fastmath": {"contract"}}
# Only ``walk`` is called from Python; without the others' wrappers the first product waits a second less.
_inner: Any = {**_options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_jit = njit(**_inner)


@_jit
@no_type_check
def _pairs(out, near, far, first):
    if first:
        for i in range(len(out)):
            out[i] = near[i] * far[i]
    else:
        for i in range(len(out)):
            out[i] += near[i] * far[i]


@_jit
@no_type_check
def _squared_differences(out, near, far, first):
    if first:
        for i in range(len(out)):
            d = near[i] - far[i]
            out[i] = d * d
    else:
        for i in range(len(out)):
            d = near[i] - far[i]
            out[i] += d * d


@_jit
@no_type_check
def _sum_of_two(out, a, b, scale):
    for i in range(len(out)):
        out[i] = (a[i] + b[i]) * scale


@_jit
@no_type_check
def _sum_of_three(out, a, b, c, scale):
    for i in range(len(out)):
        out[i] = (a[i] + b[i] + c[i]) * scale


@_jit
@no_type_check
def _sum_of_four(out, a, b, c, d, scale):
    for i in range(len(out)):
        out[i] = ((a[i] + b[i]) + (c[i] + d[i])) * scale


@_jit
@no_type_check
def _sum_of_five(out, a, b, c, d, e, scale):
    for i in range(len(out)):
        out[i] = ((a[i] + b[i]) + (c[i] + d[i]) + e[i]) * scale


@_jit
@no_type_check
def _window_sum(out, a, one_sum, another, n, size, step, one, scale):
    """``out``: n sums over ``size`` ≥ 2 entries of ``a`` that lie ``step`` apart, times ``scale``.

    A window of 2m entries is two of m, one of 2m + 1 has an entry besides. The digits of ``size`` say which;
    the first two or three of them are one loop. So there are about log₂ size − 1 loops, and no running sum
    whose rounding would add up.
    """
    digit = 1
    while size // digit > 5:
        digit *= 2
    m = size // digit
    src, free = one_sum, another
    if digit == 1:
        src, factor = out, scale
    else:
        factor = one
    count = n + (size - m) * step
    dst, b, c = src[:count], a[step : step + count], a[2 * step : 2 * step + count]
    if m == 2:
        _sum_of_two(dst, a, b, factor)
    elif m == 3:
        _sum_of_three(dst, a, b, c, factor)
    elif m == 4:
        _sum_of_four(dst, a, b, c, a[3 * step : 3 * step + count], factor)
    else:
        _sum_of_five(dst, a, b, c, a[3 * step : 3 * step + count], a[4 * step :], factor)
    while digit > 1:
        digit //= 2
        odd = (size // digit) % 2
        if digit == 1:
            free, factor = out, scale
        count = n + (size - 2 * m - odd) * step
        b, c = src[m * step : m * step + count], a[2 * m * step :]
        if odd == 1:
            _sum_of_three(free[:count], src, b, c, factor)
        else:
            _sum_of_two(free[:count], src, b, factor)
        src, free, m = free, src, 2 * m + odd


@_jit
@no_type_check
def _box_mean(a, work, pieces, rows, length, size, one, scale):
    """A of a strip of ``rows``, in place.

    Along the rows in short pieces, whose sums stay in the first cache.
    """
    if size == 1:
        return
    n, sums = (rows - size + 1) * length, work[2]
    beside = n // n  # 1, but no literal, for which numba would compile the sums once more
    _window_sum(sums, a, work[0], work[1], n, size, length, one, one)
    n -= size - 1
    for start in range(0, n, PIECE):
        count = min(PIECE, n - start)
        _window_sum(a[start:], sums[start:], pieces[0], pieces[1], count, size, beside, one, scale)
    a[n : n + size - 1] = 0  # no window begins there: what an earlier strip left is none of this one's


@_jit
@no_type_check
def _scaled(out, a, factor):
    for i in range(len(out)):
        out[i] = a[i] * factor


@_jit
@no_type_check
def _add_scaled(out, a, factor):
    for i in range(len(out)):
        out[i] += a[i] * factor


@_jit
@no_type_check
def _times_both(out, near, far):
    for i in range(len(out)):
        out[i] *= near[i] * far[i]


@_jit
@no_type_check
def _activate(sigma, theta, near, far, q, c):
    """V and V' where norms are 1: theta times V', and sigma becomes V.

    κ₀ = 1/2 + cos φ · q(sin φ) and κ₁ = sin φ/π + cos φ · κ₀.
    """
    q0, q1, q2, q3, q4, q5, q6, q7, q8, q9 = q
    zero, one, rounding, half, over_pi, kept, relu = c
    for i in range(len(sigma)):
        cosine = sigma[i] * near[i] * far[i]
        squared = one - cosine * cosine
        squared = squared if squared > rounding else zero
        s = math.sqrt(squared)
        p = q8 + s * q9
        p = q7 + s * p
        p = q6 + s * p
        p = q5 + s * p
        p = q4 + s * p
        p = q3 + s * p
        p = q2 + s * p
        p = q1 + s * p
        p = q0 + s * p
        k0 = half + cosine * p
        k1 = s * over_pi + cosine * k0
        theta[i] *= kept + relu * k0
        sigma[i] = kept * cosine + relu * k1


@_jit
@no_type_check
def _activate_sigma(sigma, near, far, zero, one, rounding, linear, p):
    """cos φ · ``linear`` + a polynomial in sin φ, in place of sigma: any weighted sum of V and cos φ V'."""
    p0, p1, p2, p3, p4, p5, p6, p7, p8 = p
    for i in range(len(sigma)):
        cosine = sigma[i] * near[i] * far[i]
        squared = one - cosine * cosine
        squared = squared if squared > rounding else zero
        s = math.sqrt(squared)
        value = p7 + s * p8
        value = p6 + s * value
        value = p5 + s * value
        value = p4 + s * value
        value = p3 + s * value
        value = p2 + s * value
        value = p1 + s * value
        value = p0 + s * value
        sigma[i] = linear * cosine + value


@_jit
@no_type_check
def _to_power_of_two(a, shifted, e, least, magic):
    """Begin 2^−a for a ≥ 0: 2^f stays in ``a``, with −a = n + f and n whole, which goes to ``shifted``.

    Adding ``magic``, 1.5 · 2^(bits of the mantissa), rounds to whole numbers and leaves n in the low bits.
    """
    e0, e1, e2, e3, e4, e5, e6, e7 = e
    for i in range(len(a)):
        y = -a[i]
        y = y if y > least else least
        n = y + magic
        shifted[i] = n
        f = y - (n - magic)
        p = e6 + f * e7
        p = e5 + f * p
        p = e4 + f * p
        p = e3 + f * p
        p = e2 + f * p
        p = e1 + f * p
        a[i] = e0 + f * p


@_jit
@no_type_check
def _to_exponent(bits, one_bits, mantissa):
    """Make the number 2^n of the n in its low bits."""
    for i in range(len(bits)):
        bits[i] = (bits[i] << mantissa) + one_bits


@_jit
@no_type_check
def _times(out, a):
    for i in range(len(out)):
        out[i] *= a[i]


@_jit
@no_type_check
def _add_products(out, kernel, v):
    for i in range(len(out)):
        out[i] += kernel[i] * v[i]


@_jit
@no_type_check
def _add_both_products(near_out, far_out, kernel, near_v, far_v):
    for i in range(len(near_out)):
        near_out[i] += kernel[i] * far_v[i]
        far_out[i] += kernel[i] * near_v[i]


@_jit
@no_type_check
def _lay(near, far, plane, shift, start, right, first, second):
    """Fill both layouts of a plane with its two parts, the one from column ``start`` on ``right`` wide."""
    rows, columns = plane.shape
    left, skipped = columns - shift, columns - right
    length = len(near) // rows
    near[:] = 0
    far[:] = 0
    for r in range(rows):
        values = plane[r]
        _scaled(near[r * length : r * length + left], values[:left], first)
        _scaled(far[r * length : r * length + left], values[shift:], first)
        begin = r * length + start
        _scaled(near[begin : begin + right], values[skipped:], second)
        _scaled(far[begin : begin + right], values[:right], second)


@_jit
@no_type_check
def _gather(out, near, far, top, bottom, below, shift, start, length):
    """Add the near layout's rows from ``top`` to ``bottom`` and the far one's to ``below``; empty them."""
    left = out.shape[1] - shift
    for r in range(top, below):
        values = out[r]
        begin = r * length
        between = begin + start
        if r < bottom:
            _add(values[:left], near[begin : begin + left])
            _add(values[left:], near[between : between + shift])
        _add(values[shift:], far[begin : begin + left])
        _add(values[:shift], far[between : between + shift])
    near[top * length : bottom * length] = 0
    far[top * length : below * length] = 0


@_jit
@no_type_check
def _add(out, a):
    for i in range(len(out)):
        out[i] += a[i]


@_jit
@no_type_check
def _scatter(dense, kernel, top, rows, down, shift, start, width, length, first, second):
    """Write a strip of a plane of K, of ``rows`` from row ``top`` on, to both of its places in the matrix."""
    for r in range(rows):
        near, far = (top + r) * width, (top + r + down) * width
        values = kernel[r * length : (r + 1) * length]
        if first != 0:
            for c in range(width - shift):
                dense[near + c, far + shift + c] = values[c] * first
                dense[far + shift + c, near + c] = values[c] * first
        if second != 0:
            for c in range(shift):
                dense[near + width - shift + c, far + c] = values[start + c] * second
                dense[far + c, near + width - shift + c] = values[start + c] * second


@njit(**_options)
@no_type_check
def walk(
    out,
    dense,
    padded,
    columns,
    inverses,
    norms,
    shifts,
    across,
    down,
    stages,
    numbers,
    read,
    tuples,
    exponent,
    strip,
):
    """Add to ``out`` (m, H, W), or write to ``dense`` if it has entries, K off its diagonal.

    Args:
        padded, columns: (C, h, w) and (m, H, W), in the precision of the planes.
        inverses, norms: 1/‖p‖ (0 where ‖p‖ is) and ‖p‖ for each activation, (activations, h, w), their
            upper left parts.
        shifts: The t_c ≥ 0 to walk over, each together with t_c − W.
        across, down: The factor of f(t) for each t_c and t_r.
        stages: (stages, 3) whole numbers: kind; size; 1 if Theta is not zero before the stage.
        numbers: (stages, 13) in the precision of the planes: for a mean 1/size² and its part; for an
            activation 2α/(1+α²), (1−α)²/(1+α²), the weight of S if Theta is not zero (a tail's
            only); if it is, what is made of S instead: the factor of cos φ, and the coefficients of a
            polynomial in sin φ.
        read: 0 for S, 1 for Theta, 2 for the Gaussian.
        tuples: The coefficients of q and of 2^f, and constants in the precision of the planes.
        exponent: The bits of 1, and those of a mantissa, as whole numbers of the planes' size.
        strip: How many rows of the result are taken through the stages at a time.
    """
    q, e, constants = tuples
    zero, one, rounding, half, over_pi, least, magic = constants
    channels, tall, wide = padded.shape
    count, height, width = columns.shape
    activations, gap = len(inverses), wide - width
    length = width + 2 * gap
    n, size = tall * length, (min(strip, height) + gap) * length
    like = padded[0, 0, :1]
    near_x, far_x = np.empty((channels, n), like.dtype), np.empty((channels, n), like.dtype)
    near_inverse, far_inverse = np.empty((activations, n), like.dtype), np.empty((activations, n), like.dtype)
    near_norm, far_norm = np.empty((activations, n), like.dtype), np.empty((activations, n), like.dtype)
    near_v, far_v = np.empty((count, n), like.dtype), np.empty((count, n), like.dtype)
    near_out, far_out = (
        np.zeros((count, height * length), like.dtype),
        np.zeros((count, height * length), like.dtype),
    )
    sigma, theta = np.zeros(size, like.dtype), np.zeros(size, like.dtype)
    work, pieces = np.zeros((3, size), like.dtype), np.zeros((2, PIECE + gap), like.dtype)
    bits = np.zeros(size if read == 2 else 0, exponent.dtype)
    shifted = bits.view(like.dtype)

    for shift in shifts:
        start = width + gap - shift
        first, second = across[shift], across[width - shift]
        for c in range(channels):
            _lay(near_x[c], far_x[c], padded[c, :tall, :wide], shift, start, shift + gap, one, one)
        lost, activation = 0, 0
        for k in range(len(stages)):
            if stages[k, 0] == MEAN:
                lost += stages[k, 1] - 1
            else:
                h, w, right = tall - lost, wide - lost, shift + gap - lost
                m = h * length
                _lay(
                    near_inverse[activation, :m],
                    far_inverse[activation, :m],
                    inverses[activation, :h, :w],
                    shift,
                    start,
                    right,
                    one,
                    one,
                )
                if stages[k, 0] == ACTIVATION or dense.size > 0:
                    _lay(
                        near_norm[activation, :m],
                        far_norm[activation, :m],
                        norms[activation, :h, :w],
                        shift,
                        start,
                        right,
                        one,
                        one,
                    )
                activation += 1
        for j in range(count):
            _lay(
                near_v[j, : height * length],
                far_v[j, : height * length],
                columns[j, :height, :width],
                shift,
                start,
                shift,
                first,
                second,
            )

        # The near strip stays in the cache while t grows, and the far one moves by a row at a time.
        for top in range(0, height, strip):
            bottom, waiting = min(top + strip, height), 0
            for t in range(height - top):
                if down[t] == 0 or (shift == 0 and t == 0):
                    continue
                rows = min(strip, height - t - top) + gap
                m = rows * length
                a, b = top * length, (top + t) * length
                for c in range(channels):
                    near, far = near_x[c, a : a + m], far_x[c, b : b + m]
                    if read == 2:
                        _squared_differences(sigma[:m], near, far, c == 0)
                    else:
                        _pairs(sigma[:m], near, far, c == 0)
                activation, weighed = 0, False
                for k in range(len(stages)):
                    kind, side, live = stages[k, 0], stages[k, 1], stages[k, 2] == 1
                    if kind == MEAN:
                        _box_mean(sigma, work, pieces, rows, length, side, one, numbers[k, 0])
                        if live:
                            _box_mean(theta, work, pieces, rows, length, side, one, numbers[k, 0])
                        rows -= side - 1
                        m = rows * length
                        if numbers[k, 1] != 0:
                            if live:
                                _add_scaled(theta[:m], sigma[:m], numbers[k, 1])
                            else:
                                _scaled(theta[:m], sigma[:m], numbers[k, 1])
                        continue
                    near, far = near_inverse[activation, a : a + m], far_inverse[activation, b : b + m]
                    if live:
                        if kind == TAIL:
                            _times_both(theta[:m], near, far)
                        kept, relu = numbers[k, 0], numbers[k, 1]
                        c = (zero, one, rounding, half, over_pi, kept, relu)
                        _activate(sigma[:m], theta[:m], near, far, q, c)
                        if kind == TAIL:
                            _add_scaled(theta[:m], sigma[:m], numbers[k, 2])
                    else:
                        p = numbers[k, 4:]
                        coefficients = (p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8])
                        _activate_sigma(
                            sigma[:m], near, far, zero, one, rounding, numbers[k, 3], coefficients
                        )
                        weighed = kind == TAIL
                    if kind == ACTIVATION or dense.size > 0:
                        near, far = near_norm[activation, a : a + m], far_norm[activation, b : b + m]
                        _times_both(sigma[:m], near, far)
                        if kind == TAIL and live:
                            _times_both(theta[:m], near, far)
                    activation += 1
                kernel = theta if read == 1 and not weighed else sigma
                if read == 2:
                    _to_power_of_two(sigma[:m], shifted, e, least, magic)
                    _to_exponent(bits[:m], exponent[0], exponent[1])
                    _times(sigma[:m], shifted)
                if dense.size > 0:
                    # At t = 0 the displacements t_c and −t_c are both walked over, and one will do.
                    _scatter(
                        dense,
                        kernel,
                        top,
                        rows,
                        t,
                        shift,
                        start,
                        width,
                        length,
                        down[t] * first,
                        down[t] * second if t > 0 else zero,
                    )
                    continue
                if down[t] != 1:
                    _scaled(kernel[:m], kernel[:m], down[t])
                for j in range(count):
                    near, far = near_out[j, a : a + m], far_v[j, b : b + m]
                    if t == 0:  # each of t_c and −t_c is walked over
                        _add_products(near, kernel, far)
                    else:
                        _add_both_products(near, far_out[j, b : b + m], kernel, near_v[j, a : a + m], far)
                waiting += 1
                if waiting == FOLD:
                    waiting, below = 0, min(bottom + t, height)
                    for j in range(count):
                        _gather(out[j], near_out[j], far_out[j], top, bottom, below, shift, start, length)
            if waiting > 0:
                for j in range(count):
                    _gather(out[j], near_out[j], far_out[j], top, bottom, height, shift, start, length)
