"""Fast CHGNet inference: energies, forces, stresses and magnetic moments.

The values are those of stock CHGNet (to float32 rounding); only the way to them differs:

* The first linear layer of each gated perceptron acts on concatenated features, so it is
  a sum of products that are computed once per atom and once per bond, then gathered.
* Bonds and angles come in pairs of opposite orientation (i to j and j to i) that share
  their geometry, their weights and the product with their own feature.
* Bonds longer than the bond-graph cutoff take part in no angle: their features never change.
* Gradients of the message layers are written by hand, in blocks that stay in the cache
  (numba; plain torch operations stand in for it on a GPU or where numba is missing).
* Forces and stress both follow from the gradient by bond vectors, so stress is free.
* All structures of a call (the images of a band) share one graph.

Building the graph takes about 1 % of an evaluation, so no neighbour list is kept between
calls: nothing can be stale.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from chgnet.model import CHGNet
from pymatgen.optimization.neighbors import find_points_in_spheres
from torch import Tensor, nn
from torch.nn import functional

from .evaluation import Evaluation

try:
    from numba import njit

    _HAVE_NUMBA = True
except ImportError:  # the plain torch functions then stand in for the kernels
    _HAVE_NUMBA = False

__all__ = ["Evaluation", "FastCHGNet", "FastCHGNetCalculator"]

_T = TypeVar("_T")

# whatever the program's default type is
_empty = partial(torch.empty, dtype=torch.float32)
_zeros = partial(torch.zeros, dtype=torch.float32)

_WIDTH = 64  # features per atom, bond and angle in every published CHGNet
_BLOCK = 1024  # rows per block of the message layers: its buffers fit a 1 MB cache
_MAX_ROWS = 40_000  # bonds + angle pairs evaluated at once: about 0.4 GB

# one evaluation at a time: each takes all of torch's threads, and a model's workspace
_LOCK = threading.Lock()


# --------------------------------------------------------------------------- graph


@dataclass(frozen=True)
class _Graph:
    """Bonds and angles of one or several structures.

    Each bond and each angle is listed once; the layers treat it in both orientations.
    The first `n_short` bonds are the short ones (bond graph). Short bond b leaves atom
    `center[b]` as directed bond b, and atom `neighbor[b]` as directed bond n_short + b.
    An angle is a pair (`left`, `right`) of directed bonds that leave the same atom.
    """

    center: np.ndarray  # (n_bonds,) atom index
    neighbor: np.ndarray  # (n_bonds,) atom index
    vectors: np.ndarray  # (n_bonds, 3) from center to neighbor, Å
    n_short: int
    left: np.ndarray  # (n_pairs,) directed bond index
    right: np.ndarray  # (n_pairs,) directed bond index


def _pairs_of_bonds(origin: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all unordered pairs of directed bonds that share their `origin` atom."""
    order = np.argsort(origin, kind="stable")
    degree = np.bincount(origin, minlength=n_atoms)
    end = np.cumsum(degree)[origin[order]]
    # within an atom's run of the sorted bonds, each bond pairs with all that follow it
    n_following = end - np.arange(len(origin)) - 1
    first = np.repeat(np.arange(len(origin)), n_following)
    run_start = np.repeat(np.cumsum(n_following) - n_following, n_following)
    second = first + 1 + np.arange(len(first)) - run_start
    return order[first], order[second]


def _build_graph(atoms: Atoms, cutoff: float, bond_cutoff: float) -> _Graph:
    """Find the bonds shorter than `cutoff` and pairs of bonds shorter than `bond_cutoff` (Å)."""
    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    cell = np.ascontiguousarray(atoms.cell.array, dtype=float)
    i, j, image, distance = find_points_in_spheres(
        positions,
        positions,
        r=cutoff,
        pbc=np.ascontiguousarray(atoms.pbc, dtype=np.int64),
        lattice=cell,
        tol=1e-8,
    )
    # every bond is found from both ends: keep one, and no atom with itself in place
    x, y, z = np.rint(image).astype(np.int64).T
    upward = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    keep = (distance < cutoff) & ((i < j) | ((i == j) & upward))
    i, j, image, distance = i[keep], j[keep], image[keep], distance[keep]
    short = distance < bond_cutoff
    order = np.argsort(~short, kind="stable")
    i, j, image, n_short = i[order], j[order], image[order], int(short.sum())
    vectors = positions[j] + image @ cell - positions[i]
    left, right = _pairs_of_bonds(np.concatenate([i[:n_short], j[:n_short]]), len(atoms))
    return _Graph(i, j, vectors, n_short, left, right)


def _merge(graphs: Sequence[_Graph], sizes: Sequence[int]) -> tuple[_Graph, np.ndarray]:
    """Join the graphs of structures of `sizes` atoms; also return each bond's structure."""
    n_short = sum(g.n_short for g in graphs)
    atom_start = np.cumsum([0, *sizes])
    short_start = np.cumsum([0, *(g.n_short for g in graphs)])

    def bonds(arrays: Sequence[np.ndarray]) -> np.ndarray:
        short = [a[: g.n_short] for a, g in zip(arrays, graphs, strict=True)]
        return np.concatenate(short + [a[g.n_short :] for a, g in zip(arrays, graphs, strict=True)])

    def directed(ends: Sequence[np.ndarray]) -> np.ndarray:
        moved = [
            np.where(e < g.n_short, e + s, e - g.n_short + n_short + s)
            for e, g, s in zip(ends, graphs, short_start, strict=False)
        ]
        return np.concatenate(moved)

    merged = _Graph(
        bonds([g.center + s for g, s in zip(graphs, atom_start, strict=False)]),
        bonds([g.neighbor + s for g, s in zip(graphs, atom_start, strict=False)]),
        bonds([g.vectors for g in graphs]),
        n_short,
        directed([g.left for g in graphs]),
        directed([g.right for g in graphs]),
    )
    return merged, bonds([np.full(len(g.center), k) for k, g in enumerate(graphs)])


# ------------------------------------------------------------------ gated perceptrons


class _GatedMLP:
    """Weights of a gated perceptron, core and gate side by side (128 columns).

    Layer normalisation subtracts the mean of its 64 inputs. Taking that mean out of the
    weights that produce them gives the same values and saves the subtraction.
    """

    def __init__(self, mlp: Any) -> None:
        core, gate = (
            [layer for layer in part.layers if isinstance(layer, nn.Linear)]
            for part in (mlp.mlp_core, mlp.mlp_gate)
        )
        weight = torch.cat([core[0].weight, gate[0].weight]).T  # (n_inputs * 64, 128)
        bias = torch.cat([core[0].bias, gate[0].bias])
        self.has_hidden = len(core) == 2
        if self.has_hidden:
            hidden = torch.stack([core[1].weight.T, gate[1].weight.T])
            self.hidden = hidden - hidden.mean(2, keepdim=True)  # (2, 64, 64)
            self.hidden_t = self.hidden.transpose(1, 2).contiguous()
            self.shift = _centred(torch.cat([core[1].bias, gate[1].bias]))
        else:
            weight, bias = _centred(weight), _centred(bias)
            self.shift = torch.zeros_like(bias)
        # one (64, 128) matrix per concatenated feature
        self.inputs = [w.contiguous() for w in weight.split(_WIDTH)]
        self.bias = bias
        self.scale = torch.cat([mlp.bn1.weight, mlp.bn2.weight])
        self.offset = torch.cat([mlp.bn1.bias, mlp.bn2.bias])
        self.eps = float(mlp.bn1.eps)

    @property
    def norm(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.float32]:
        """Arguments of the gate kernels."""
        arrays = (self.shift.numpy(), self.scale.numpy(), self.offset.numpy())
        return (*arrays, np.float32(self.eps))

    def __call__(self, mixed: Tensor) -> Tensor:
        """Apply what follows the first linear layer, with plain torch operations."""
        if self.has_hidden:
            halves = functional.silu(mixed).split(_WIDTH, dim=1)
            mixed = torch.cat([h @ w for h, w in zip(halves, self.hidden, strict=True)], dim=1)
        x = (mixed + self.shift).view(-1, 2, _WIDTH)
        x = x * (x.square().mean(2, keepdim=True) + self.eps).rsqrt()
        x = x * self.scale.view(2, _WIDTH) + self.offset.view(2, _WIDTH)
        return functional.silu(x[:, 0]) * torch.sigmoid(x[:, 1])


def _centred(x: Tensor) -> Tensor:
    """Subtract the mean of each half (core, gate) of the last axis."""
    halves = x.unflatten(-1, (2, _WIDTH))
    return (halves - halves.mean(-1, keepdim=True)).flatten(-2)


# ------------------------------------------------------------------------- kernels
# A row is a bond or an angle: two messages, from its right to its left end and back.
# Features of messages are (n_rows, 2, width); those of rows have 1 in place of 2.

if _HAVE_NUMBA:
    _f = np.float32
    _Array = np.ndarray

    def _jit(function: Callable[..., Any], fastmath: Any = True) -> Callable[..., Any]:
        """Compile with numba; keep the result on disk where there is a place for it."""
        # numpy's division by zero (no exception) is what lets loops be vectorised
        options = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
        try:
            return njit(**options, cache=True)(function)
        except RuntimeError:  # neither the package nor the home directory is writable
            return njit(**options)(function)

    # all of `fastmath` but reassociation, which would undo the split of the argument
    @partial(_jit, fastmath={"nnan", "ninf", "nsz", "arcp", "contract"})
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

    @_jit
    def _mix(
        first: _Array, second: _Array, own: _Array, left: _Array, right: _Array, mixed: _Array
    ) -> None:
        """Gather and add what the first linear layer made of the ends and of the row."""
        for i in range(len(left)):
            for m in range(2):
                a, b = (left[i], right[i]) if m == 0 else (right[i], left[i])
                q = m % own.shape[1]
                for k in range(128):
                    mixed[i, m, k] = first[a, k] + second[b, k] + own[i, q, k]

    @_jit
    def _mix_silu(
        first: _Array,
        second: _Array,
        own: _Array,
        left: _Array,
        right: _Array,
        hidden: _Array,
        slope: _Array,
    ) -> None:
        """Do the same and apply SiLU; also return its derivative."""
        for i in range(len(left)):
            for m in range(2):
                a, b = (left[i], right[i]) if m == 0 else (right[i], left[i])
                q = m % own.shape[1]
                for k in range(128):
                    x = first[a, k] + second[b, k] + own[i, q, k]
                    s = _sigmoid(x)
                    hidden[i, m, k] = x * s
                    slope[i, m, k] = s * (_f(1.0) + x * (_f(1.0) - s))

    @_jit
    def _inverse_deviations(x: _Array, shift: _Array, eps: Any) -> tuple[Any, Any]:
        """Return what the layer norms of the core and of the gate multiply by."""
        core, gate = _f(0.0), _f(0.0)
        for k in range(64):
            core += (x[k] + shift[k]) ** 2
            gate += (x[64 + k] + shift[64 + k]) ** 2
        core = _f(1.0) / np.sqrt(core / _f(64.0) + eps)
        return core, _f(1.0) / np.sqrt(gate / _f(64.0) + eps)

    @_jit
    def _gate_sum(
        x: _Array,
        shift: _Array,
        scale: _Array,
        offset: _Array,
        eps: Any,
        weight: _Array,
        left: _Array,
        right: _Array,
        out: _Array,
    ) -> None:
        """Normalise, gate and weigh messages, and sum them at the end they go to."""
        for i in range(len(left)):
            for m in range(2):
                a = left[i] if m == 0 else right[i]
                v = x[i, m]
                rc, rg = _inverse_deviations(v, shift, eps)
                for k in range(64):
                    c = (v[k] + shift[k]) * rc * scale[k] + offset[k]
                    g = (v[64 + k] + shift[64 + k]) * rg * scale[64 + k] + offset[64 + k]
                    out[a, k] += c * _sigmoid(c) * _sigmoid(g) * weight[i, k]

    @_jit
    def _gate_add(
        x: _Array, shift: _Array, scale: _Array, offset: _Array, eps: Any, own: _Array, out: _Array
    ) -> None:
        """Normalise and gate messages, and add them to the row's feature."""
        for i in range(len(x)):
            for m in range(2):
                q = m % own.shape[1]
                v = x[i, m]
                rc, rg = _inverse_deviations(v, shift, eps)
                for k in range(64):
                    c = (v[k] + shift[k]) * rc * scale[k] + offset[k]
                    g = (v[64 + k] + shift[64 + k]) * rg * scale[64 + k] + offset[64 + k]
                    out[i, m, k] = own[i, q, k] + c * _sigmoid(c) * _sigmoid(g)

    @_jit
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

    @_jit
    def _gate_sum_back(
        x: _Array,
        shift: _Array,
        scale: _Array,
        offset: _Array,
        eps: Any,
        weight: _Array,
        left: _Array,
        right: _Array,
        grad_out: _Array,
        grad_weight: _Array,
        grad: _Array,
    ) -> None:
        """Pull a gradient back through `_gate_sum`."""
        for i in range(len(left)):
            for m in range(2):
                a = left[i] if m == 0 else right[i]
                v = x[i, m]
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

    @_jit
    def _gate_add_back(
        x: _Array,
        shift: _Array,
        scale: _Array,
        offset: _Array,
        eps: Any,
        grad_out: _Array,
        grad: _Array,
    ) -> None:
        """Pull a gradient back through `_gate_add` (the messages' share of it)."""
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

    @_jit
    def _scatter(
        grad: _Array,
        left: _Array,
        right: _Array,
        grad_first: _Array,
        grad_second: _Array,
        grad_own: _Array,
    ) -> None:
        """Pull a gradient back through `_mix`; `grad_own` must come as zeros."""
        for i in range(len(left)):
            for m in range(2):
                a, b = (left[i], right[i]) if m == 0 else (right[i], left[i])
                q = m % grad_own.shape[1]
                for k in range(128):
                    grad_first[a, k] += grad[i, m, k]
                    grad_second[b, k] += grad[i, m, k]
                    grad_own[i, q, k] += grad[i, m, k]


class _Workspace:
    """Threads, and memory kept between calls: fresh pages cost more than the arithmetic.

    To be entered for one evaluation; what `take` gave is free again afterwards.
    """

    def __init__(self) -> None:
        self._buffer = _empty(0)
        self._used = 0

    def __enter__(self) -> None:
        # each thread works alone on its block: no waiting for one another at every product
        self._n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(
            self._n_threads, initializer=torch.set_num_threads, initargs=(1,)
        )

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._n_threads)
        if self._used > len(self._buffer):
            self._buffer = _empty(self._used)
        self._used = 0

    def take(self, *shape: int) -> Tensor:
        """Return an uninitialised float32 array."""
        start, self._used = self._used, self._used + int(np.prod(shape))
        if self._used <= len(self._buffer):
            return self._buffer[start : self._used].view(shape)
        return _empty(shape)

    def run(self, n_rows: int, work: Callable[[Iterator[slice]], _T]) -> list[_T]:
        """Share the blocks of `n_rows` rows out among threads; return each one's result."""
        n_threads = min(self._n_threads, -(-n_rows // _BLOCK))

        def part(thread: int) -> _T:
            # neighbouring blocks go to different threads, so that all end together
            starts = range(thread * _BLOCK, n_rows, n_threads * _BLOCK)
            return work(slice(start, min(start + _BLOCK, n_rows)) for start in starts)

        if n_threads == 1:
            return [part(0)]
        return list(self._pool.map(part, range(n_threads)))


def _times_hidden(x: Tensor, matrices: Tensor, out: Tensor) -> None:
    """Multiply the core and the gate half of `x` (n_rows, 2, 128) by a (64, 64) matrix each."""
    x, out = x.view(-1, 128), out.view(-1, 128)
    torch.mm(x[:, :_WIDTH], matrices[0], out=out[:, :_WIDTH])
    torch.mm(x[:, _WIDTH:], matrices[1], out=out[:, _WIDTH:])


class _SumMessages(torch.autograd.Function):
    """Fused form of `_sum_messages`, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor,
        own: Tensor,
        weight: Tensor,
        ends: tuple[np.ndarray, np.ndarray],
        mlp: _GatedMLP,
        matrix: Tensor,
        space: _Workspace,
    ) -> Tensor:
        n_rows, n_own, _ = own.shape
        slope, x = space.take(n_rows, 2, 128), space.take(n_rows, 2, 128)
        tables = first.detach().numpy(), second.detach().numpy()
        own, weight = own.detach(), weight.detach()

        def work(blocks: Iterator[slice]) -> Tensor:
            out = _zeros(len(first), _WIDTH)
            shared, hidden = _empty(_BLOCK, n_own, 128), _empty(_BLOCK, 2, 128)
            for rows in blocks:
                n = rows.stop - rows.start
                left, right = ends[0][rows], ends[1][rows]
                torch.mm(own[rows].view(-1, _WIDTH), matrix, out=shared[:n].view(-1, 128))
                _mix_silu(*tables, shared.numpy(), left, right, hidden.numpy(), slope[rows].numpy())
                _times_hidden(hidden[:n], mlp.hidden, x[rows])
                _gate_sum(
                    x[rows].numpy(), *mlp.norm, weight[rows].numpy(), left, right, out.numpy()
                )
            return out

        total = torch.stack(space.run(n_rows, work)).sum(0)
        ctx.save_for_backward(weight)
        ctx.rest = slope, x, ends, mlp, matrix, space, first.shape, second.shape, own.shape
        return total

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        slope, x, ends, mlp, matrix, space, first_shape, second_shape, own_shape = ctx.rest
        grad_out, weight = grad_out.contiguous(), weight.detach()
        grad_own, grad_weight = _empty(own_shape), torch.zeros_like(weight)

        def work(blocks: Iterator[slice]) -> tuple[Tensor, Tensor]:
            grad_first, grad_second = _zeros(first_shape), _zeros(second_shape)
            grad_x, grad_hidden = _empty(2, _BLOCK, 2, 128)
            grad_shared = _empty(_BLOCK, own_shape[1], 128)
            for rows in blocks:
                n = rows.stop - rows.start
                left, right = ends[0][rows], ends[1][rows]
                _gate_sum_back(
                    x[rows].numpy(),
                    *mlp.norm,
                    weight[rows].numpy(),
                    left,
                    right,
                    grad_out.numpy(),
                    grad_weight[rows].numpy(),
                    grad_x.numpy(),
                )
                _times_hidden(grad_x[:n], mlp.hidden_t, grad_hidden[:n])
                grad_hidden[:n] *= slope[rows]
                _scatter(
                    grad_hidden.numpy(),
                    left,
                    right,
                    grad_first.numpy(),
                    grad_second.numpy(),
                    grad_shared.zero_().numpy(),
                )
                torch.mm(
                    grad_shared[:n].view(-1, 128), matrix.T, out=grad_own[rows].view(-1, _WIDTH)
                )
            return grad_first, grad_second

        parts = space.run(len(weight), work)
        grad_first, grad_second = (torch.stack(p).sum(0) for p in zip(*parts, strict=True))
        return grad_first, grad_second, grad_own, grad_weight, None, None, None, None


class _AddMessages(torch.autograd.Function):
    """Fused form of `_add_messages`, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor,
        own: Tensor,
        ends: tuple[np.ndarray, np.ndarray],
        mlp: _GatedMLP,
        matrix: Tensor,
        space: _Workspace,
    ) -> Tensor:
        n_rows, n_own, _ = own.shape
        x, out = space.take(n_rows, 2, 128), _empty(n_rows, 2, _WIDTH)
        tables = first.detach().numpy(), second.detach().numpy()
        own = own.detach()

        def work(blocks: Iterator[slice]) -> None:
            shared = _empty(_BLOCK, n_own, 128)
            for rows in blocks:
                n = rows.stop - rows.start
                torch.mm(own[rows].view(-1, _WIDTH), matrix, out=shared[:n].view(-1, 128))
                _mix(*tables, shared.numpy(), ends[0][rows], ends[1][rows], x[rows].numpy())
                _gate_add(x[rows].numpy(), *mlp.norm, own[rows].numpy(), out[rows].numpy())

        space.run(n_rows, work)
        ctx.rest = x, ends, mlp, matrix, space, first.shape, second.shape, n_own
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        x, ends, mlp, matrix, space, first_shape, second_shape, n_own = ctx.rest
        grad_out = grad_out.contiguous()
        # the feature is added to what it becomes: its gradient starts from there
        grad_own = grad_out.clone() if n_own == 2 else grad_out.sum(1, keepdim=True)

        def work(blocks: Iterator[slice]) -> tuple[Tensor, Tensor]:
            grad_first, grad_second = _zeros(first_shape), _zeros(second_shape)
            grad_x, grad_shared = _empty(_BLOCK, 2, 128), _empty(_BLOCK, n_own, 128)
            for rows in blocks:
                n = rows.stop - rows.start
                _gate_add_back(x[rows].numpy(), *mlp.norm, grad_out[rows].numpy(), grad_x.numpy())
                _scatter(
                    grad_x.numpy(),
                    ends[0][rows],
                    ends[1][rows],
                    grad_first.numpy(),
                    grad_second.numpy(),
                    grad_shared.zero_().numpy(),
                )
                grad_own[rows].view(-1, _WIDTH).addmm_(grad_shared[:n].view(-1, 128), matrix.T)
            return grad_first, grad_second

        parts = space.run(len(grad_out), work)
        grad_first, grad_second = (torch.stack(p).sum(0) for p in zip(*parts, strict=True))
        return grad_first, grad_second, grad_own, None, None, None, None


def _messages(
    first: Tensor,
    second: Tensor,
    own: Tensor,
    ends: tuple[Tensor, Tensor],
    mlp: _GatedMLP,
    matrix: Tensor,
) -> Iterator[Tensor]:
    """Yield the gated messages of either orientation, each (n_rows, 64).

    Parameters
    ----------
    first, second : Tensor
        What the first linear layer makes of the end a message goes to and of the other
        end, each (n_ends, 128).
    own : Tensor
        Feature of the bond or angle itself, (n_rows, 1 or 2 orientations, 64).
    ends : tuple of Tensor
        The two ends of each row, as indices into `first` and `second`, (n_rows,) each.
    mlp : _GatedMLP
        The perceptron.
    matrix : Tensor
        Its first layer's part for `own`, (64, 128).
    """
    shared = own @ matrix
    for k in range(2):
        mixed = first.index_select(0, ends[k]) + second.index_select(0, ends[1 - k])
        yield mlp(mixed + shared[:, k % own.shape[1]])


def _sum_messages(
    first: Tensor,
    second: Tensor,
    own: Tensor,
    weight: Tensor,
    ends: tuple[Tensor, Tensor],
    mlp: _GatedMLP,
    matrix: Tensor,
) -> Tensor:
    """Sum the messages times `weight` (n_rows, 64) over the rows that go to each end."""
    out = first.new_zeros(len(first), _WIDTH)
    for k, message in enumerate(_messages(first, second, own, ends, mlp, matrix)):
        out = out.index_add(0, ends[k], message * weight)
    return out


def _add_messages(
    first: Tensor,
    second: Tensor,
    own: Tensor,
    ends: tuple[Tensor, Tensor],
    mlp: _GatedMLP,
    matrix: Tensor,
) -> Tensor:
    """Add the messages to `own`: (n_rows, 2, 64)."""
    return own + torch.stack(list(_messages(first, second, own, ends, mlp, matrix)), dim=1)


# --------------------------------------------------------------------------- model


class FastCHGNet:
    """CHGNet that computes what is asked for, for many structures at once.

    Parameters
    ----------
    model_name : str
        Published model: "0.3.0" or "r2scan".
    device : str, optional
        Where to run, as torch names it; a GPU where there is one by default. The hand-written
        kernels run on the CPU, on as many threads as ``torch.get_num_threads()``.

    Attributes
    ----------
    version : str
        The model, for records, e.g. "CHGNet 0.3.0".
    """

    def __init__(self, model_name: str = "0.3.0", device: str | None = None) -> None:
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self._model_name = model_name
        model: Any = CHGNet.load(model_name=model_name, use_device=device, verbose=False)
        model.eval().requires_grad_(False)
        args = model.model_args
        expected = {"non_linearity": "silu", "gMLP_norm": "layer", "mlp_first": True, "n_conv": 4}
        if any(args.get(key, value) != value for key, value in expected.items()):
            raise ValueError(f"CHGNet {model_name!r} is built in a way this module does not know")
        self.version = f"CHGNet {model_name}"
        self._model = model
        self._cutoff = float(model.graph_converter.atom_graph_cutoff)
        self._bond_cutoff = float(model.graph_converter.bond_graph_cutoff)
        # energies of the elements, index 0 being hydrogen; eV
        self._element_energies = model.composition_model.fc.weight.double().cpu().numpy()[0]
        self._atom_mlps = [_GatedMLP(layer.twoBody_atom) for layer in model.atom_conv_layers]
        self._bond_mlps = [_GatedMLP(layer.twoBody_bond) for layer in model.bond_conv_layers]
        self._angle_mlps = [_GatedMLP(layer.twoBody_bond) for layer in model.angle_layers]
        self._fused = _HAVE_NUMBA and self.device.type == "cpu"
        self._space = _Workspace()

    def __reduce__(self) -> tuple[type[FastCHGNet], tuple[str, str]]:
        """Copy and pickle by name: weights and memory need not travel."""
        return FastCHGNet, (self._model_name, str(self.device))

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        """Evaluate structures, several in one graph as far as memory stays bounded.

        Parameters
        ----------
        structures : sequence of Atoms
            What to evaluate; sizes, cells and elements may differ.
        stress, magmoms : bool
            Whether to return those too.

        Returns
        -------
        list of Evaluation
            One per structure, in order.

        Raises
        ------
        ValueError
            For a structure that has no atoms, positions or a cell that are not finite, a
            cell without volume, an element the model does not know, or an isolated atom.
        """
        if isinstance(structures, Atoms):
            raise TypeError("evaluate takes a sequence of structures; put the one in a list")
        graphs = [self._checked_graph(k, atoms) for k, atoms in enumerate(structures)]
        results: list[Evaluation] = []
        start = n_rows = 0
        with _LOCK:
            for stop, graph in enumerate(graphs):
                size = len(graph.center) + len(graph.left)
                if stop > start and n_rows + size > _MAX_ROWS:
                    batch = structures[start:stop]
                    results += self._evaluate(batch, graphs[start:stop], stress, magmoms)
                    start, n_rows = stop, 0
                n_rows += size
            if start < len(graphs):
                results += self._evaluate(structures[start:], graphs[start:], stress, magmoms)
        return results

    def _checked_graph(self, index: int, atoms: Atoms) -> _Graph:
        """Build the graph of one structure; refuse what the model cannot evaluate."""
        where = f"structure {index} ({atoms.get_chemical_formula()})"
        if len(atoms) == 0:
            raise ValueError(f"structure {index} has no atoms")
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise ValueError(f"{where}: positions or cell are not finite numbers")
        if atoms.cell.rank < 3:
            raise ValueError(f"{where}: the cell has no volume; CHGNet needs three cell vectors")
        unknown = {int(z) for z in atoms.numbers if not 0 < z <= len(self._element_energies)}
        if unknown:
            names = ", ".join(chemical_symbols[z] for z in sorted(unknown))
            raise ValueError(f"{where}: {self.version} does not know the element(s) {names}")
        graph = _build_graph(atoms, self._cutoff, self._bond_cutoff)
        ends = np.concatenate([graph.center, graph.neighbor])
        isolated = np.flatnonzero(np.bincount(ends, minlength=len(atoms)) == 0)
        if len(isolated):
            raise ValueError(
                f"{where}: no neighbour within {self._cutoff:g} Å of atom(s) {isolated.tolist()}"
            )
        return graph

    def _evaluate(
        self,
        structures: Sequence[Atoms],
        graphs: Sequence[_Graph],
        stress: bool,
        magmoms: bool,
    ) -> list[Evaluation]:
        """Evaluate structures in one graph."""
        sizes = [len(atoms) for atoms in structures]
        graph, owner = _merge(graphs, sizes)
        numbers = np.concatenate([atoms.numbers for atoms in structures])
        # float64 where it is cheap: near straight angles float32 vectors lose digits
        vectors = torch.tensor(graph.vectors, device=self.device, requires_grad=True)
        with self._space:
            site_energies, site_magmoms = self._forward(numbers, graph, vectors)
            (gradient,) = torch.autograd.grad(site_energies.sum(), vectors)
        pull = gradient.cpu().numpy()
        forces = np.stack(
            [
                np.bincount(graph.center, p, len(numbers))
                - np.bincount(graph.neighbor, p, len(numbers))
                for p in pull.T
            ],
            axis=1,
        )
        energies = site_energies.detach().cpu().numpy() + self._element_energies[numbers - 1]
        moments = site_magmoms.cpu().numpy().astype(float)

        results = []
        stop = 0
        for k, atoms in enumerate(structures):
            start, stop = stop, stop + sizes[k]
            voigt = None
            if stress:
                virial = graph.vectors[owner == k].T @ pull[owner == k]
                voigt = full_3x3_to_voigt_6_stress(virial / atoms.get_volume())
            results.append(
                Evaluation(
                    float(energies[start:stop].sum()),
                    forces[start:stop],
                    voigt,
                    moments[start:stop] if magmoms else None,
                )
            )
        return results

    def _forward(
        self, numbers: np.ndarray, graph: _Graph, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return energies (float64, eV, without element energies) and moments of the atoms."""
        model, n_short = self._model, graph.n_short

        def index(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, device=self.device)

        center, neighbor = index(graph.center), index(graph.neighbor)
        left, right = index(graph.left), index(graph.right)

        length = vectors.norm(dim=1)
        unit = vectors[:n_short] / length[:n_short, None]
        unit = torch.cat([unit, -unit])
        cosine = (unit.index_select(0, left) * unit.index_select(0, right)).sum(1)
        theta = torch.acos(cosine * (1 - 1e-6)).float()  # the factor is stock's
        length = length.float()
        basis = model.bond_basis_expansion.rbf_expansion_ag(length)
        short_basis = model.bond_basis_expansion.rbf_expansion_bg(length[:n_short])

        atom = model.atom_embedding(index(numbers) - 1)
        short, long = model.bond_embedding(basis).tensor_split([n_short])
        angle = model.angle_embedding(model.angle_basis_expansion.fourier_expansion(theta))[:, None]
        atom_weight = model.bond_weights_ag(basis)
        bond_weight = model.bond_weights_bg(short_basis).repeat(2, 1)
        angle_weight = bond_weight.index_select(0, left) * bond_weight.index_select(0, right)
        origin = torch.cat([center[:n_short], neighbor[:n_short]])

        def bond_tables(mlp: _GatedMLP) -> tuple[Tensor, Tensor]:
            """Apply the perceptron's first layer to directed bonds, as first and as second end."""
            at_atom = torch.addmm(mlp.bias, atom, mlp.inputs[3]).index_select(0, origin)
            first, second = (short @ w for w in mlp.inputs[:2])
            return at_atom + first.repeat(2, 1), second.repeat(2, 1)

        for k, layer in enumerate(model.atom_conv_layers):
            if k == len(self._bond_mlps):
                moments = model.site_wise(atom.detach()).abs().view(-1)
            mlp = self._atom_mlps[k]
            first = torch.addmm(mlp.bias, atom, mlp.inputs[0])
            message = self._sum(
                first,
                atom @ mlp.inputs[2],
                torch.cat([short, long])[:, None],
                atom_weight,
                (center, neighbor),
                mlp,
                mlp.inputs[1],
            )
            atom = atom + layer.mlp_out(message)
            if k == len(self._bond_mlps) or len(left) == 0:
                continue
            mlp = self._bond_mlps[k]
            message = self._sum(
                *bond_tables(mlp), angle, angle_weight, (left, right), mlp, mlp.inputs[2]
            )
            message = message[:n_short] + message[n_short:]
            short = short + model.bond_conv_layers[k].mlp_out(message)
            if k + 1 < len(self._bond_mlps):  # nothing reads the last layer's angles
                mlp = self._angle_mlps[k]
                angle = self._add(*bond_tables(mlp), angle, (left, right), mlp, mlp.inputs[2])
        return model.mlp(model.readout_norm(atom)).view(-1).double(), moments

    def _sum(
        self,
        first: Tensor,
        second: Tensor,
        own: Tensor,
        weight: Tensor,
        ends: tuple[Tensor, Tensor],
        mlp: _GatedMLP,
        matrix: Tensor,
    ) -> Tensor:
        """`_sum_messages`, fused where possible."""
        if not self._fused:
            return _sum_messages(first, second, own, weight, ends, mlp, matrix)
        rows = ends[0].numpy(), ends[1].numpy()
        return _SumMessages.apply(first, second, own, weight, rows, mlp, matrix, self._space)

    def _add(
        self,
        first: Tensor,
        second: Tensor,
        own: Tensor,
        ends: tuple[Tensor, Tensor],
        mlp: _GatedMLP,
        matrix: Tensor,
    ) -> Tensor:
        """`_add_messages`, fused where possible."""
        if not self._fused:
            return _add_messages(first, second, own, ends, mlp, matrix)
        rows = ends[0].numpy(), ends[1].numpy()
        return _AddMessages.apply(first, second, own, rows, mlp, matrix, self._space)


class FastCHGNetCalculator(Calculator):
    """ASE calculator that computes only what is asked for.

    Parameters
    ----------
    model : FastCHGNet, optional
        A model to share between calculators; one of its own by default.
    **kwargs
        Passed on to ASE's ``Calculator``.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "magmoms"]

    def __init__(self, model: FastCHGNet | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = FastCHGNet() if model is None else model

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate `atoms`; energy and forces always, stress and moments where asked for."""
        wanted = properties or ["energy"]
        super().calculate(atoms, wanted, system_changes)
        (result,) = self.model.evaluate(
            [self.atoms], stress="stress" in wanted, magmoms="magmoms" in wanted
        )
        self.results |= {
            "energy": result.energy,
            "free_energy": result.energy,
            "forces": result.forces,
        }
        if result.stress is not None:
            self.results["stress"] = result.stress
        if result.magmoms is not None:
            self.results["magmoms"] = result.magmoms
