"""Numba kernels of CHGNet's message layers.

A row is a bond or an angle: two messages, one to either end. Features of messages are
(n_rows, 2, width); those of rows, which both messages share, have 1 in place of 2. `ends`
(2, n_rows) are the two ends of the rows: message m goes from the other one to ``ends[m]``.
A kernel works on one block of rows, and may be given longer arrays to write to.

numba keeps compiled kernels beside this file, or where that is read-only under the user's
cache directory (``NUMBA_CACHE_DIR`` overrides both). If nothing is writable, every process
compiles them anew, which takes several seconds. All that a kernel calls is part of it, so
it is the same machine code whether compiled just now or loaded, and stands in this file,
the only one whose changes numba notices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit

__all__ = [
    "gate_add",
    "gate_add_back",
    "gate_sum",
    "gate_sum_back",
    "mix",
    "mix_silu",
    "scatter",
]

_f = np.float32
_Array = np.ndarray
# numpy's division by zero (no exception) is what lets loops be vectorised
_njit = partial(njit, nogil=True, error_model="numpy")
# unless inlined, a fresh and a loaded kernel may call differently optimised copies
_inlined = partial(_njit, forceinline=True)


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba; keep the result on disk where there is a place for it."""
    try:
        return _njit(fastmath=True, cache=True)(function)
    except RuntimeError:  # nothing is writable
        return _njit(fastmath=True)(function)


# all of `fastmath` but reassociation, which would undo the split of the argument
@_inlined(fastmath={"nnan", "ninf", "nsz", "arcp", "contract"})
def _sigmoid(x: Any) -> Any:
    """Logistic function to float32 precision, in a form that LLVM vectorises."""
    x = min(max(x, _f(-87.0)), _f(87.0))
    t = x * _f(-1.4426950408889634)
    n = np.int32(t + (_f(0.5) if t > _f(0.0) else _f(-0.5)))
    r = (-x - _f(n) * _f(0.693359375)) + _f(n) * _f(2.12194440e-4)
    p = _f(1.9875691500e-4)
    p = p * r + _f(1.3981999507e-3)
    p = p * r + _f(8.3334519073e-3)
    p = p * r + _f(4.1665795894e-2)
    p = p * r + _f(1.6666665459e-1)
    p = p * r + _f(5.0000001201e-1)
    p = p * r * r + r + _f(1.0)
    power = np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)  # 2**n
    return _f(1.0) / (_f(1.0) + p * power)


@_inlined(fastmath=True)
def _inverse_deviations(x: _Array, shift: _Array, eps: Any) -> tuple[Any, Any]:
    """Return what the layer norms of the core and of the gate multiply by."""
    core, gate = _f(0.0), _f(0.0)
    for k in range(64):
        core += (x[k] + shift[k]) ** 2
        gate += (x[64 + k] + shift[64 + k]) ** 2
    core = _f(1.0) / np.sqrt(core / _f(64.0) + eps)
    return core, _f(1.0) / np.sqrt(gate / _f(64.0) + eps)


@_inlined(fastmath=True)
def _norm_back(x: _Array, shift: _Array, rc: Any, rg: Any, grad: _Array) -> None:
    """Turn the gradient by normalised values into that by `x`, up to its mean.

    The mean does not matter: the weights that come next have none.
    """
    pc, pg = _f(0.0), _f(0.0)
    for k in range(64):
        pc += grad[k] * (x[k] + shift[k])
        pg += grad[64 + k] * (x[64 + k] + shift[64 + k])
    pc *= rc * rc / _f(64.0)
    pg *= rg * rg / _f(64.0)
    for k in range(64):
        grad[k] = rc * (grad[k] - (x[k] + shift[k]) * pc)
        grad[64 + k] = rg * (grad[64 + k] - (x[64 + k] + shift[64 + k]) * pg)


@_kernel
def mix(first: _Array, second: _Array, own: _Array, ends: _Array, mixed: _Array) -> None:
    """Gather and add what the first linear layer made of the ends and of the row."""
    for i in range(ends.shape[1]):
        for m in range(2):
            a, b, q = ends[m, i], ends[1 - m, i], m % own.shape[1]
            for k in range(128):
                mixed[i, m, k] = first[a, k] + second[b, k] + own[i, q, k]


@_kernel
def mix_silu(
    first: _Array, second: _Array, own: _Array, ends: _Array, hidden: _Array, slope: _Array
) -> None:
    """Do the same and apply SiLU; also return its derivative."""
    for i in range(ends.shape[1]):
        for m in range(2):
            a, b, q = ends[m, i], ends[1 - m, i], m % own.shape[1]
            for k in range(128):
                x = first[a, k] + second[b, k] + own[i, q, k]
                s = _sigmoid(x)
                hidden[i, m, k] = x * s
                slope[i, m, k] = s * (_f(1.0) + x * (_f(1.0) - s))


@_kernel
def scatter(
    grad: _Array, ends: _Array, grad_first: _Array, grad_second: _Array, grad_own: _Array
) -> None:
    """Pull a gradient back through `mix`, adding to what is there."""
    for i in range(ends.shape[1]):
        for m in range(2):
            a, b, q = ends[m, i], ends[1 - m, i], m % grad_own.shape[1]
            for k in range(128):
                grad_first[a, k] += grad[i, m, k]
                grad_second[b, k] += grad[i, m, k]
                grad_own[i, q, k] += grad[i, m, k]


@_kernel
def gate_sum(x: _Array, norm: Any, weight: _Array, ends: _Array, out: _Array) -> None:
    """Normalise, gate and weigh messages, and sum them at the end they go to."""
    shift, scale, offset, eps = norm
    for i in range(ends.shape[1]):
        for m in range(2):
            a, v = ends[m, i], x[i, m]
            rc, rg = _inverse_deviations(v, shift, eps)
            for k in range(64):
                c = (v[k] + shift[k]) * rc * scale[k] + offset[k]
                g = (v[64 + k] + shift[64 + k]) * rg * scale[64 + k] + offset[64 + k]
                out[a, k] += c * _sigmoid(c) * _sigmoid(g) * weight[i, k]


@_kernel
def gate_sum_back(
    x: _Array,
    norm: Any,
    weight: _Array,
    ends: _Array,
    grad_out: _Array,
    grad_weight: _Array,
    grad: _Array,
) -> None:
    """Pull a gradient back through `gate_sum`; add to `grad_weight`, overwrite `grad`."""
    shift, scale, offset, eps = norm
    for i in range(ends.shape[1]):
        for m in range(2):
            a, v = ends[m, i], x[i, m]
            rc, rg = _inverse_deviations(v, shift, eps)
            for k in range(64):
                c = (v[k] + shift[k]) * rc * scale[k] + offset[k]
                g = (v[64 + k] + shift[64 + k]) * rg * scale[64 + k] + offset[64 + k]
                sc, sg = _sigmoid(c), _sigmoid(g)
                grad_weight[i, k] += grad_out[a, k] * c * sc * sg
                u = grad_out[a, k] * weight[i, k] * sc * sg
                grad[i, m, k] = u * (_f(1.0) + c * (_f(1.0) - sc)) * scale[k]
                grad[i, m, 64 + k] = u * c * (_f(1.0) - sg) * scale[64 + k]
            _norm_back(v, shift, rc, rg, grad[i, m])


@_kernel
def gate_add(x: _Array, norm: Any, own: _Array, out: _Array) -> None:
    """Normalise and gate messages, and add them to the row's feature."""
    shift, scale, offset, eps = norm
    for i in range(len(x)):
        for m in range(2):
            q, v = m % own.shape[1], x[i, m]
            rc, rg = _inverse_deviations(v, shift, eps)
            for k in range(64):
                c = (v[k] + shift[k]) * rc * scale[k] + offset[k]
                g = (v[64 + k] + shift[64 + k]) * rg * scale[64 + k] + offset[64 + k]
                out[i, m, k] = own[i, q, k] + c * _sigmoid(c) * _sigmoid(g)


@_kernel
def gate_add_back(x: _Array, norm: Any, grad_out: _Array, grad: _Array) -> None:
    """Pull a gradient back through `gate_add` (the messages' share of it)."""
    shift, scale, offset, eps = norm
    for i in range(len(x)):
        for m in range(2):
            v = x[i, m]
            rc, rg = _inverse_deviations(v, shift, eps)
            for k in range(64):
                c = (v[k] + shift[k]) * rc * scale[k] + offset[k]
                g = (v[64 + k] + shift[64 + k]) * rg * scale[64 + k] + offset[64 + k]
                sc, sg = _sigmoid(c), _sigmoid(g)
                u = grad_out[i, m, k] * sc * sg
                grad[i, m, k] = u * (_f(1.0) + c * (_f(1.0) - sc)) * scale[k]
                grad[i, m, 64 + k] = u * c * (_f(1.0) - sg) * scale[64 + k]
            _norm_back(v, shift, rc, rg, grad[i, m])
