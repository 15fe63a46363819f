"""Supercells of a study: variants, defects, strain and special stackings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lrlo.analysis.level_of_theory import LevelOfTheory
from lrlo.structures.assignment import assign
from lrlo.structures.catalogue import BUILDERS
from lrlo.structures.composition import CompositionError
from lrlo.structures.frame import LI_LAYER, TETRAHEDRA, TM_LAYER, SiteKind
from lrlo.structures.hops import PathClass, hops_without_lithium, surroundings
from lrlo.structures.oxygen_environment import oxygen_environments
from lrlo.structures.structure_files import StructureFormat, structure_text
from lrlo.workflows.relax import RelaxDocument
from lrlo.workflows.states import refilled
from lrlo.workflows.study import Study, StudyError, read_study
from lrlo.workflows.study_flow import study_flow
from lrlo.workflows.study_model import StudyModel, model_study, two_phases

BASE: dict[str, Any] = {
    "name": "s",
    "composition": "Li1.2Ni0.2Mn0.6O2",
    "structure": {"min_atoms": 24, "max_atoms": 60},
    "states": [{"label": "pristine"}, {"label": "charged", "li_content": 0.4}],
}


def models(**changes: Any) -> list[StudyModel]:
    return model_study(Study.model_validate({**BASE, **changes}))


def message(tmp_path: Path, changes: Mapping[str, Any]) -> str:
    """What reading a study file with a mistake says."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}))
    with pytest.raises(StudyError) as error:
        model_study(read_study(path))
    return str(error.value)


def test_a_study_without_variants_is_one_structure() -> None:
    (model,) = models()
    assert model.context.variant == ""
    assert model.label == ""
    assert model.host.charge.change == 0


def test_variants_change_only_what_they_say() -> None:
    found = models(
        variants=[
            {"label": "as it is"},
            {"label": "O2", "structure": {"stacking": "O2"}},
            {"label": "less Ni", "composition": "Li1.2Ni0.1Mn0.6Co0.1O2"},
        ]
    )
    assert [model.label for model in found] == ["as it is", "O2", "less Ni"]
    assert [model.context.stacking for model in found] == ["O3", "O2", "O3"]
    assert all(len(model.host.structure) <= 60 for model in found)
    assert "Co" in found[2].host.occupation.count()
    assert found[0].host.occupation.species == models()[0].host.occupation.species


def test_seeds_and_variants_multiply() -> None:
    found = models(
        structure={**BASE["structure"], "seed": [1, 2]},
        variants=[{"label": "a"}, {"label": "b", "structure": {"seed": 3}}],
    )
    assert [model.label for model in found] == ["a, seed 1", "a, seed 2", "b"]


def test_dopant_replaces_ions_and_keeps_the_charge_book() -> None:
    (model,) = models(defects=[{"dopant": "Al", "replaces": "Mn"}])
    before, after = models()[0].host.occupation.count(), model.host.occupation.count()
    assert after["Al"] == 1
    assert after["Mn"] == before["Mn"] - 1
    assert model.host.charge.change == pytest.approx(-1.0)  # Al(III) for Mn(IV)
    assert model.context.dopants == ["Al"]
    assert model.context.charge_imbalance == model.host.charge.after


def test_dopants_stay_in_the_layer_asked_for() -> None:
    structure = {"min_atoms": 48, "max_atoms": 80, "stacking": "O2"}
    dopants = {"dopant": "Al", "replaces": "Mn", "count": 2, "layer": 1}
    (model,) = models(structure=structure, defects=[dopants])
    occupation = model.host.occupation
    assert {int(occupation.frame.layers[site]) for site in occupation.sites_of("Al")} == {1}


def test_fluorine_sits_on_the_anion_sublattice() -> None:
    (model,) = models(defects=[{"dopant": "F", "site_class": "anion", "count": 2}])
    host = model.host
    read = assign(host.structure, host.occupation.frame)
    assert not read.unexplained
    assert read.occupation.count(SiteKind.ANION)["F"] == 2
    n_oxygen = host.occupation.count()["O"]
    assert len(oxygen_environments(host.occupation)) == n_oxygen


@pytest.mark.parametrize(
    ("defect", "lost"),
    [
        ({"antisite": "Ni"}, {}),
        ({"oxygen_vacancies": 1, "o_class": "O4"}, {"O": 1}),
        ({"tri_vacancy": True, "n_tm_layer": 1}, {"Li": 3}),
    ],
)
def test_defects_are_made(defect: dict[str, Any], lost: dict[str, int]) -> None:
    (plain,), (model,) = models(), models(defects=[defect])
    difference = plain.host.occupation.count() - model.host.occupation.count()
    assert dict(difference) == lost
    if "antisite" in defect:
        assert model.host.occupation.count(*LI_LAYER)["Ni"] == 1
        assert model.host.charge.change == 0


def test_oxygen_vacancy_lies_near_a_hop_of_the_full_host() -> None:
    """The O whose edge or face the mover passes, of those around the least hindered hop."""
    near = {"mover": "Mn", "path_class": "in_plane", "max_distance": 2.2}
    (model,) = models(defects=[{"oxygen_vacancies": 1, "near_hop": near}])
    (plain,) = models()
    before, after = plain.host.occupation, model.host.occupation
    assert dict(before.count() - after.count()) == {"O": 1}
    (missing,) = after.sites_of(None, SiteKind.ANION)
    hop = hops_without_lithium(before, "Mn", PathClass.IN_PLANE)[0]
    passed = {v.site for site in (hop.start, hop.end.site) for v in before.frame.vertices[site]}
    assert missing in passed
    assert surroundings(after, hop).n_oxygen_vacancies == 1
    assert model.context.defects == [
        "oxygen_vacancies 1, near_hop (mover Mn, path_class in_plane, hop 1, max_distance 2.2)"
    ]


def test_oxygen_dimer_moves_two_atoms_only() -> None:
    (plain,), (model,) = models(), models(defects=[{"oxygen_dimer": 1.45}])
    moved = model.host.structure.frac_coords - plain.host.structure.frac_coords
    assert np.count_nonzero(np.abs(moved - np.round(moved)).max(axis=1) > 1e-6) == 2
    distances = model.host.structure.distance_matrix[np.triu_indices(len(model.host.structure), 1)]
    assert distances.min() == pytest.approx(1.45)


def test_oxygen_dimer_points_along_a_direction() -> None:
    (model,) = models(defects=[{"oxygen_dimer": 1.3, "direction": [0, 0, 2]}])
    structure = model.host.structure
    distances = structure.distance_matrix + 9 * np.eye(len(structure))
    first, second = np.unravel_index(distances.argmin(), distances.shape)
    _, image = structure.sites[first].distance_and_image(structure.sites[second])
    step = structure.frac_coords[second] + image - structure.frac_coords[first]
    vector = structure.lattice.get_cartesian_coords(step)
    assert np.abs(vector) == pytest.approx([0, 0, 1.3], abs=1e-6)


def test_faults_at_a_density_and_by_angle() -> None:
    (model,) = models(
        composition="Li2MnO3", structure={"faults": {"angles": [0, 120], "in_plane": [1, 1]}}
    )
    assert {e.o_class for e in oxygen_environments(model.host.occupation)} == {"O4"}
    (drawn,) = models(composition="Li2MnO3", structure={"faults": {"n_layers": 4, "density": 0.5}})
    assert drawn.host.occupation.frame.n_layers == 4


def test_domains_hold_the_whole_composition() -> None:
    (model,) = models(composition="Li1.2Mn0.4Co0.4O2", structure={"domains": {"rich_rows": 6}})
    composition = model.host.composition
    assert composition.n_formula_units == len(model.host.occupation.frame.sites(SiteKind.TM_OCT))
    assert composition.total_deviation < 0.02
    assert composition.tm_layer_counts == dict(model.host.occupation.count(*TM_LAYER))


def test_composition_splits_into_two_phases() -> None:
    x, poor = two_phases("Li1.2Ni0.2Mn0.6O2", "Mn")
    assert (x, poor) == (0.5, "LiMn0.5Ni0.5O2")


@pytest.mark.parametrize("stacking", ["O3", "O2", "O1", "P3", "H1-3"])
def test_every_stacking_is_refilled_as_it_was(stacking: str) -> None:
    """Li put back into the emptied host is the pristine crystal again."""
    (model,) = models(structure={"stacking": stacking, "min_atoms": 12, "max_atoms": 80})
    check_refill(model)


def check_refill(model: StudyModel) -> None:
    """Li put back into the emptied host is the pristine crystal again."""
    occupation = model.host.occupation
    keep = [site for site in occupation.occupied() if occupation.species[site] != "Li"]
    emptied = RelaxDocument(
        structure=occupation.to_structure(keep),
        frame=occupation.frame,
        **{"energy": 0.0, "magmoms": None, "max_force": 0.0, "converged": True},
        **{"n_force_calls": 0, "relaxed_cell": False, "wall_time": 0.0},
        level_of_theory=LevelOfTheory(backend="ase", model="none", version=""),
    )
    filled = assign(refilled(emptied), occupation.frame).occupation
    assert filled.species == occupation.species


def test_structures_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "cell.cif"
    models()[0].host.structure.to(filename=str(path))
    (model,) = models(structure={"file": str(path)})
    assert model.host.occupation.count() == models()[0].host.occupation.count()
    assert model.context.stacking == "O3"
    assert (model.context.superlattice, model.context.tm_order) == (str(path), "")
    (crystal,) = models(composition="Li2MnO3", structure={"file": "Li2MnO3"})
    assert {e.o_class for e in oxygen_environments(crystal.host.occupation)} == {"O4"}


def test_cations_are_ordered_as_asked_for() -> None:
    """Neighbours of unlike kind, beside the random ones of the same composition."""
    structure = {"superlattice": "random", "min_atoms": 48, "max_atoms": 48}
    paired = {**structure, "tm_order": {"short_range_order": {"Mn-Ni": [-0.22]}}}
    found = models(
        composition="LiNi0.5Mn0.5O2",
        structure=structure,
        variants=[{"label": "random"}, {"label": "paired", "structure": paired}],
    )
    first = [model.host.order.short_range_order["Mn-Ni"][0] for model in found]
    assert first[1] == pytest.approx(-0.22, abs=0.03)
    assert first[0] > first[1]
    assert [model.context.tm_order for model in found] == [
        "sqs",
        "short_range_order (Mn-Ni -0.22)",
    ]


def test_cations_between_random_and_a_parent(tmp_path: Path) -> None:
    """At order 1 the cell of the parent finds the parent's order, Li of the TM layer included."""
    (parent,) = models(composition="Li2MnO3", structure={"min_atoms": 24, "max_atoms": 24})
    path = tmp_path / "parent.cif"
    parent.host.structure.to(filename=str(path))
    order = {"parent": str(path), "order": 1.0}
    structure = {"superlattice": "random", "min_atoms": 24, "max_atoms": 24, "tm_order": order}
    (model,) = models(composition="Li2MnO3", structure=structure)
    assert model.host.occupation.count() == parent.host.occupation.count()
    assert model.host.order.short_range_order["Li-Mn"][0] < 0


ROCK_SALT = {"stacking": "disordered-rock-salt", "min_atoms": 32, "max_atoms": 40}


def test_disordered_rock_salt_beside_a_layered_oxide() -> None:
    """One cation sublattice: no superlattice, no layers, Li counted in all."""
    found = models(
        composition="Li1.2Mn0.4Ti0.4O2",
        structure={**BASE["structure"], "superlattice": "honeycomb"},
        variants=[{"label": "layered"}, {"label": "rock salt", "structure": ROCK_SALT}],
    )
    assert [model.context.stacking for model in found] == ["O3", "disordered rock salt"]
    assert [model.context.superlattice for model in found] == ["honeycomb", ""]
    occupation = found[1].host.occupation
    assert occupation.count() == {"Li": 12, "Mn": 4, "Ti": 4, "O": 20}
    assert found[1].n_divisions == 1
    assert found[1].n_shared_lithium == 12
    assert found[1].context.sqs_objective > 0
    target = found[1].targets[1]
    assert target is not None
    assert (target.n_li, target.quota) == (4, None)


def test_rock_salt_has_hops_of_its_own() -> None:
    """Those of TM between octahedra unless others are asked for."""
    (model,) = models(composition="Li1.2Mn0.4Ti0.4O2", structure=ROCK_SALT)
    frame = model.host.occupation.frame
    hops = model.study.hops
    assert hops is not None
    assert hops.classes_on(frame) == (PathClass.TM_HOP,)
    assert hops.classes_on(models()[0].host.occupation.frame) == tuple(hops.classes)
    (given,) = models(
        composition="Li1.2Mn0.4Ti0.4O2", structure=ROCK_SALT, hops={"classes": ["li_hop"]}
    )
    assert given.study.hops is not None
    assert given.study.hops.classes_on(frame) == (PathClass.LI_HOP,)


def test_spinels_and_rock_salts_are_end_points(tmp_path: Path) -> None:
    """Any oxide from a file, whatever its cations, beside what is built."""
    for name in ("spinel", "oxide-spinel", "monoxide"):
        built = BUILDERS[name].build(metal="Mn")
        (tmp_path / f"{name}.json").write_text(structure_text(built, StructureFormat.JSON))
    found = models(
        composition="LiMnO2",
        states=[{"label": "pristine"}],
        variants=[
            {"label": "layered"},
            *(
                {
                    "label": formula,
                    "composition": formula,
                    "structure": {"file": str(tmp_path / f"{name}.json")},
                }
                for formula, name in (
                    ("LiMn2O4", "spinel"),
                    ("Mn3O4", "oxide-spinel"),
                    ("MnO", "monoxide"),
                )
            ),
        ],
    )
    assert [model.context.realised for model in found[1:]] == [
        {"Li": 0.5, "Mn": 1.0},
        {"Mn": 1.5},
        {"Mn": 2.0},
    ]
    assert all(model.host.composition.total_deviation == 0 for model in found)
    assert [model.context.charge_imbalance for model in found[1:]] == [8.0, 32.0, 64.0]
    assert found[1].host.occupation.count(*TETRAHEDRA)["Li"] == 8


def test_rock_salt_is_refilled_as_it_was() -> None:
    (model,) = models(composition="Li1.2Mn0.4Ti0.4O2", structure=ROCK_SALT)
    check_refill(model)


def test_the_key_of_a_study_without_an_order_stays() -> None:
    """Results of studies that were written before there was a choice are found again."""
    assert Study.model_validate(BASE).model_dump(mode="json")["structure"]["tm_order"] == "sqs"


def test_strain_holds_the_cells() -> None:
    found = models(strain={"out_of_plane": 0.03})
    assert found[0].context.strain is not None
    names = [job.name for job, _ in study_flow(found).iterflow()]
    assert "strain" in names
    (sheared,) = models(strain={"in_plane": [0.02, -0.01, 0.005]})
    assert sheared.context.strain is not None
    assert sheared.context.strain.in_plane == pytest.approx(0.005)
    assert sheared.context.strain.components == (0.02, -0.01, 0.005)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"defects": [{"dopant": "Xx"}]}, "unknown elements"),
        ({"defects": [{"dopant": "Al", "site_class": "cage"}]}, "tm_layer_li"),
        ({"defects": [{"hole": 1}]}, "dopant, antisite"),
        ({"defects": [{"dopant": "Al", "replaces": "Fe"}]}, "no Fe on sites of class tm"),
        ({"defects": [{"antisite": "Ni", "choice": 99}]}, "allowed: 0 to"),
        (
            {"defects": [{"oxygen_vacancies": 1, "near_hop": {"max_distance": -1}}]},
            "near_hop.max_distance",
        ),
        (
            {"defects": [{"oxygen_vacancies": 1, "near_hop": {"max_distance": 0.2}}]},
            "raise max_distance",
        ),
        ({"defects": [{"oxygen_vacancies": 1, "near_hop": {"mover": "Xx"}}]}, "unknown elements"),
        (
            {"defects": [{"oxygen_vacancies": 1, "near_hop": {"mover": "Fe"}}]},
            "defects.0: no in_plane hop: no Fe on tm_oct",
        ),
        (
            {"defects": [{"oxygen_vacancies": 1, "near_hop": {"hop": 999}}]},
            "symmetry-distinct in_plane hops of Mn; allowed: 1 to",
        ),
        (
            {"defects": [{"oxygen_vacancies": 1, "near_hop": {"hop": 999}}]},
            "defects.0: near_hop.hop 999 of",
        ),
        ({"defects": [{"oxygen_vacancies": 1, "near_hop": {"hop": 0}}]}, "near_hop.hop"),
        ({"defects": [{"oxygen_vacancies": 2, "near_hop": {}}]}, "near_hop places one O"),
        ({"defects": [{"oxygen_vacancies": 1, "near_hop": {"path": "x"}}]}, "near_hop.path"),
        ({"defects": [{"oxygen_dimer": 5.0}]}, "oxygen_dimer"),
        ({"strain": {"in_plane": 0.5}}, "strain.in_plane: a principal strain of 0.500 exceeds"),
        ({"strain": {"in_plane": [0.1, 0.1]}}, "the three components xx, yy, xy"),
        ({"strain": {"in_plane": [0.1, 0.1, 0.1]}}, "strain.in_plane: a principal strain"),
        ({"strain": {"in_plane": "much"}}, "strain.in_plane: allowed: one number"),
        ({"defects": [{"dopant": "Al", "layer": 9}]}, "no site of class tm in layer 9"),
        ({"defects": [{"oxygen_dimer": 1.4, "direction": [0, 0, 0]}]}, "defects.0: "),
        ({"structure": {"file": "no-such.cif"}}, "neither a file nor a named crystal"),
        ({"structure": {"file": "NiO"}}, "asks for 1 Li, but the pristine cell holds 0"),
        (
            {"structure": {"stacking": "rock-salt"}},
            "structure.stacking: Input should be 'O3', 'O2', 'O1', 'P3', 'H1-3' or",
        ),
        (
            {"structure": {"stacking": "disordered-rock-salt", "superlattice": "mesh"}},
            "superlattice is of a TM layer, which the disordered rock salt has not",
        ),
        (
            {
                "composition": "Li1.2Mn0.78Ti0.02O2",
                "structure": {"stacking": "disordered-rock-salt", "max_atoms": 60},
            },
            "structure.max_atoms: no supercell with",
        ),
        (
            {
                "structure": {"stacking": "disordered-rock-salt"},
                "states": [{"label": "half", "li_layer": 0.5, "tm_layer": 0.0}],
            },
            "disordered rock salt has no layers; give li_content or a voltage",
        ),
        (
            {
                "structure": {"stacking": "disordered-rock-salt"},
                "strain": {"in_plane": 0.01},
            },
            "strain: in_plane and out_of_plane are of layers",
        ),
        ({"composition": "LiMn2O4"}, "composition: composition 'LiMn2O4' has 1.500 cations"),
        ({"structure": {"file": "LiCoO2", "stacking": "O2"}}, "file says what stacking would"),
        ({"structure": {"superlattice": "capped-honeycomb"}}, "cap goes with"),
        (
            {"structure": {"min_atoms": 12, "max_atoms": 20}},
            "structure.max_atoms: no supercell with 12 to 20 atoms",
        ),
        ({"composition": "Li1.6Mn0.4O2"}, "structure.superlattice: a honeycomb superlattice"),
        ({"structure": {"tm_order": "ordered"}}, "{parent: FILE, order: 0.5}"),
        ({"structure": {"tm_order": {"order": 0.5}}}, "{parent: FILE, order: 0.5}"),
        (
            {"structure": {"tm_order": {"parent": "Li2MnO3", "order": 2}}},
            "structure.tm_order.order: Input should be less than or equal to 1",
        ),
        (
            {"structure": {"tm_order": {"short_range_order": {"Mn": [0.1]}}}},
            "'Mn' is no pair of species",
        ),
        (
            {"structure": {"tm_order": {"short_range_order": {"Mn-Xx": [0.1]}}}},
            "unknown elements ['Xx']",
        ),
        (
            {"structure": {"tm_order": {"short_range_order": {"Mn-Ni": [-9.0]}}}},
            "structure.tm_order: impossible short-range order",
        ),
        (
            {"structure": {"tm_order": {"parent": "no-such.cif", "order": 0.5}}},
            "structure.tm_order: 'no-such.cif' is neither a file nor a named crystal",
        ),
        (
            {"structure": {"tm_order": {"parent": "LiCoO2", "order": 0.5}}},
            "structure.tm_order: the ordered parent has other concentrations",
        ),
        (
            {
                "structure": {
                    "faults": {"angles": [0, 120]},
                    "tm_order": {"parent": "LiCoO2", "order": 0.5},
                }
            },
            "take tm_order: sqs",
        ),
        ({"structure": {"faults": {"angles": [0, 90]}}}, "allowed: (0, 120, 240)"),
        ({"structure": {"faults": {"density": 0.5}}}, "given together"),
        ({"variants": [{"label": "a"}, {"label": "a"}]}, "more than once: a"),
        (
            {"variants": [{"label": "a", "structure": {"stack": "O2"}}]},
            "variants.0.structure.stack",
        ),
        ({"variants": [{"label": "a", "composition": "LiQ"}]}, "variants.0.composition"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in message(tmp_path, changes)


def test_a_composition_without_two_phases_is_refused() -> None:
    with pytest.raises(CompositionError, match="cannot be split"):
        two_phases("LiCoO2", "Mn")
