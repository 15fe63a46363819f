import numpy as np
import pytest

from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.stacking import (
    LETTER_POSITIONS,
    Stacking,
    other_letters,
    shift_letter,
    third_letter,
)

#: Anion planes of one hexagonal repeat from bottom to top, as the papers write them.
LETTERS = {
    Stacking.O3: "ABCABC",
    Stacking.O2: "ABCB",
    Stacking.O1: "AB",
    Stacking.P3: "ABBCCA",
    Stacking.H1_3: "ABABCACABCBC",
}


@pytest.mark.parametrize("stacking", list(Stacking))
def test_anion_planes_read_from_the_frame(stacking: Stacking) -> None:
    letters = LETTERS[stacking]
    repeat = np.array([0, 0, 3])  # three repeats stand upright in every stacking
    frame = layered_frame(stacking, np.array([[1, 0, 0], [0, 1, 0], repeat]))
    hexagonal = frame.lattice[:2, :2]
    cartesian = frame.frac_coords[frame.sites(SiteKind.ANION)] @ frame.lattice
    read = ""
    for position in cartesian[np.argsort(cartesian[:, 2])]:
        lateral = position[:2] @ np.linalg.inv(hexagonal)
        read += next(
            letter
            for letter, place in LETTER_POSITIONS.items()
            if np.allclose((lateral - place + 0.5) % 1.0, 0.5, atol=1e-6)
        )
    assert read == (letters * 6)[: len(read)]
    assert len(read) % len(letters) == 0


def test_letters() -> None:
    assert third_letter("A", "C") == "B"
    assert shift_letter("A", (2 / 3, 1 / 3)) == "C"
    assert other_letters("A") == ("B", "C")
    with pytest.raises(ValueError, match="prisms"):
        third_letter("A", "A")
    with pytest.raises(ValueError, match="close-packed"):
        shift_letter("A", (0.5, 0.0))
    with pytest.raises(ValueError, match="A, B or C"):
        other_letters("D")
