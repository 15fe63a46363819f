import numpy as np
import pytest

from lrlo.structures.disordered_cell import (
    DisorderedCell,
    DisorderedClusters,
    Sublattice,
    frame_basis,
)
from lrlo.structures.frame import Frame, SiteKind, layered_frame
from lrlo.structures.layered_prototype import LayeredPrototype
from lrlo.structures.occupation import empty_frame
from lrlo.structures.stacking import Stacking

FRAME = layered_frame(Stacking.O3, np.diag([2, 2, 2]))
TM = tuple(FRAME.sites(SiteKind.TM_OCT).tolist())
LI = tuple(FRAME.sites(SiteKind.LI_OCT).tolist())


def _cell(frame: Frame = FRAME) -> DisorderedCell:
    tm = tuple(frame.sites(SiteKind.TM_OCT).tolist())
    return DisorderedCell(empty_frame(frame), (Sublattice(tm, {"Ni": 4, "Mn": 4}),))


@pytest.mark.parametrize(
    ("sites", "counts", "message"),
    [
        ((), {"Ni": 1, "Mn": 1}, "needs sites"),
        (TM[:3], {"Ni": 1, "Mn": 1}, "does not fill 3 sites: the counts add up to 2"),
        ((1, 1, 2), {"Ni": 1, "Mn": 2}, r"sites \[1\] are in the sublattice more than once"),
        (TM[:2], {"Ni": 1, "Qq": 1}, r"unknown species \['Qq'\]"),
        (TM[:2], {"Ni": 1, "X": 1}, "or None for empty sites"),
        (TM[:2], {"Ni": 2}, "two or more species"),
        (TM[:2], {"Ni": 2, "Mn": 0}, "whole numbers above 0"),
        (TM[:2], {"Ni": 3, "Mn": -1}, "whole numbers above 0"),
    ],
)
def test_bad_sublattices(sites: tuple[int, ...], counts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sublattice(sites, counts)


def test_bad_cells() -> None:
    layer = Sublattice(TM, {"Ni": 4, "Mn": 4})
    with pytest.raises(ValueError, match="needs a sublattice"):
        DisorderedCell(empty_frame(FRAME), ())
    with pytest.raises(ValueError, match="one sublattice only"):
        DisorderedCell(empty_frame(FRAME), (layer, Sublattice(TM[:2], {"Ni": 1, "Li": 1})))
    with pytest.raises(ValueError, match=r"sites \[999\] are not in the frame"):
        DisorderedCell(empty_frame(FRAME), (Sublattice((0, 999), {"Ni": 1, "Mn": 1}),))


def test_arrangement_holds_the_counts_and_the_rest() -> None:
    background = empty_frame(FRAME).with_species(dict.fromkeys(LI, "Li"))
    cell = DisorderedCell(
        background,
        (Sublattice(TM, {"Mn": 6, "Li": 2}), Sublattice(LI[:4], {"Li": 2, "Ni": 1, None: 1})),
    )
    arrangement = cell.arrangement()
    assert arrangement.count(SiteKind.TM_OCT) == {"Mn": 6, "Li": 2}
    assert arrangement.count(SiteKind.LI_OCT) == {"Li": 6, "Ni": 1}
    assert arrangement.count(SiteKind.ANION) == {"O": 16}


def test_kinds_hold_what_any_cell_puts_there() -> None:
    """Species of the TM layer from both cells; tetrahedra are empty and take no part."""
    first = _cell()
    li_layer = Sublattice(LI, {"Li": 7, None: 1})
    mixed = empty_frame(FRAME).with_species(dict.fromkeys(TM, "Co"))
    crystal = frame_basis(
        [first, DisorderedCell(mixed, (li_layer,))], pair_cutoff=3.0, triplet_cutoff=None
    )
    assert crystal.kinds == {SiteKind.ANION, SiteKind.TM_OCT, SiteKind.LI_OCT}
    assert sorted(crystal.basis.species) == sorted(
        [("O",), ("O",), ("Mn", "Co", "Ni"), ("X", "Li")]
    )


def test_sublattices_across_kinds_share_species() -> None:
    """Cation disorder over both layers: either site may hold any of the species."""
    cell = DisorderedCell(empty_frame(FRAME), (Sublattice((*TM, *LI), {"Li": 10, "Mn": 6}),))
    crystal = frame_basis([cell], pair_cutoff=3.0, triplet_cutoff=None)
    assert [s for s in crystal.basis.species if len(s) > 1] == [("Li", "Mn")] * 2
    clusters = DisorderedClusters(cell, crystal)
    assert len(clusters.sublattices[0]) == 16
    assert clusters.shares[0] == pytest.approx([10 / 16, 6 / 16])


def test_groups_are_sublattices_and_fixed_species() -> None:
    background = empty_frame(FRAME).with_species(dict.fromkeys(TM[:2], "Li"))
    cell = DisorderedCell(background, (Sublattice(TM[2:], {"Mn": 4, "Ni": 2}),))
    clusters = DisorderedClusters(cell, frame_basis([cell], pair_cutoff=3.0, triplet_cutoff=None))
    by_symbol = [
        dict(zip(clusters.symbols(group), share.tolist(), strict=True))
        for group, share in enumerate(clusters.shares)
    ]
    assert by_symbol[0] == pytest.approx({"Li": 0, "Mn": 2 / 3, "Ni": 1 / 3})
    assert by_symbol[1:].count({"Li": 1.0, "Mn": 0.0, "Ni": 0.0}) == 1
    assert by_symbol[1:].count({"O": 1.0}) == 1


def test_occupation_of_species_numbers() -> None:
    background = empty_frame(FRAME).with_species(dict.fromkeys(LI[4:], "Li"))
    cell = DisorderedCell(background, (Sublattice(LI[:4], {"Li": 3, None: 1}),))
    clusters = DisorderedClusters(cell, frame_basis([cell], pair_cutoff=3.0, triplet_cutoff=None))
    assert clusters.occupation(clusters.numbers.tolist()) == cell.arrangement()


def test_cells_of_several_prototypes_are_refused() -> None:
    other = _cell(layered_frame(Stacking.O2, np.diag([2, 2, 1])))
    with pytest.raises(ValueError, match="only cells of one prototype"):
        frame_basis([_cell(), other], pair_cutoff=3.0, triplet_cutoff=None)


@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O1])
def test_layers_that_are_the_same_by_symmetry_are_refused(stacking: Stacking) -> None:
    """Slab and gap of one height: TM and Li layer differ in what they hold only."""
    frame = Frame.supercell(LayeredPrototype(stacking, tm_slab=2.4, li_gap=2.4), np.diag([2, 2, 2]))
    sites = [tuple(frame.sites(kind).tolist()) for kind in (SiteKind.TM_OCT, SiteKind.LI_OCT)]
    cell = DisorderedCell(
        empty_frame(frame),
        tuple(Sublattice(part, {"Li": 4, "Ni": 4}) for part in sites),
    )
    with pytest.raises(ValueError, match=r"li_oct and tm_oct sites .* same by symmetry"):
        frame_basis([cell], pair_cutoff=3.0, triplet_cutoff=None)
    # as one sublattice they are meant to be the same
    whole = DisorderedCell(
        empty_frame(frame), (Sublattice(sites[0] + sites[1], {"Li": 8, "Ni": 8}),)
    )
    frame_basis([whole], pair_cutoff=3.0, triplet_cutoff=None)
