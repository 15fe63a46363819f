import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lrlo.structures.frame import OCTAHEDRA, TETRAHEDRA, Sharing, SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.percolation import (
    accessible_lithium,
    count_channels,
    percolation_threshold,
    rock_salt_tetrahedra,
)
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.stacking import Stacking

#: Site percolation on the face-centred cubic lattice: Xu et al., Front. Phys. 9, 113 (2014).
FCC_SITE_THRESHOLD = 0.1992365

#: Shares of Li at which some small cells percolate and some do not, by TM next to a channel.
LITHIUM_NEAR_THRESHOLD = {0: 0.7, 1: 0.45, 2: 0.3}


def random_rock_salt(size: int, lithium: float, seed: int, vacancies: int = 0) -> Occupation:
    """Cubic cell with a share of Li, the rest Mn, and some of the Li gone."""
    frame = rock_salt_frame(size * CUBIC_CELL)
    sites = np.random.default_rng(seed).permutation(frame.sites(SiteKind.CATION_OCT))
    n_lithium = round(lithium * len(sites))
    return empty_frame(frame).with_species(
        dict.fromkeys(sites[n_lithium:].tolist(), "Mn")
        | dict.fromkeys(sites[vacancies:n_lithium].tolist(), "Li")
    )


def accessible_on_a_torus(occupation: Occupation, max_tm: int, n: int = 5) -> tuple[int, int]:
    """Accessible Li and dimensions, from the clusters of n x n x n copies of the cell.

    A network that percolates in d dimensions connects n**d copies of each of its sites.
    """
    frame, species = occupation.frame, occupation.species
    copies = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.array([n * n, n, 1])
    rows, columns = [], []
    for tetrahedron in frame.sites(*TETRAHEDRA).tolist():
        around = frame.neighbours(tetrahedron, Sharing.FACE, *OCTAHEDRA)
        free = [a for a in around if species[a.site] in (None, "Li")]
        if species[tetrahedron] is not None or len(around) - len(free) > max_tm:
            continue
        for one in free:
            for other in free:
                rows.append(one.site * n**3 + ((copies + one.image) % n) @ weights)
                columns.append(other.site * n**3 + ((copies + other.image) % n) @ weights)
    size = len(frame) * n**3
    if not rows:
        return 0, 0
    i, j = np.concatenate(rows), np.concatenate(columns)
    _, labels = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(size, size)))
    labels = labels.reshape(len(frame), n**3)
    connected = (labels == labels[:, :1]).sum(axis=1)
    lithium = list(occupation.sites_of("Li", *OCTAHEDRA))
    free_sites = [s for s in frame.sites(*OCTAHEDRA) if species[s] in (None, "Li")]
    widest = max((round(np.log(connected[s]) / np.log(n)) for s in free_sites), default=0)
    return int((connected[lithium] > 1).sum()), widest


def test_channels_of_ordered_crystals_by_hand(
    li2mno3: PristineModel, licoo2: PristineModel
) -> None:
    """Two li_tet face every TM-layer site. In Li2MnO3 a third of those hold Li (0-TM); and every
    tm_tet faces one Li of the TM layer, two Mn, and one Li of the Li layer (2-TM)."""
    assert count_channels(licoo2.occupation) == {1: 2 * 18}
    assert count_channels(li2mno3.occupation) == {0: 2 * 6, 1: 2 * 12, 2: 2 * 18}
    emptied = li2mno3.occupation.with_species(dict.fromkeys(li2mno3.occupation.sites_of("Li")))
    assert count_channels(emptied) == count_channels(li2mno3.occupation)


def test_channels_of_random_rock_salt_are_binomial() -> None:
    """Of 2 N tetrahedra with four cations at random: C(4, n) p^(4-n) (1-p)^n have n TM."""
    p, n_cells = 0.6, 10
    occupation = random_rock_salt(n_cells, p, seed=2)
    counts = count_channels(occupation)
    n_tetrahedra = 8 * n_cells**3
    assert set(counts) == {0, 1, 2}
    for n_tm, ways in ((0, 1), (1, 4), (2, 6)):
        expected = n_tetrahedra * ways * p ** (4 - n_tm) * (1 - p) ** n_tm
        assert counts[n_tm] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O2, Stacking.O1, Stacking.H1_3])
def test_layers_percolate_in_two_dimensions(stacking: Stacking) -> None:
    """All tetrahedra of the Li layer face a Co in O3, half of them in O2, none in O1; either half
    connects the whole layer."""
    frame = layered_frame(stacking, np.diag([3, 3, 2]))
    occupation = empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
        | dict.fromkeys(frame.sites(SiteKind.LI_OCT).tolist(), "Li")
    )
    result = accessible_lithium(occupation, 1)
    assert (result.fraction, result.dimensions) == (1.0, 2)
    expected = {Stacking.O3: 0.0, Stacking.O2: 1.0, Stacking.O1: 1.0, Stacking.H1_3: 0.5}
    assert accessible_lithium(occupation, 0).fraction == expected[stacking]


def test_blocked_channels_do_not_count(licoo2: PristineModel) -> None:
    occupation = licoo2.occupation
    tetrahedra = occupation.frame.sites(SiteKind.LI_TET).tolist()
    blocked = occupation.with_species(dict.fromkeys(tetrahedra, "Co"))
    assert count_channels(blocked) == {}
    assert accessible_lithium(blocked, 2).fraction == 0.0


def test_one_row_percolates_in_one_dimension() -> None:
    """A row of vacancies along <110> in a full MnO cell."""
    frame = rock_salt_frame(np.diag([4, 4, 4]))
    cations = frame.sites(SiteKind.CATION_OCT).tolist()
    full = empty_frame(frame).with_species(dict.fromkeys(cations, "Mn"))
    row = [s for s in cations if np.allclose(frame.frac_coords[s, 1:], 0)]
    assert len(row) == 4
    open_row = full.with_species(dict.fromkeys(row, "Li"))
    assert accessible_lithium(open_row, 1).fraction == 0.0
    result = accessible_lithium(open_row, 2)
    assert (result.n_accessible, result.dimensions) == (4, 1)
    broken = open_row.with_species({row[0]: "Mn"})
    assert accessible_lithium(broken, 2).n_accessible == 0


@pytest.mark.parametrize("max_tm", [0, 1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_accessible_lithium_against_copies_of_the_cell(max_tm: int, seed: int) -> None:
    lithium = LITHIUM_NEAR_THRESHOLD[max_tm]
    occupation = random_rock_salt(2, lithium, seed, vacancies=3)
    result = accessible_lithium(occupation, max_tm)
    assert (result.n_accessible, result.dimensions) == accessible_on_a_torus(occupation, max_tm)
    assert result.n_lithium == occupation.count()["Li"]


def test_the_comparison_sees_both_outcomes() -> None:
    """The random cells above are not all on one side of the threshold."""
    found = {
        accessible_lithium(random_rock_salt(2, lithium, seed, vacancies=3), max_tm).dimensions
        for max_tm, lithium in LITHIUM_NEAR_THRESHOLD.items()
        for seed in range(6)
    }
    assert {0, 3} <= found


def test_without_lithium_nothing_is_accessible() -> None:
    result = accessible_lithium(random_rock_salt(2, 0.0, 0), 2)
    assert (result.n_lithium, result.fraction, result.dimensions) == (0, 0.0, 0)


def test_lattice_of_the_monte_carlo_is_the_frame() -> None:
    """The same tetrahedra as the frame's geometry finds in a cubic cell."""
    size = 3
    members, images = rock_salt_tetrahedra(size)
    frame = rock_salt_frame(size * CUBIC_CELL)
    np.testing.assert_allclose(frame.lattice, frame.lattice[0, 0] * np.eye(3), atol=1e-9)
    half = np.rint(frame.frac_coords * 2 * size).astype(int)
    number = {
        site: (x * 2 * size + y) * size + z // 2
        for site in frame.sites(SiteKind.CATION_OCT).tolist()
        for x, y, z in [half[site]]
    }
    assert sorted(number.values()) == list(range(4 * size**3))

    def pattern(corners: list[tuple[int, tuple[int, ...]]]) -> frozenset:
        """The four, up to a common lattice translation."""
        origin = np.array(min(corners)[1])
        return frozenset((n, tuple((np.array(image) - origin).tolist())) for n, image in corners)

    lattice = {
        pattern([(int(n), tuple(i.tolist())) for n, i in zip(*corners, strict=True)])
        for corners in zip(members, images, strict=True)
    }
    geometry = {
        pattern(
            [(number[n.site], n.image) for n in frame.neighbours(site, Sharing.FACE, *OCTAHEDRA)]
        )
        for site in frame.sites(SiteKind.TET).tolist()
    }
    assert lattice == geometry
    assert len(lattice) == 8 * size**3
    assert np.all(np.bincount(members.ravel()) == 8)


def test_random_rock_salt_percolates_at_1_09() -> None:
    """Lee et al. 2014, Urban et al. 2014: 1.09 Li per formula unit."""
    threshold = percolation_threshold(0, sizes=(6, 8, 12, 16), n_runs=100, seed=1)
    assert threshold.error < 0.006
    assert threshold.lithium == pytest.approx(1.09, abs=0.02)


def test_two_tm_channels_are_site_percolation() -> None:
    """With every channel open only the Li have to be neighbours."""
    threshold = percolation_threshold(2, sizes=(8, 12, 16), n_runs=200, seed=3)
    assert abs(threshold.lithium - 2 * FCC_SITE_THRESHOLD) < 3 * threshold.error < 0.01


def test_more_tm_percolate_earlier() -> None:
    limits = [percolation_threshold(n, sizes=(6, 10), n_runs=50).lithium for n in (0, 1, 2)]
    assert limits[0] > limits[1] + 0.2
    assert limits[1] > limits[2] + 0.1


def test_seed_decides() -> None:
    runs = [percolation_threshold(0, sizes=(4, 6), n_runs=10, seed=s) for s in (7, 7, 8)]
    assert runs[0] == runs[1]
    assert runs[0].by_size != runs[2].by_size


@pytest.mark.slow
def test_thresholds_with_small_errors() -> None:
    found = {
        n: percolation_threshold(n, sizes=(8, 12, 16, 24, 32), n_runs=1000, seed=11) for n in (0, 2)
    }
    assert all(threshold.error < 0.001 for threshold in found.values())
    assert found[0].lithium == pytest.approx(1.09, abs=0.006)
    assert found[2].lithium == pytest.approx(2 * FCC_SITE_THRESHOLD, abs=0.003)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tm": 3}, "max_tm was 3"),
        ({"max_tm": -1}, "max_tm was -1"),
        ({"sizes": (8,)}, "two or more different sizes"),
        ({"sizes": (8, 8)}, "two or more different sizes"),
        ({"sizes": (0, 8)}, "from 2 on"),
        ({"sizes": ()}, "two or more different sizes"),
        ({"n_runs": 1}, "n_runs must be at least 2"),
    ],
)
def test_bad_requests(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        percolation_threshold(**options)


def test_bad_channel(licoo2: PristineModel) -> None:
    with pytest.raises(ValueError, match="0, 1 or 2 TM"):
        accessible_lithium(licoo2.occupation, 4)
