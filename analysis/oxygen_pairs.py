"""O-O pairs that are closer than lattice oxygen."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure

from ..structures.occupation import is_transition_metal
from .coordination import TM_O_BOND


class PairThresholds(BaseModel):
    """Longest O-O distances that carry a label, Å.

    Half way between the reference lengths O2 1.21, superoxide 1.33 and peroxide 1.45 Å.
    """

    model_config = ConfigDict(frozen=True)

    molecule: float = 1.27
    superoxide: float = 1.39
    peroxide: float = 1.60
    reported: float = 2.0


class OxygenPair(BaseModel):
    """Two close oxygen atoms.

    Attributes
    ----------
    atoms
        Indices in the structure.
    distance
        O-O distance, Å.
    label
        ``O2``, ``superoxide``, ``peroxide`` or ``close``, from the thresholds.
    moments
        Magnetic moments of the two, Bohr magneton, if known.
    bonds_tm
        Whether each of the two still bonds a TM.
    trapped
        A molecule with no TM-O bond left: O2 in a vacancy cluster.
    """

    model_config = ConfigDict(frozen=True)

    atoms: tuple[int, int]
    distance: float
    label: str
    moments: tuple[float, float] | None
    bonds_tm: tuple[bool, bool]
    trapped: bool


class OxygenPairs(BaseModel):
    """All close O-O pairs of a structure with the thresholds they were labelled by."""

    model_config = ConfigDict(frozen=True)

    pairs: tuple[OxygenPair, ...]
    thresholds: PairThresholds

    @property
    def n_trapped(self) -> int:
        """Number of trapped O2 molecules."""
        return sum(pair.trapped for pair in self.pairs)


def find_oxygen_pairs(
    structure: Structure,
    magmoms: Sequence[float] | None = None,
    thresholds: PairThresholds | None = None,
) -> OxygenPairs:
    """Find and label O-O pairs below the reporting distance (2.0 Å by default).

    Parameters
    ----------
    structure
        Structure with oxygen.
    magmoms
        Magnetic moment of every atom, Bohr magneton.
    thresholds
        Distances that carry labels.
    """
    limits = thresholds or PairThresholds()
    symbols = [site.specie.symbol for site in structure]
    reach = max(limits.reported, TM_O_BOND)
    centres, neighbours, _, distances = structure.get_neighbor_list(reach)
    bonded = {
        i
        for i, j, d in zip(centres.tolist(), neighbours.tolist(), distances, strict=True)
        if d <= TM_O_BOND and is_transition_metal(symbols[j])
    }
    pairs = []
    for i, j, d in zip(centres.tolist(), neighbours.tolist(), distances.tolist(), strict=True):
        if i > j or d > limits.reported or {symbols[i], symbols[j]} != {"O"}:
            continue
        label = _label(d, limits)
        pairs.append(
            OxygenPair(
                atoms=(i, j),
                distance=d,
                label=label,
                moments=None if magmoms is None else (magmoms[i], magmoms[j]),
                bonds_tm=(i in bonded, j in bonded),
                trapped=label == "O2" and i not in bonded and j not in bonded,
            )
        )
    return OxygenPairs(pairs=tuple(sorted(pairs, key=lambda p: p.distance)), thresholds=limits)


def _label(distance: float, limits: PairThresholds) -> str:
    for label, limit in (
        ("O2", limits.molecule),
        ("superoxide", limits.superoxide),
        ("peroxide", limits.peroxide),
    ):
        if distance <= limit:
            return label
    return "close"
