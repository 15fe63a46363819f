"""Documents of a small cell, shared by the tests."""

from matplotlib.figure import Figure

from lrlo.analysis.barrier import Barrier, PathStatus
from lrlo.analysis.coordination import summarise_coordination
from lrlo.analysis.documents import (
    BarrierDocument,
    PathSegment,
    StateDocument,
    StudyContext,
    TmMove,
)
from lrlo.analysis.level_of_theory import LevelOfTheory
from lrlo.analysis.oxidation import oxidation_states
from lrlo.analysis.oxygen_pairs import find_oxygen_pairs
from lrlo.analysis.voltage import LithiationPoint, voltage_curve
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.hops import Hop, PathClass
from lrlo.structures.layered_oxide import build_pristine
from lrlo.structures.occupation import Occupation

THEORY = LevelOfTheory(backend="emulator", model="Model X", version="1", note="barriers low")
PRISTINE = build_pristine("Li1.2Ni0.2Mn0.6O2", min_atoms=30, max_atoms=60, seed=3).occupation
N_FU = len(PRISTINE.frame.sites(SiteKind.TM_OCT))
CONTEXT = StudyContext(
    study="s",
    study_key="k",
    composition="Li1.2Ni0.2Mn0.6O2",
    target={"Li": 1.2, "Ni": 0.2, "Mn": 0.6},
    realised={"Li": 1.2, "Ni": 0.2, "Mn": 0.6},
    charge_imbalance=0.0,
    n_formula_units=N_FU,
    stacking="O3",
    superlattice="honeycomb",
    seed=3,
    sqs_objective=0.0,
    image_distance=8.0,
)


def state_of(occupation: Occupation, label: str, order: int, **changes: object) -> StateDocument:
    """Document of an ideal structure."""
    structure = occupation.to_structure()
    summary = summarise_coordination(occupation)
    species = [site.specie.symbol for site in structure]
    n_li = occupation.count()["Li"]
    full = PRISTINE.count()["Li"]
    points = [LithiationPoint(n_li=n, energy=-2.0 * n + 0.05 * n * n) for n in (0, full // 2, full)]
    values: dict = {
        **{"context": CONTEXT, "label": label, "after": None, "order": order, "voltage": None},
        **{"li_source": "given Li content", "li_content": n_li / N_FU},
        **{"li_layer": 0.5, "tm_layer": 0.1, "structure": structure, "frame": occupation.frame},
        **{"energy": -1.0 * n_li, "converged": True, "lattice": {}, "layer_spacing": 4.8},
        **{"in_plane_area": 7.1, "volume": 34.0 + n_li / N_FU, "coordination": summary},
        **{"before_migration": summary, "oxygen_pairs": find_oxygen_pairs(structure)},
        "oxidation": list(oxidation_states(species, [3.1] * len(species))),
        **{"moves": [], "temperature": None, "migration_seed": None},
        **{"migration_stopped": "not sampled", "o4_chain": []},
        **{"curve": voltage_curve(points, -1.9), "level_of_theory": THEORY},
    }
    return StateDocument(**{**values, **changes})


def migrated_state(label: str = "4.8 V", order: int = 1, **changes: object) -> StateDocument:
    """Honeycomb Li gone, and one Mn moved into its site."""
    vacancy = PRISTINE.sites_of("Li", SiteKind.TM_OCT)[0]
    near = PRISTINE.frame.neighbours(vacancy, Sharing.EDGE, SiteKind.TM_OCT)
    mn = next(n.site for n in near if PRISTINE.species[n.site] == "Mn")
    charged = PRISTINE.with_species({vacancy: None})
    move = TmMove(
        step=1, mover="Mn", start=mn, end=vacancy, energy_change=-0.1, accepted=True,
        outcome="moved",
    )  # fmt: skip
    values = {
        "moves": [move],
        "before_migration": summarise_coordination(charged),
        "voltage": 4.8,
        "temperature": 300.0,
    }
    return state_of(
        charged.with_species({mn: None, vacancy: "Mn"}), label, order, **{**values, **changes}
    )


def barrier_of(status: PathStatus | None, forward: float = 0.7654, **changes: object):
    """Document of a hop with one segment."""
    energies = [0.0, forward, 0.25]
    value = Barrier(
        forward=forward, reverse=forward - 0.25, reaction_energy=0.25, max_minus_min=forward
    )
    segment = PathSegment(
        status=status or PathStatus.UNCONVERGED, barrier=value, arc_lengths=[0.0, 1.5, 3.0],
        energies=energies, tangential_forces=[0.0, 0.0, 0.0], residual=0.04,
    )  # fmt: skip
    sound = status not in (None, PathStatus.UNCONVERGED, PathStatus.UNSTABLE_ENDPOINT)
    hop = Hop(
        mover="Mn", path_class=PathClass.IN_PLANE, start=31, via=None,
        end={"site": 34, "image": (0, 0, 0)},
    )  # fmt: skip
    values: dict = {
        **{"context": CONTEXT, "state": "4.8 V", "order": 1, "voltage": 4.8, "li_content": 0.3},
        **{"path_class": "in_plane", "hop": hop if status else None, "surroundings": None},
        **{"status": status, "detail": "detail in words", "barrier": value if sound else None},
        "segments": [segment] if status and status is not PathStatus.UNSTABLE_ENDPOINT else [],
        **{"followers": [], "n_images": 1, "n_force_calls": 10, "wall_time": 1.0},
        "level_of_theory": THEORY,
    }
    return BarrierDocument(**{**values, **changes})


def charged(label: str, order: int, o4: float | None, **changes: object) -> StateDocument:
    """State with a given O4/(O4+O5); every order is another cell."""
    state = migrated_state(label, order)
    summary = state.coordination.model_copy(update={"o4_fraction": o4})
    values = {"coordination": summary, "li_content": 1.2 - 0.3 * order, "energy": -10.0 - order}
    return state.model_copy(update={**values, **changes})


def study(*fractions: float | None) -> list[StateDocument]:
    """Pristine, 4.5 V, 4.8 V and, if given, discharged to 2.0 V."""
    names = ("pristine", "4.5 V", "4.8 V", "2.0 V")
    voltages = (None, 4.5, 4.8, 2.0)
    states = [
        charged(names[i], i, fraction, voltage=voltages[i]) for i, fraction in enumerate(fractions)
    ]
    if len(states) == 4:
        states[3] = states[3].model_copy(update={"after": "4.8 V", "li_content": 1.0, "moves": []})
    return states


def texts(figure: Figure) -> str:
    """All text of a figure."""
    return " | ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))
