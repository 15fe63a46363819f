import pytest

from lrlo.analysis.barrier import PathStatus, band_barrier
from lrlo.analysis.documents import PathSegment
from lrlo.analysis.level_of_theory import LevelOfTheory
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.hops import Hop, PathClass, find_hops
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation
from lrlo.workflows.barriers import end_state_problem, path_barrier
from lrlo.workflows.relax import RelaxDocument


def relaxed(occupation: Occupation, *, converged: bool = True) -> RelaxDocument:
    structure = occupation.to_structure()
    structure.perturb(0.05, seed=1)
    return RelaxDocument(
        structure=structure,
        frame=occupation.frame,
        energy=-1.0,
        magmoms=None,
        max_force=0.01 if converged else 0.4,
        converged=converged,
        n_force_calls=7,
        relaxed_cell=False,
        wall_time=0.0,
        level_of_theory=LevelOfTheory(backend="test", model="none", version="0"),
    )


@pytest.fixture(scope="module")
def charged(paper: PristineModel) -> Occupation:
    """Half of the Li layer and one Li of the TM layer gone."""
    occupation = paper.occupation
    gone = [*occupation.sites_of("Li", SiteKind.LI_OCT)[::2]]
    gone.append(occupation.sites_of("Li", SiteKind.TM_OCT)[0])
    return occupation.with_species(dict.fromkeys(gone, None))


@pytest.fixture(scope="module")
def hop(charged: Occupation) -> Hop:
    return find_hops(charged, ["Mn"], PathClass.IN_PLANE)[0]


def moved(occupation: Occupation, hop: Hop) -> Occupation:
    return occupation.with_species({hop.start: None, hop.end.site: hop.mover})


def test_end_state_on_its_site_is_accepted(charged: Occupation, hop: Hop) -> None:
    assert end_state_problem(charged, relaxed(moved(charged, hop)), hop) == ""


def test_lithium_may_follow(charged: Occupation, hop: Hop) -> None:
    after = moved(charged, hop)
    lithium = after.sites_of("Li", SiteKind.LI_OCT)[0]
    free = after.sites_of(None, SiteKind.LI_OCT)[0]
    after = after.with_species({lithium: None, free: "Li"})
    assert end_state_problem(charged, relaxed(after), hop) == ""


def test_mover_that_fell_back_is_a_finding(charged: Occupation, hop: Hop) -> None:
    problem = end_state_problem(charged, relaxed(charged), hop)
    assert problem == (f"no such minimum: Mn relaxed to site {hop.start} instead of {hop.end.site}")


def test_mover_that_fell_into_a_tetrahedron_is_named(charged: Occupation, hop: Hop) -> None:
    frame = charged.frame
    tetrahedron = next(
        n.site
        for n in frame.neighbours(hop.start, Sharing.FACE, SiteKind.LI_TET)
        if charged.species[n.site] is None
    )
    after = charged.with_species({hop.start: None, tetrahedron: "Mn"})
    problem = end_state_problem(charged, relaxed(after), hop)
    assert f"li_tet site {tetrahedron} instead of {hop.end.site}" in problem


def test_other_tm_that_moves_is_another_basin(charged: Occupation, hop: Hop) -> None:
    after = moved(charged, hop)
    nickel = after.sites_of("Ni")[0]
    free = after.sites_of(None, SiteKind.LI_OCT)[0]
    after = after.with_species({nickel: None, free: "Ni"})
    problem = end_state_problem(charged, relaxed(after), hop)
    assert problem == f"another basin: Ni left site {nickel}"


def test_end_state_off_the_frame_is_said(charged: Occupation, hop: Hop) -> None:
    final = relaxed(moved(charged, hop))
    final.structure.scale_lattice(2 * final.structure.volume)
    problem = end_state_problem(charged, final, hop)
    assert problem.startswith("another basin: the end state left the frame (")


def test_unrelaxed_end_state_is_said(charged: Occupation, hop: Hop) -> None:
    problem = end_state_problem(charged, relaxed(moved(charged, hop), converged=False), hop)
    assert "did not relax (largest force 0.40 eV/Å after 7 steps)" in problem


def segment(status: PathStatus, energies: list[float]) -> PathSegment:
    return PathSegment(
        status=status,
        barrier=band_barrier(range(len(energies)), energies, [0.0] * len(energies)),
        arc_lengths=[float(i) for i in range(len(energies))],
        energies=energies,
        tangential_forces=[0.0] * len(energies),
        residual=0.04,
    )


def test_barrier_of_several_segments_is_that_of_the_highest_saddle() -> None:
    first = segment(PathStatus.CONVERGED, [0.0, 0.5, 0.2])
    second = segment(PathStatus.CONVERGED, [0.2, 0.9, 0.1])
    barrier = path_barrier([first, second])
    assert barrier is not None
    assert barrier.model_dump() == pytest.approx(
        {"forward": 0.9, "reverse": 0.8, "reaction_energy": 0.1, "max_minus_min": 0.9}
    )


@pytest.mark.parametrize(
    "status",
    [
        *(PathStatus.UNCONVERGED, PathStatus.SEVERAL_SADDLES),
        *(PathStatus.UNSTABLE_ENDPOINT, PathStatus.UNPHYSICAL),
    ],
)
def test_unsound_segment_gives_no_barrier(status: PathStatus) -> None:
    sound = segment(PathStatus.CONVERGED, [0.0, 0.5, 0.2])
    assert path_barrier([sound, segment(status, [0.2, 0.9, 0.1])]) is None
    assert path_barrier([]) is None


def test_monotone_segment_counts_with_its_end_points() -> None:
    barrier = path_barrier([segment(PathStatus.NO_INTERIOR_SADDLE, [0.0, 0.4, 0.8])])
    assert barrier is not None
    assert (barrier.forward, barrier.reverse) == (0.8, 0.0)
