"""Bonding by DFT in an NMC-type cell with O3, O4 and O5 (docs/validation.md, "Bonding by DFT").

``python scripts/bonding_validation.py cells FOLDER`` builds and relaxes the cells;
``python scripts/bonding_validation.py bonding FOLDER --state discharged --basis sz --mesh 1 1 1``
computes the bonding of one of them; ``forces`` in place of ``bonding`` its DFT forces; and
``python scripts/bonding_validation.py tables FOLDER`` writes tables and figures of all results.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from monty.serialization import dumpfn, loadfn
from pymatgen.core import Structure

from lrlo.analysis.bonding import analyse_bonding
from lrlo.analysis.bonding_documents import BondingResult, EnergyWindow
from lrlo.analysis.bonding_figures import cohp_figure, pdos_figure
from lrlo.structures.frame import SiteKind
from lrlo.structures.hops import PathClass, all_hops
from lrlo.structures.layered_oxide import build_pristine
from lrlo.structures.occupation import Occupation
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.workflows.backend import BackendSpec, load_backend
from lrlo.workflows.gpaw_backend import GpawBackend
from lrlo.workflows.gpaw_lcao import GpawLcao
from lrlo.workflows.gpaw_settings import GpawSettings
from lrlo.workflows.relax import RelaxDocument, RelaxMaker, to_atoms

#: Charge-balanced with Ni2+, Co3+ and Mn4+; the smallest single honeycomb layer in which a vacancy
#: and a Li of the TM layer can become neighbours, which is what makes an O5.
COMPOSITION = "Li1.22Ni0.11Mn0.56Co0.11O2"
N_ATOMS, SEED = 36, 7
FMAX = 0.02  # eV/Å
CLASSES = (OxygenClass.O3, OxygenClass.O4, OxygenClass.O5)
COLUMNS = [f"-ICOHP {o_class.value}" for o_class in CLASSES]


def relaxed(
    occupation: Occupation, structure: Structure | None = None, *, cell: bool
) -> RelaxDocument:
    """Structure of an occupation relaxed by the emulator, still on its sites."""
    maker = RelaxMaker(relax_cell=cell, fmax=FMAX, max_steps=400)
    make = RelaxMaker.make.original  # type: ignore[attr-defined]  # run here, not as a job
    start = occupation.to_structure() if structure is None else structure
    document: RelaxDocument = make(maker, start, occupation.frame)
    if not document.converged:
        raise SystemExit(f"not relaxed: largest force {document.max_force:.3f} eV/Å")
    if document.occupation.species != occupation.species:
        print(f"{start.composition.formula} left its sites on relaxation")
    return document


def on_cell_of(document: RelaxDocument, occupation: Occupation) -> Structure:
    """Ideal positions of an occupation in a relaxed cell."""
    ideal = occupation.to_structure()
    return Structure(document.structure.lattice, ideal.species, ideal.frac_coords)


def make_cells(folder: Path) -> None:
    """Pristine, charged with a migrated Mn, and discharged cells, each relaxed by the emulator."""
    pristine = build_pristine(
        COMPOSITION, min_atoms=N_ATOMS, max_atoms=N_ATOMS, seed=SEED
    ).occupation
    host = relaxed(pristine, cell=True)
    dumpfn(host, folder / "pristine.json")
    print(f"pristine {host.structure.composition.formula} {host.energy:.4f} eV")
    # Li leaves a honeycomb centre and a neighbouring Mn moves there: the move of lowest energy.
    moved: dict[tuple[int, int], Occupation] = {}
    for centre in pristine.sites_of("Li", SiteKind.TM_OCT):
        vacant = pristine.with_species({centre: None})
        for hop in all_hops(vacant, ["Mn"], PathClass.IN_PLANE):
            moved[hop.start, hop.end.site] = vacant.with_species(
                {hop.start: None, hop.end.site: "Mn"}
            )
    energies = {}
    for move, occupation in sorted(moved.items()):
        document = relaxed(occupation, on_cell_of(host, occupation), cell=False)
        energies[move] = document.energy
        print(f"Mn from site {move[0]} to {move[1]}: {document.energy:.4f} eV")
    left, _ = best = min(energies, key=lambda move: energies[move])
    migrated = moved[best]
    discharged = migrated.with_species({left: "Li"})
    # A second Li, of the Li layer, makes Ni4+, Co3+ and Mn4+ of the charged cell.
    emptied = [
        migrated.with_species({site: None}) for site in migrated.sites_of("Li", SiteKind.LI_OCT)
    ]
    atoms = [to_atoms(on_cell_of(host, occupation)) for occupation in emptied]
    unrelaxed = [result.energy for result in load_backend(BackendSpec()).evaluate(atoms)]
    charged = emptied[int(np.argmin(unrelaxed))]
    for name, occupation in (("discharged", discharged), ("charged", charged)):
        document = relaxed(occupation, on_cell_of(host, occupation), cell=True)
        dumpfn(document, folder / f"{name}.json")
        document.structure.to_file(str(folder / f"{name}.cif"))
        print(f"{name} {document.structure.composition.formula} {document.energy:.4f} eV")


def settings_of(options: argparse.Namespace) -> GpawSettings:
    """Settings of GPAW; all that is not given is the package's default."""
    return GpawSettings(
        basis=options.basis, k_mesh=tuple(options.mesh), n_ranks=options.ranks, max_seconds=86400
    )


def start_moments(document: RelaxDocument, options: argparse.Namespace) -> list[float] | None:
    """Moments that DFT starts from: the emulator's, but for the elements given."""
    given = {element: float(moment) for element, moment in (m.split("=") for m in options.start)}
    symbols = [site.specie.symbol for site in document.structure]
    if document.magmoms is None:
        return None
    return [given.get(e, m) for e, m in zip(symbols, document.magmoms, strict=True)]


def compute_bonding(folder: Path, options: argparse.Namespace) -> None:
    """Bonding of one relaxed cell, kept as JSON."""
    document: RelaxDocument = loadfn(folder / f"{options.state}.json")
    settings = settings_of(options)
    start = start_moments(document, options)
    solution = GpawLcao(settings).solve(document.structure, start)
    result = analyse_bonding(solution, document.structure, document.frame, EnergyWindow())
    mesh = "x".join(map(str, options.mesh))
    name = "_".join(["bonding", options.state, options.basis, mesh, *options.start])
    dumpfn(result, folder / f"{name}.json")
    print(json.dumps(summary(result), indent=1))


def check_forces(folder: Path, options: argparse.Namespace) -> None:
    """Energy and forces by DFT at the geometry of one relaxed cell, kept as JSON."""
    document: RelaxDocument = loadfn(folder / f"{options.state}.json")
    backend = GpawBackend(
        {
            **{"mode": "lcao", "basis": options.basis, "k_mesh": options.mesh},
            **{"n_ranks": options.ranks, "max_seconds": 86400},
        }
    )
    atoms = to_atoms(document.structure)
    atoms.set_initial_magnetic_moments(start_moments(document, options))
    (found,) = backend.evaluate([atoms], magmoms=True)
    size = np.linalg.norm(found.forces, axis=1)
    symbols = np.array(atoms.get_chemical_symbols())
    numbers = {
        "level of theory": str(backend.level_of_theory),
        "energy (eV)": found.energy,
        "moment (Bohr magneton)": float(sum(found.magmoms)) if found.magmoms is not None else None,
        "largest force (eV/Å)": float(size.max()),
        "on": str(symbols[size.argmax()]),
        "root mean square (eV/Å)": float(np.sqrt((size**2).mean())),
        "by element (eV/Å)": {e: float(size[symbols == e].mean()) for e in sorted(set(symbols))},
    }
    name = "_".join(["forces", options.state, *options.start])
    (folder / f"{name}.json").write_text(json.dumps(numbers, indent=1))
    print(json.dumps(numbers, indent=1, ensure_ascii=False))


def summary(result: BondingResult) -> dict[str, Any]:
    """What the table of docs/validation.md says of one calculation."""
    classes = {
        row.o_class.value: {
            "O": row.n_oxygen,
            "bonds": row.n_bonds,
            "O 2p in window": row.window_weight and round(row.window_weight.mean, 3),
            "non-bonding part": row.window_nonbonding and round(row.window_nonbonding.mean, 3),
            "band top": row.band_top and round(row.band_top.mean, 2),
            "-ICOHP": row.minus_icohp and round(row.minus_icohp.mean, 2),
            "spread": row.minus_icohp and round(row.minus_icohp.spread, 2),
            "length": row.length and round(row.length.mean, 3),
        }
        for row in result.classes
    }
    return {
        "gap": result.gap,
        "moment": result.total_moment,
        "tm_moments": {
            e: (round(m.mean, 2), round(m.spread, 2)) for e, m in result.tm_moments.items()
        },
        "ratios": result.ratios.model_dump(),
        "classes": classes,
        "marks": result.marks,
        "tries": len(result.scf.attempts),
    }


def write_tables(folder: Path) -> None:
    """Tables of all results in Markdown, and figures of every one."""
    results = {p.stem.removeprefix("bonding_"): loadfn(p) for p in sorted(folder.glob("bonding_*"))}
    print(f"| cell, basis, k mesh | gap | O5:O4 O 2p | non-bonding | {' | '.join(COLUMNS)} | SCF |")
    print("|---" * (5 + len(COLUMNS)) + "|")
    for label, result in results.items():
        rows = [result.of_class(o_class) for o_class in (CLASSES)]
        strengths = [f"{row.minus_icohp.mean:.2f} ± {row.minus_icohp.spread:.2f}" for row in rows]
        ratios = f"{result.ratios.window_weight:.2f} | {result.ratios.window_nonbonding:.2f}"
        print(
            f"| {label.replace('_', ', ')} | {result.gap:.2f} | {ratios} | {' | '.join(strengths)} "
            f"| {result.scf.final.settings} |"
        )
    for label, result in results.items():
        print(f"\n{label}, -ICOHP by element and class (eV per bond), length (Å):")
        for element in sorted({bond.element for bond in result.bonds}):
            for o_class in CLASSES:
                bonds = [b for b in result.bonds if (b.element, b.o_class) == (element, o_class)]
                if bonds:
                    strength = np.mean([b.minus_icohp for b in bonds])
                    length = np.mean([b.length for b in bonds])
                    print(f"{element}-{o_class.value}: {strength:.2f}, {length:.3f}, {len(bonds)}")
        for name, draw in (("pdos", pdos_figure), ("cohp", cohp_figure)):
            draw({label: result}).savefig(folder / f"{label}_{name}.png", dpi=90)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cells", "bonding", "forces", "tables"])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--state", default="discharged", choices=["pristine", "discharged", "charged"]
    )
    parser.add_argument("--basis", default="sz", choices=["sz", "dzp"])
    parser.add_argument("--mesh", type=int, nargs=3, default=[1, 1, 1])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument(
        "--start",
        nargs="*",
        default=[],
        metavar="ELEMENT=MOMENT",
        help="moments to start from instead of the emulator's, such as Co=0 for low spin",
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.what == "cells":
        make_cells(options.folder)
    elif options.what == "bonding":
        compute_bonding(options.folder, options)
    elif options.what == "forces":
        check_forces(options.folder, options)
    else:
        write_tables(options.folder)


if __name__ == "__main__":
    main()
