"""The compiled loops of :mod:`~dipfilters.engines.cpu`; imported with the first product, for numba is slow.

A row of u and a row of u + t meet in all displacements across at once. The one of u + t is stored twice in
succession, so that it can be shifted by s columns and still be read to its end:

    column  0  1  2  …  W−1 | margin                                 of u
    column  s  …  W−1 | margin | 0  1  …  s−1                        of u + t,   t_c = s and s − P

P = W + margin is the *period*, and the margin is as wide as the means' loss of columns. There, norms and
columns are zero, so that whatever the means make of their neighbours (finite numbers) counts for nothing.

A *slab* holds the entries of a few shifts, one row each, for one pair of rows. It stays in the first cache
while it goes through the stages. Then both rows go down by one, along which vertical sums run: the first
mean's from a row that comes to a row that goes, begun anew every ``RESTART`` rows. The other means, and the
Gaussian's, whose equal patches would not stand a difference, add the slabs of the last rows. What takes time
is writing, so a loop adds three or five slabs at once and writes one.

All slabs lie in one array, ``work``, and every function is told where. Numbers from which such a place is
made have no sign, or numba would look for negative ones, and not vectorise. ``_apart`` tells the compiler
that no two arrays overlap. The tests check types by wrapping each function, which numba cannot follow:
``no_type_check`` keeps them out.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

# Kinds of stages; a tail is the last activation, where only means of size 1 follow and Theta is zero before.
MEAN, ACTIVATION, TAIL = 0, 1, 2
FOLD = 32  # so many products are added in the planes' own precision before they join a float64 sum
RESTART = 32  # rows that a running sum goes on for


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


@intrinsic
@no_type_check
def _apart(typing):
    """Promise that the arrays a function takes do not overlap; numba has this option for itself alone.

    Without it, each loop begins with comparisons of all their ends, and a short row is not vectorised.
    """

    def promise(context, builder, signature, arguments):
        for argument in builder.function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), promise


_options: Any = {"nogil": True, "cache": _can_cache(), "error_model": "numpy", "fastmath": {"contract"}}
# Only ``walk`` is called from Python; without the others' wrappers the first product waits a second less.
_inner: Any = {**_options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_jit = njit(**_inner)
_place = np.uintp


@_jit
@no_type_check
def _add_products(work, at, x, u, v, sign, slab):
    """Add the products of a pair of rows, and ``sign`` times those of another, to a slab.

    ``u`` and ``v`` hold the places of two rows each, the second that of u + t without the shift.
    """
    _apart()
    shifts, pitch, width = slab
    for shift in shifts:
        near, far, another, another_far = u[0], u[1] + shift, v[0], v[1] + shift
        for i in range(width):
            work[at + i] += x[near + i] * x[far + i] + sign * (x[another + i] * x[another_far + i])
        at += pitch


@_jit
@no_type_check
def _add_differences(work, at, x, u, v, slab):
    """Add the squared differences of a pair of rows to a slab."""
    _apart()
    shifts, pitch, width = slab
    for shift in shifts:
        far = v + shift
        for i in range(width):
            d = x[u + i] - x[far + i]
            work[at + i] += d * d
        at += pitch


@_jit
@no_type_check
def _first_sums(work, at, x, r, t, size, layout, sign, fresh, slab):
    """Sums over ``size`` rows from ``r`` on and the channels: from the last row's sums, or afresh."""
    channels, rows, length = layout
    for k in range(0 if fresh else size - 1, size, 2):
        another, factor = r + k + 1, sign
        if not fresh:
            another, factor = r - 1, -sign
        elif k + 1 == size:
            another, factor = r, sign - sign
        for c in range(channels):
            a, b = (c * rows + r + k) * length, (c * rows + another) * length
            u, v = (_place(a), _place(a + t * length)), (_place(b), _place(b + t * length))
            _add_products(work, at, x, u, v, factor, slab)


@_jit
@no_type_check
def _add_two(work, out, a, b, n):
    for i in range(n):
        work[out + i] = work[a + i] + work[b + i]


@_jit
@no_type_check
def _add_three(work, out, a, b, c, n):
    for i in range(n):
        work[out + i] = (work[a + i] + work[b + i]) + work[c + i]


@_jit
@no_type_check
def _add_five(work, out, a, b, c, d, e, n):
    for i in range(n):
        work[out + i] = ((work[a + i] + work[b + i]) + (work[c + i] + work[d + i])) + work[e + i]


@_jit
@no_type_check
def _digit(size):
    """Where the sums of ``size`` begin: a binary digit of it, and the digits down to there, 1 or 5."""
    digit = _place(1)
    while digit + digit <= size:
        digit += digit
    third = digit >> _place(2)
    if third > _place(0) and size // third == _place(5):
        return third, _place(5)
    return digit, _place(1)


@_jit
@no_type_check
def _row_sums(work, out, a, one, another, size, n):
    """``out``: sums over ``size`` ≥ 2 entries of ``a`` that follow each other.

    A window of 2m entries is two of m, one of 2m + 1 has an entry besides; the digits of ``size`` say which.
    So there are about log₂ size loops, or one less where it begins with 5, and no running sum whose rounding
    would add up.
    """
    digit, m = _digit(size)
    source = a
    if m == _place(5):
        source, one, another = out if digit == _place(1) else one, another, one
        _add_five(work, source, a, a + _place(1), a + _place(2), a + _place(3), a + _place(4), n)
    while digit > _place(1):
        digit = digit >> _place(1)
        target = out if digit == _place(1) else one
        if (size // digit) & _place(1):
            _add_three(work, target, source, source + m, a + m + m, n)
            m = m + m + _place(1)
        else:
            _add_two(work, target, source, source + m, n)
            m = m + m
        source, one, another = target, another, one


@_jit
@no_type_check
def _column_sums(work, out, at, row, size, n, step):
    """``out``: sums in the same way over the last ``size`` of the slabs that come, up to number ``row``.

    From ``at`` on, each ``step`` apart, lie the slabs, number r in place r mod ``size``, and for each m that
    follows the last m + 1 sums over m of them.
    """
    digit, m = _digit(size)
    sums, kept = at, size
    if m == _place(5):
        sums, kept = at + size * step, m + _place(1)
        target = out if digit == _place(1) else sums + row % kept * step
        b, c = at + (row + size - _place(1)) % size * step, at + (row + size - _place(2)) % size * step
        d, e = at + (row + size - _place(3)) % size * step, at + (row + size - _place(4)) % size * step
        _add_five(work, target, at + row % size * step, b, c, d, e, n)
    while digit > _place(1):
        digit = digit >> _place(1)
        source, earlier = sums + row % kept * step, sums + (row + kept - m) % kept * step
        before, odd = at + (row + size - m - m) % size * step, (size // digit) & _place(1)
        m = m + m + odd
        sums, kept = sums + kept * step, m + _place(1)
        target = out if digit == _place(1) else sums + row % kept * step
        if odd:
            _add_three(work, target, source, earlier, before, n)
        else:
            _add_two(work, target, source, earlier, n)


@_jit
@no_type_check
def _scaled(work, out, a, factor, n):
    for i in range(n):
        work[out + i] = work[a + i] * factor


@_jit
@no_type_check
def _add_scaled(work, out, a, factor, n):
    for i in range(n):
        work[out + i] += work[a + i] * factor


@_jit
@no_type_check
def _times_both(work, at, norms, u, v, slab):
    _apart()
    shifts, pitch, width = slab
    for shift in shifts:
        far = v + shift
        for i in range(width):
            work[at + i] *= norms[u + i] * norms[far + i]
        at += pitch


@_jit
@no_type_check
def _activate(work, at, theta, n, q, c):
    """V and V' where norms are 1: theta times V', and cos φ, at ``at``, becomes V.

    κ₀ = 1/2 + cos φ · q(sin φ) and κ₁ = sin φ/π + cos φ · κ₀.
    """
    q0, q1, q2, q3, q4, q5, q6, q7, q8, q9 = q
    zero, one, rounding, half, over_pi, kept, relu = c
    for i in range(n):
        cosine = work[at + i]
        cosine = cosine if cosine < one else one  # of two dark patches it may be no more than rounding
        cosine = cosine if cosine > -one else -one
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
        work[theta + i] *= kept + relu * k0
        work[at + i] = kept * cosine + relu * k1


@_jit
@no_type_check
def _activate_sigma(work, at, inverses, u, v, slab, zero, one, rounding, linear, p):
    """cos φ · ``linear`` + a polynomial in sin φ, in place of sigma: any weighted sum of V and cos φ V'."""
    _apart()
    shifts, pitch, width = slab
    p0, p1, p2, p3, p4, p5, p6, p7, p8 = p
    for shift in shifts:
        far = v + shift
        for i in range(width):
            cosine = work[at + i] * inverses[u + i] * inverses[far + i]
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
            work[at + i] = linear * cosine + value
        at += pitch


@_jit
@no_type_check
def _to_power_of_two(work, at, shifted, e, least, magic, n):
    """Begin 2^−a: 2^f stays in ``work``, with −a = m + f and m whole, which goes to ``shifted``.

    Adding ``magic``, 1.5 · 2^(bits of the mantissa), rounds to whole numbers and leaves m in the low bits.
    """
    _apart()
    e0, e1, e2, e3, e4, e5, e6, e7 = e
    for i in range(n):
        y = -work[at + i]
        y = y if y > least else least
        m = y + magic
        shifted[i] = m
        f = y - (m - magic)
        p = e6 + f * e7
        p = e5 + f * p
        p = e4 + f * p
        p = e3 + f * p
        p = e2 + f * p
        p = e1 + f * p
        work[at + i] = e0 + f * p


@_jit
@no_type_check
def _times_power(work, at, bits, shifted, one_bits, mantissa, n):
    """Times the number 2^m of the m in the low bits of ``shifted``, whose bits are ``bits``."""
    for i in range(n):
        bits[i] = (bits[i] << mantissa) + one_bits
    for i in range(n):
        work[at + i] *= shifted[i]


@_jit
@no_type_check
def _weigh(work, at, across, down, period, slab):
    """Times f(t); a shift stands for t_c = shift, and from ``period`` − shift on for shift − period."""
    shifts, pitch, width = slab
    for shift in shifts:
        first = min(width, period - shift)
        for i in range(first):
            work[at + i] *= down * across[shift]
        for i in range(first, width):
            work[at + i] *= down * across[period - shift]
        at += pitch


@_jit
@no_type_check
def _multiply(near, far, c, work, at, v, a, b, period, slab):
    """Add the products of a slab with column c, at ``a`` and ``b``, to the sums of both of its rows."""
    _apart()
    shifts, pitch, width = slab
    u, beyond = c * period, c * (period + period)
    for shift in shifts:
        w, other = beyond + shift, b + shift
        for i in range(width):
            near[u + i] += work[at + i] * v[other + i]
            far[w + i] += work[at + i] * v[a + i]
        at += pitch


@_jit
@no_type_check
def _multiply_two(near, far, c, work, at, v, a, b, plane, period, slab):
    """The same with columns c and c + 1: one reading of the slab for both."""
    _apart()
    shifts, pitch, width = slab
    u, beyond = c * period, c * (period + period)
    u2, beyond2, a2 = u + period, beyond + period + period, a + plane
    for shift in shifts:
        w, other = beyond + shift, b + shift
        w2, other2 = beyond2 + shift, other + plane
        for i in range(width):
            k = work[at + i]
            near[u + i] += k * v[other + i]
            far[w + i] += k * v[a + i]
            near[u2 + i] += k * v[other2 + i]
            far[w2 + i] += k * v[a2 + i]
        at += pitch


@_jit
@no_type_check
def _fold(out, at, sums, u, width):
    """Add sums to a row of the result, and empty them."""
    _apart()
    for i in range(width):
        out[at + i] += sums[u + i]


@_jit
@no_type_check
def _scatter(dense, work, at, row, down, period, slab):
    """Write the entries of a slab to both of their places in the matrix."""
    shifts, pitch, width = slab
    near, far = row * width, (row + down) * width
    for shift in shifts:
        for i in range(width):
            c = i + shift
            if c >= period:
                if down == 0:  # both t_c and −t_c are walked over, and one will do
                    continue
                c -= period
            if c < width:
                dense[near + i, far + c] = work[at + i]
                dense[far + c, near + i] = work[at + i]
        at += pitch


@njit(**_options)
@no_type_check
def walk(
    out,
    dense,
    padded,
    columns,
    inverses,
    norms,
    shape,
    shifts,
    part,
    across,
    down,
    stages,
    numbers,
    read,
    tuples,
    exponent,
    entries,
):
    """Add to ``out`` (m, H, W), or write to ``dense`` if it has entries, K off its diagonal.

    Args:
        out: Flat, in float64.
        padded, columns: (C, h, 2P) and (m, H, 2P), flat, in the precision of the slabs.
        inverses, norms: 1/‖p‖ (0 where ‖p‖ is) and ‖p‖ for each activation, (activations, h, 2P), flat.
        shape: C, m, h, H, W and P.
        shifts: The shifts to walk over, of 0 … P − 1.
        part: Of all t_r only every second one, say, from 1 on: (1, 2).
        across, down: The factor of f(t) for each distance across and each t_r; ``across`` is empty if f is 1.
        stages: (stages, 3) whole numbers: kind; size; 1 if Theta is not zero before the stage.
        numbers: (stages, 13) in the precision of the slabs: for a mean, which is a sum here, its part; for
            an activation 2α/(1+α²), (1−α)²/(1+α²), the weight of S if Theta is not zero; if it is, what
            is made of S instead: the factor of cos φ, and the coefficients of a polynomial in sin φ.
        read: 0 for S, 1 for Theta, 2 for the Gaussian.
        tuples: The coefficients of q and of 2^f, and constants in the precision of the slabs.
        exponent: The bits of 1, and those of a mantissa, as whole numbers of the entries' size.
        entries: Of a slab, about.
    """
    q, e, constants = tuples
    zero, one, rounding, half, over_pi, least, magic = constants
    channels, count, tall, height, few, period = shape
    length, wide = 2 * period, _place(period)
    first = stages[0, 1] if len(stages) > 0 and stages[0, 0] == MEAN and read != 2 else 1
    pitch = (period + 7) // 8 * 8
    # The shifts go in equal parts, none larger than FOLD, and each part in equal slabs.
    parts = (len(shifts) + FOLD - 1) // FOLD
    fold = (len(shifts) + parts - 1) // parts
    slabs = max(1, (fold * pitch + entries // 2) // max(1, entries))
    some = (fold + slabs - 1) // slabs
    step = _place(some * pitch)
    # From row to row a slab keeps the first mean's sums, then what _column_sums keeps for each other mean.
    later, largest, kept = 0, first, 1
    for k in range(0 if first == 1 else 1, len(stages)):
        if stages[k, 0] == MEAN:
            later += stages[k, 1] - 1
            largest = max(largest, stages[k, 1])
            kept += 3 * stages[k, 1] * (1 + stages[k, 2])
    whole = some * pitch + 2 * largest  # a window at a slab's end reads beyond it
    work = np.zeros(4 * whole + slabs * kept * some * pitch + 2 * largest, padded.dtype)
    sigma, theta, states = _place(0), _place(whole), 4 * whole
    one_sum, another = _place(2 * whole), _place(3 * whole)
    near, far = np.zeros(count * period, padded.dtype), np.zeros(count * length, padded.dtype)
    bits = np.zeros(some * pitch if read == 2 else 0, exponent.dtype)
    shifted = bits.view(padded.dtype)
    layout, plane = (channels, tall, length), _place(height * length)

    for begin in range(0, len(shifts), fold):
        end = min(begin + fold, len(shifts))
        for t in range(part[0], height, part[1]):
            if down[t] == 0:
                continue
            for r in range(height - t + later):
                for s in range(begin, end, some):
                    shift = shifts[s : min(s + some, end)]
                    n, slab = _place(len(shift) * pitch), (shift, _place(pitch), wide)
                    state = _place(states + (s - begin) // some * kept * some * pitch)
                    sums = sigma if first == 1 else state
                    fresh = r % RESTART == 0 or first == 1
                    if fresh:
                        work[sums : sums + n] = 0
                    if read == 2:
                        for c in range(channels):
                            u = _place((c * tall + r) * length)
                            _add_differences(work, sums, padded, u, u + _place(t * length), slab)
                    else:
                        _first_sums(work, sums, padded, r, t, first, layout, one, fresh, slab)
                    if first > 1:
                        _row_sums(work, sigma, sums, one_sum, another, _place(first), n)
                    state += step
                    row, width, activation, weighed = r, period, 0, False
                    for k in range(len(stages)):
                        kind, side, live = stages[k, 0], stages[k, 1], stages[k, 2] == 1
                        if kind == MEAN:
                            width -= side - 1
                            if side > 1 and (k > 0 or first == 1):
                                size, number = _place(side), _place(row)
                                row -= side - 1
                                come = state + number % size * step
                                _row_sums(work, come, sigma, one_sum, another, size, n)
                                _column_sums(work, sigma, state, number, size, n, step)
                                state += _place(3) * size * step
                                if live:
                                    come = state + number % size * step
                                    _row_sums(work, come, theta, one_sum, another, size, n)
                                    _column_sums(work, theta, state, number, size, n, step)
                                    state += _place(3) * size * step
                                if row < 0:
                                    break
                            if numbers[k, 0] != 0:
                                if live:
                                    _add_scaled(work, theta, sigma, numbers[k, 0], n)
                                else:
                                    _scaled(work, theta, sigma, numbers[k, 0], n)
                            continue
                        slab = (shift, _place(pitch), _place(width))
                        u = _place((activation * tall + row) * length)
                        v = u + _place(t * length)
                        if live:
                            _times_both(work, sigma, inverses, u, v, slab)
                            c = (zero, one, rounding, half, over_pi, numbers[k, 0], numbers[k, 1])
                            _activate(work, sigma, theta, n, q, c)
                        else:
                            p = numbers[k, 4:]
                            p = (p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8])
                            linear = numbers[k, 3]
                            _activate_sigma(work, sigma, inverses, u, v, slab, zero, one, rounding, linear, p)
                            weighed = kind == TAIL
                        if kind == ACTIVATION or live or dense.size > 0:
                            _times_both(work, sigma, norms, u, v, slab)
                        if live and kind == TAIL:
                            _add_scaled(work, theta, sigma, numbers[k, 2], n)
                        activation += 1
                    if row < 0:
                        continue
                    kernel = theta if read == 1 and not weighed else sigma
                    slab = (shift, _place(pitch), _place(few))
                    if read == 2:
                        _to_power_of_two(work, kernel, shifted, e, least, magic, n)
                        _times_power(work, kernel, bits, shifted, exponent[0], exponent[1], n)
                    if len(across) > 0:
                        _weigh(work, kernel, across, down[t], wide, slab)
                    if dense.size > 0:
                        _scatter(dense, work, kernel, _place(row), _place(t), wide, slab)
                        continue
                    if t == 0 and shift[0] == 0:  # the diagonal
                        work[kernel : kernel + wide] = 0
                    a, b = _place(row * length), _place((row + t) * length)
                    for j in range(0, count - 1, 2):
                        c = _place(j)
                        d = c * plane
                        _multiply_two(near, far, c, work, kernel, columns, a + d, b + d, plane, wide, slab)
                    if count % 2 == 1:
                        c = _place(count - 1)
                        d = c * plane
                        _multiply(near, far, c, work, kernel, columns, a + d, b + d, wide, slab)
                row = r - later
                if row < 0 or dense.size > 0:
                    continue
                for j in range(count):
                    u, v = _place((j * height + row) * few), _place((j * height + row + t) * few)
                    _fold(out, u, near, _place(j * period), _place(few))
                    if t > 0:  # each of t_c and −t_c is walked over
                        _fold(out, v, far, _place(j * length), _place(few))
                        _fold(out, v, far, _place(j * length + period), _place(few))
                near[:] = 0
                far[:] = 0
