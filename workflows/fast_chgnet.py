"""Fast CHGNet inference: energies, forces, stresses and magnetic moments.

The values are those of stock CHGNet (to float32 rounding); only the way to them differs:

* The first linear layer of each gated perceptron acts on concatenated features, so it is
  a sum of products that are computed once per atom and once per bond, then gathered.
* Bonds and angles come in pairs of opposite orientation (i to j and j to i) that share
  their geometry, their weights and the product with their own feature.
* Bonds longer than the bond-graph cutoff take part in no angle: their features never change.
* Gradients of the message layers are written by hand, in blocks that stay in the cache
  (numba; plain torch operations stand in for it on a GPU).
* Forces and stress both follow from the gradient by bond vectors, so stress is free.
* All structures of a call (the images of a band) share one graph.

Building the graph takes about 1 % of an evaluation, so no neighbour list is kept between
calls: nothing can be stale. On one machine, the same call returns the same bits, in any process,
on any number of CPU threads and whatever was evaluated before (a GPU, which sums in any order,
returns the same to rounding).
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from chgnet.model import CHGNet
from torch import Tensor

from .chgnet_graph import Graph, build_graph, merge_graphs
from .chgnet_layers import GatedMLP, Workspace, add_messages, sum_messages
from .evaluation import Evaluation

__all__ = ["Evaluation", "FastCHGNet", "FastCHGNetCalculator"]

_MAX_ROWS = 40_000  # bonds + angle pairs evaluated at once: about 0.4 GB

# one evaluation at a time: each takes all of torch's threads, and a model's workspace
_LOCK = threading.Lock()


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
        with contextlib.redirect_stdout(io.StringIO()):  # it greets on loading
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
        self._atom_mlps = [GatedMLP(layer.twoBody_atom, 1) for layer in model.atom_conv_layers]
        self._bond_mlps = [GatedMLP(layer.twoBody_bond, 2) for layer in model.bond_conv_layers]
        self._angle_mlps = [GatedMLP(layer.twoBody_bond, 2) for layer in model.angle_layers]
        self._fused = self.device.type == "cpu"
        self._space = Workspace()

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
                if stop > start and n_rows + graph.n_rows > _MAX_ROWS:
                    batch = structures[start:stop]
                    results += self._evaluate(batch, graphs[start:stop], stress, magmoms)
                    start, n_rows = stop, 0
                n_rows += graph.n_rows
            if start < len(graphs):
                results += self._evaluate(structures[start:], graphs[start:], stress, magmoms)
        return results

    def _checked_graph(self, index: int, atoms: Atoms) -> Graph:
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
        graph = build_graph(atoms, self._cutoff, self._bond_cutoff)
        isolated = np.setdiff1d(np.arange(len(atoms)), graph.bonds)
        if len(isolated):
            raise ValueError(
                f"{where}: no neighbour within {self._cutoff:g} Å of atom(s) {isolated.tolist()}"
            )
        return graph

    def _evaluate(
        self,
        structures: Sequence[Atoms],
        graphs: Sequence[Graph],
        stress: bool,
        magmoms: bool,
    ) -> list[Evaluation]:
        """Evaluate structures in one graph."""
        sizes = [len(atoms) for atoms in structures]
        graph = merge_graphs(graphs, sizes)
        numbers = np.concatenate([atoms.numbers for atoms in structures])
        # float64 where it is cheap: near straight angles float32 vectors lose digits
        vectors = torch.tensor(graph.vectors, device=self.device, requires_grad=True)
        with self._space:
            site_energies, site_magmoms = self._forward(numbers, graph, vectors)
            (gradient,) = torch.autograd.grad(site_energies.sum(), vectors)
        pull = gradient.cpu().numpy()
        center, neighbor = graph.bonds
        n_atoms = len(numbers)
        forces = np.stack(
            [np.bincount(center, p, n_atoms) - np.bincount(neighbor, p, n_atoms) for p in pull.T],
            axis=1,
        )
        energies = site_energies.detach().cpu().numpy() + self._element_energies[numbers - 1]
        moments = site_magmoms.cpu().numpy().astype(float)

        owner = np.repeat(np.arange(len(sizes)), sizes)[graph.bonds[0]]
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

    def _forward(self, numbers: np.ndarray, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (float64, eV, without element energies) and moments of the atoms."""
        model, n_short = self._model, graph.n_short
        space = self._space if self._fused else None
        bonds = torch.as_tensor(graph.bonds, device=self.device)
        angles = torch.as_tensor(graph.angles, device=self.device)

        length = vectors.norm(dim=1)
        unit = vectors[:n_short] / length[:n_short, None]
        unit = torch.cat([unit, -unit])
        cosine = (unit.index_select(0, angles[0]) * unit.index_select(0, angles[1])).sum(1)
        theta = torch.acos(cosine * (1 - 1e-6)).float()  # the factor is stock's
        length = length.float()
        basis = model.bond_basis_expansion.rbf_expansion_ag(length)
        short_basis = model.bond_basis_expansion.rbf_expansion_bg(length[:n_short])

        atom = model.atom_embedding(torch.as_tensor(numbers, device=self.device) - 1)
        short, long = model.bond_embedding(basis).tensor_split([n_short])
        angle = model.angle_embedding(model.angle_basis_expansion.fourier_expansion(theta))[:, None]
        bond_weight = model.bond_weights_ag(basis)
        short_weight = model.bond_weights_bg(short_basis).repeat(2, 1)
        angle_weight = short_weight.index_select(0, angles[0])
        angle_weight = angle_weight * short_weight.index_select(0, angles[1])
        origin = bonds[:, :n_short].flatten()

        def bond_tables(mlp: GatedMLP) -> tuple[Tensor, Tensor]:
            """Apply the perceptron's first layer to directed bonds, as first and as second end."""
            at_atom = torch.addmm(mlp.bias, atom, mlp.inputs[3]).index_select(0, origin)
            first, second = (short @ w for w in mlp.inputs[:2])
            return at_atom + first.repeat(2, 1), second.repeat(2, 1)

        n_bond_layers = len(self._bond_mlps)  # one less than atom layers
        for k, (mlp, layer) in enumerate(zip(self._atom_mlps, model.atom_conv_layers, strict=True)):
            if k == n_bond_layers:
                moments = model.site_wise(atom.detach()).abs().view(-1)
            first = torch.addmm(mlp.bias, atom, mlp.inputs[0])
            second = atom @ mlp.inputs[2]
            bond = torch.cat([short, long])[:, None]
            message = sum_messages(first, second, bond, bond_weight, bonds, mlp, space)
            atom = atom + layer.mlp_out(message)
            if k == n_bond_layers or graph.angles.size == 0:
                continue
            mlp = self._bond_mlps[k]
            message = sum_messages(*bond_tables(mlp), angle, angle_weight, angles, mlp, space)
            message = message[:n_short] + message[n_short:]
            short = short + model.bond_conv_layers[k].mlp_out(message)
            if k + 1 < n_bond_layers:  # nothing reads the last layer's angles
                mlp = self._angle_mlps[k]
                angle = add_messages(*bond_tables(mlp), angle, angles, mlp, space)
        return model.mlp(model.readout_norm(atom)).view(-1).double(), moments


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
