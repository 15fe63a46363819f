"""Message layers of CHGNet: gated perceptrons and hand-written gradients.

A row is a bond or an angle: two messages, one to either end. Features of messages are
(n_rows, 2, width); those of rows, which both messages share, have 1 in place of 2.

`sum_messages` and `add_messages` run the numba kernels, in blocks of rows that stay in the
cache, if given a `Workspace` (CPU only), and plain torch operations otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from . import chgnet_kernels as kernels

__all__ = ["GatedMLP", "Workspace", "add_messages", "sum_messages"]

_WIDTH = 64  # features per atom, bond and angle in every published CHGNet
_BLOCK = 1024  # rows per block: its buffers fit a 1 MB cache
_PARTS = 4  # sums over rows are made in this many parts, so that threads do not change them

# whatever the program's default type is
_empty = partial(torch.empty, dtype=torch.float32)
_zeros = partial(torch.zeros, dtype=torch.float32)


class GatedMLP:
    """Weights of a gated perceptron, core and gate side by side (128 columns).

    Layer normalisation subtracts the mean of its 64 inputs. Taking that mean out of the
    weights that produce them gives the same values and saves the subtraction.

    Parameters
    ----------
    mlp
        CHGNet's perceptron.
    own : int
        Which of the features concatenated to its input is that of the bond or angle itself.

    Attributes
    ----------
    inputs
        The first layer's matrix for each of the concatenated features, (64, 128) each.
    own
        The one of them for the feature of the bond or angle itself.
    bias
        The first layer's, (128,).
    """

    def __init__(self, mlp: Any, own: int) -> None:
        core, gate = (
            [layer for layer in part.layers if isinstance(layer, nn.Linear)]
            for part in (mlp.mlp_core, mlp.mlp_gate)
        )
        weight = torch.cat([core[0].weight, gate[0].weight]).T  # (n_inputs * 64, 128)
        bias = torch.cat([core[0].bias, gate[0].bias])
        self._has_hidden = len(core) == 2
        if self._has_hidden:
            hidden = torch.stack([core[1].weight.T, gate[1].weight.T])
            self.hidden = hidden - hidden.mean(2, keepdim=True)  # (2, 64, 64)
            self.hidden_t = self.hidden.transpose(1, 2).contiguous()
            self._shift = _centred(torch.cat([core[1].bias, gate[1].bias]))
        else:
            weight, bias = _centred(weight), _centred(bias)
            self._shift = torch.zeros_like(bias)
        self.inputs = [w.contiguous() for w in weight.split(_WIDTH)]
        self.own = self.inputs[own]
        self.bias = bias
        self._scale = torch.cat([mlp.bn1.weight, mlp.bn2.weight])
        self._offset = torch.cat([mlp.bn1.bias, mlp.bn2.bias])
        self._eps = float(mlp.bn1.eps)

    @property
    def norm(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.float32]:
        """Shift, scale, offset and eps of the layer norms, as kernels take them."""
        arrays = (self._shift.numpy(), self._scale.numpy(), self._offset.numpy())
        return (*arrays, np.float32(self._eps))

    def __call__(self, mixed: Tensor) -> Tensor:
        """Apply what follows the first linear layer, with plain torch operations."""
        if self._has_hidden:
            halves = functional.silu(mixed).split(_WIDTH, dim=1)
            mixed = torch.cat([h @ w for h, w in zip(halves, self.hidden, strict=True)], dim=1)
        x = (mixed + self._shift).view(-1, 2, _WIDTH)
        x = x * (x.square().mean(2, keepdim=True) + self._eps).rsqrt()
        x = x * self._scale.view(2, _WIDTH) + self._offset.view(2, _WIDTH)
        return functional.silu(x[:, 0]) * torch.sigmoid(x[:, 1])


def _centred(x: Tensor) -> Tensor:
    """Subtract the mean of each half (core, gate) of the last axis."""
    halves = x.unflatten(-1, (2, _WIDTH))
    return (halves - halves.mean(-1, keepdim=True)).flatten(-2)


# -------------------------------------------------------------------- fused layers


class Workspace:
    """Threads, and memory kept between calls: fresh pages cost more than the arithmetic.

    To be entered for one evaluation; what `take` gave is free again afterwards.
    """

    def __init__(self) -> None:
        self._buffer = _empty(0)
        self._used = 0

    def __enter__(self) -> None:
        # Weights fall off smoothly towards the cutoff, and their gradients below what float32 holds
        # with full precision; a processor takes many times as long over such numbers. Threads
        # started from here inherit the setting.
        self._flushed_before = _flushes_denormals()
        torch.set_flush_denormal(True)
        # each thread works alone on its block: no waiting for one another at every product
        self._n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(
            self._n_threads, initializer=torch.set_num_threads, initargs=(1,)
        )

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._n_threads)
        torch.set_flush_denormal(self._flushed_before)
        if self._used > len(self._buffer):
            self._buffer = _empty(self._used)
        self._used = 0

    def take(self, *shape: int) -> Tensor:
        """Return an uninitialised float32 array."""
        start, self._used = self._used, self._used + int(np.prod(shape))
        if self._used <= len(self._buffer):
            return self._buffer[start : self._used].view(shape)
        return _empty(shape)

    def share(
        self, n_rows: int, work: Callable[[Iterator[slice]], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Share the blocks of `n_rows` rows out among threads; sum what these return."""
        n_parts = min(_PARTS, -(-n_rows // _BLOCK))

        def part(index: int) -> tuple[Tensor, ...]:
            # neighbouring blocks go to different parts, so that all take equally long
            starts = range(index * _BLOCK, n_rows, n_parts * _BLOCK)
            return work(slice(start, min(start + _BLOCK, n_rows)) for start in starts)

        # one thread alone is not worth handing over to
        run = map if self._n_threads == 1 else self._pool.map
        parts = run(part, range(n_parts))
        return tuple(torch.stack(shares).sum(0) for shares in zip(*parts, strict=True))


def _flushes_denormals() -> bool:
    """Whether this thread takes numbers below float32's normal range as zero."""
    return not float(torch.tensor(1e-39) * 1.0)


def _times_hidden(x: Tensor, matrices: Tensor, out: Tensor) -> None:
    """Multiply the core and the gate half of `x` (n_rows, 2, 128) by a (64, 64) matrix each."""
    x, out = x.view(-1, 128), out.view(-1, 128)
    torch.mm(x[:, :_WIDTH], matrices[0], out=out[:, :_WIDTH])
    torch.mm(x[:, _WIDTH:], matrices[1], out=out[:, _WIDTH:])


class _SumMessages(torch.autograd.Function):
    """Fused form of `sum_messages`, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor,
        own: Tensor,
        weight: Tensor,
        ends: np.ndarray,
        mlp: GatedMLP,
        space: Workspace,
    ) -> Tensor:
        n_rows, n_own, _ = own.shape
        slope, x = space.take(n_rows, 2, 128), space.take(n_rows, 2, 128)
        tables = first.detach().numpy(), second.detach().numpy()
        own, weight = own.detach(), weight.detach()

        def work(blocks: Iterator[slice]) -> tuple[Tensor]:
            out = _zeros(len(first), _WIDTH)
            shared, hidden = _empty(_BLOCK, n_own, 128), _empty(_BLOCK, 2, 128)
            for rows in blocks:
                n = rows.stop - rows.start
                torch.mm(own[rows].view(-1, _WIDTH), mlp.own, out=shared[:n].view(-1, 128))
                kernels.mix_silu(
                    *tables, shared.numpy(), ends[:, rows], hidden.numpy(), slope[rows].numpy()
                )
                _times_hidden(hidden[:n], mlp.hidden, x[rows])
                kernels.gate_sum(
                    x[rows].numpy(), mlp.norm, weight[rows].numpy(), ends[:, rows], out.numpy()
                )
            return (out,)

        (total,) = space.share(n_rows, work)
        ctx.save_for_backward(weight)
        ctx.rest = slope, x, ends, mlp, space, len(second), own.shape
        return total

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        slope, x, ends, mlp, space, n_second, own_shape = ctx.rest
        grad_out, weight = grad_out.contiguous(), weight.detach()
        grad_own, grad_weight = _zeros(own_shape), torch.zeros_like(weight)

        def grad_mixed(rows: slice, buffers: Tensor) -> Tensor:
            grad_hidden, grad_x = buffers
            n = rows.stop - rows.start
            kernels.gate_sum_back(
                x[rows].numpy(),
                mlp.norm,
                weight[rows].numpy(),
                ends[:, rows],
                grad_out.numpy(),
                grad_weight[rows].numpy(),
                grad_x.numpy(),
            )
            _times_hidden(grad_x[:n], mlp.hidden_t, grad_hidden[:n])
            grad_hidden[:n] *= slope[rows]
            return grad_hidden

        tables = _pull_back(grad_mixed, grad_own, ends, mlp, space, len(grad_out), n_second)
        return *tables, grad_own, grad_weight, None, None, None


class _AddMessages(torch.autograd.Function):
    """Fused form of `add_messages`, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor,
        own: Tensor,
        ends: np.ndarray,
        mlp: GatedMLP,
        space: Workspace,
    ) -> Tensor:
        n_rows, n_own, _ = own.shape
        x, out = space.take(n_rows, 2, 128), _empty(n_rows, 2, _WIDTH)
        tables = first.detach().numpy(), second.detach().numpy()
        own = own.detach()

        def work(blocks: Iterator[slice]) -> tuple[()]:
            shared = _empty(_BLOCK, n_own, 128)
            for rows in blocks:
                n = rows.stop - rows.start
                torch.mm(own[rows].view(-1, _WIDTH), mlp.own, out=shared[:n].view(-1, 128))
                kernels.mix(*tables, shared.numpy(), ends[:, rows], x[rows].numpy())
                kernels.gate_add(x[rows].numpy(), mlp.norm, own[rows].numpy(), out[rows].numpy())
            return ()

        space.share(n_rows, work)
        ctx.rest = x, ends, mlp, space, len(first), len(second), n_own
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        x, ends, mlp, space, n_first, n_second, n_own = ctx.rest
        grad_out = grad_out.contiguous()
        # the feature is added to what it becomes: its gradient starts from there
        grad_own = grad_out.clone() if n_own == 2 else grad_out.sum(1, keepdim=True)

        def grad_mixed(rows: slice, buffers: Tensor) -> Tensor:
            grad_x = buffers[0]
            kernels.gate_add_back(x[rows].numpy(), mlp.norm, grad_out[rows].numpy(), grad_x.numpy())
            return grad_x

        tables = _pull_back(grad_mixed, grad_own, ends, mlp, space, n_first, n_second)
        return *tables, grad_own, None, None, None


def _pull_back(
    grad_mixed: Callable[[slice, Tensor], Tensor],
    grad_own: Tensor,
    ends: np.ndarray,
    mlp: GatedMLP,
    space: Workspace,
    n_first: int,
    n_second: int,
) -> tuple[Tensor, ...]:
    """Pull a gradient back through the first linear layer, adding to `grad_own`.

    `grad_mixed` returns the gradient by what that layer makes of some rows, given two
    buffers to work in. Returns the gradients by `first` and by `second`.
    """
    n_own = grad_own.shape[1]

    def work(blocks: Iterator[slice]) -> tuple[Tensor, Tensor]:
        grad_first, grad_second = _zeros(n_first, 128), _zeros(n_second, 128)
        buffers, grad_shared = _empty(2, _BLOCK, 2, 128), _empty(_BLOCK, n_own, 128)
        for rows in blocks:
            grad = grad_mixed(rows, buffers)
            kernels.scatter(
                grad.numpy(),
                ends[:, rows],
                grad_first.numpy(),
                grad_second.numpy(),
                grad_shared.zero_().numpy(),
            )
            shared = grad_shared[: rows.stop - rows.start].view(-1, 128)
            grad_own[rows].view(-1, _WIDTH).addmm_(shared, mlp.own.T)
        return grad_first, grad_second

    return space.share(len(grad_own), work)


# -------------------------------------------------------------------------- layers


def sum_messages(
    first: Tensor,
    second: Tensor,
    own: Tensor,
    weight: Tensor,
    ends: Tensor,
    mlp: GatedMLP,
    space: Workspace | None,
) -> Tensor:
    """Sum gated messages over the rows that go to each end.

    Parameters
    ----------
    first, second : Tensor
        What the perceptron's first linear layer makes of the end a message goes to and of
        the other end, each (n_ends, 128).
    own : Tensor
        Feature of the bond or angle itself, (n_rows, 1 or 2 orientations, 64).
    weight : Tensor
        What either message of a row is multiplied by, (n_rows, 64).
    ends : Tensor
        The two ends of each row, as indices into `first` and `second`, (2, n_rows).
    mlp : GatedMLP
        The perceptron; it must have a hidden layer.
    space : Workspace, optional
        Where to run the kernels; without one, plain torch operations do the same.

    Returns
    -------
    Tensor
        Shape (n_ends, 64).
    """
    if space is not None:
        return _SumMessages.apply(first, second, own, weight, ends.numpy(), mlp, space)
    out = first.new_zeros(len(first), _WIDTH)
    for end, message in zip(ends, _messages(first, second, own, ends, mlp), strict=True):
        out = out.index_add(0, end, message * weight)
    return out


def add_messages(
    first: Tensor,
    second: Tensor,
    own: Tensor,
    ends: Tensor,
    mlp: GatedMLP,
    space: Workspace | None,
) -> Tensor:
    """Add gated messages to the feature of their bond or angle.

    Parameters are those of :func:`sum_messages`; the perceptron must have no hidden layer.

    Returns
    -------
    Tensor
        Shape (n_rows, 2, 64).
    """
    if space is not None:
        return _AddMessages.apply(first, second, own, ends.numpy(), mlp, space)
    return own + torch.stack(list(_messages(first, second, own, ends, mlp)), dim=1)


def _messages(
    first: Tensor, second: Tensor, own: Tensor, ends: Tensor, mlp: GatedMLP
) -> Iterator[Tensor]:
    """Yield the gated messages to either end, each (n_rows, 64)."""
    shared = own @ mlp.own
    for k in range(2):
        mixed = first.index_select(0, ends[k]) + second.index_select(0, ends[1 - k])
        yield mlp(mixed + shared[:, k % own.shape[1]])
