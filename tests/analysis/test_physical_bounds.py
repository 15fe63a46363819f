"""What is collapsed, dissociated, too low, too high or over-magnetised is named."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from lrlo.analysis.physical_bounds import (
    PhysicalBounds,
    distance_problem,
    energy_problem,
    moment_problem,
)
from lrlo.structures.crystals import build_crystal

LI2MNO3 = build_crystal("Li2MnO3")


def pair(first: str, second: str, distance: float) -> Structure:
    cell = Lattice.cubic(30)
    return Structure(
        cell, [first, second], [[0, 0, 0], [distance, 0, 0]], coords_are_cartesian=True
    )


def test_crystals_and_peroxides_keep_the_bounds() -> None:
    assert distance_problem(LI2MNO3) == ""
    assert distance_problem(pair("O", "O", 1.21)) == ""  # molecular oxygen
    assert distance_problem(LI2MNO3.copy().apply_strain(-0.1)) == ""


def test_atoms_that_fell_together_are_named() -> None:
    assert distance_problem(pair("Mn", "O", 1.1)) == "collapsed: Mn 0 and O 1 are 1.10 Å apart"
    across = Structure(Lattice.cubic(10), ["O", "O"], [[0.02, 0, 0], [0.97, 0, 0]])
    assert "0.50 Å apart" in distance_problem(across)


def test_an_atom_that_flew_away_is_named() -> None:
    apart = pair("Mn", "O", 2.0)
    apart.append("O", [0.5, 0.5, 0.5])
    assert distance_problem(apart).startswith("dissociated: O 2 is 25.")


def test_a_lone_atom_has_no_neighbour_to_leave() -> None:
    assert distance_problem(Structure(Lattice.cubic(5), ["Cu"], [[0, 0, 0]])) == ""


def test_energies_of_a_path() -> None:
    assert energy_problem([0, 1.2, 2.6, 1.0, 0.3], 60) == ""
    assert energy_problem([0, 0.2, -9.0, 0.2, 0.1], 60) == (
        "a hole: image 2 is 0.15 eV per atom below both end states"
    )
    assert energy_problem([0, 90.0, 0.5], 60).startswith("image 1 is 1.49 eV per atom above")
    assert energy_problem([0, 0.2, -9.0, 0.2, 0.1], 60, PhysicalBounds(drop=0.2)) == ""


@pytest.mark.parametrize(("tm", "oxygen", "named"), [(3.1, 0.1, ""), (6.2, 0.1, "Mn"), (3, 2, "O")])
def test_moments(tm: float, oxygen: float, named: str) -> None:
    moments = [{"Mn": tm, "O": -oxygen}.get(site.specie.symbol, 0.0) for site in LI2MNO3]
    problem = moment_problem(LI2MNO3, moments)
    assert problem.startswith(named)
    assert bool(problem) == bool(named)


def test_moments_of_another_structure_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        moment_problem(LI2MNO3, np.zeros(3).tolist())
