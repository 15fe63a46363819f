"""Voltage curve of one host: which Li leaves first, from energies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from jobflow import Flow, Job, Maker, Response
from pydantic import BaseModel

from ..analysis.voltage import (
    LithiationPoint,
    VoltageCurve,
    VoltageOutsideCurveError,
    lithium_at_voltage,
    voltage_curve,
)
from ..structures.assignment import SitePositions
from ..structures.vacancies import lowest_patterns, sublattice_kinds
from .relax import RelaxDocument, RelaxMaker
from .static import StaticDocument, StaticMaker
from .task import step


class LithiationTarget(BaseModel):
    """A Li content to compute.

    Attributes
    ----------
    n_li
        Li in the cell.
    quota
        Li in every sublattice by its name, such as those of the Li layers and of the TM layers;
        None lets the energies decide.
    """

    n_li: int
    quota: dict[str, int] | None = None


class LithiationCandidate(BaseModel):
    """One Li pattern that was looked at.

    Attributes
    ----------
    n_li, division
        Li in the cell, and how many of them the pattern has in every sublattice.
    unrelaxed_energy
        Energy on the host's positions, eV; None for the host itself.
    n_seen, n_total
        Patterns of this division ranked by Ewald energy, and possible.
    """

    n_li: int
    division: dict[str, int]
    unrelaxed_energy: float | None
    n_seen: int
    n_total: int


class LithiatedCell(BaseModel):
    """A relaxed candidate."""

    candidate: LithiationCandidate
    relaxed: RelaxDocument


class LithiationDocument(BaseModel):
    """Voltage curve of a host.

    Attributes
    ----------
    n_formula_units
        Formula units (two anions) in the cell.
    curve
        Hull and plateaus from the lowest relaxed energy at every Li content.
    cells
        Every relaxed candidate, the host included, sorted by Li content and energy.
    """

    kind: Literal["lithiation"] = "lithiation"

    n_formula_units: int
    curve: VoltageCurve
    cells: list[LithiatedCell]

    def lowest(self, target: LithiationTarget) -> LithiatedCell:
        """Lowest relaxed cell for a target.

        Raises
        ------
        LookupError
            If the target was not computed.
        """
        for cell in self.cells:
            candidate = cell.candidate
            if candidate.n_li == target.n_li and target.quota in (None, candidate.division):
                return cell
        computed = sorted({cell.candidate.n_li for cell in self.cells})
        raise LookupError(f"{target} was not computed; computed Li contents: {computed}")


@dataclass
class LithiationMaker(Maker):
    """Compute the voltage curve of a host by removing its Li.

    For every Li content and every division of the Li over the sublattices (Li layers and TM
    layers, or the one of a frame without layers), patterns are ranked by Ewald energy; the lowest
    are evaluated unrelaxed by the backend; the best of the best divisions are relaxed with the
    cell.

    Attributes
    ----------
    static, relax
        Makers that evaluate and relax candidates.
    charges
        Formal charges for the Ewald ranking.
    patterns_per_split, relaxed_per_content
        See :class:`lrlo.workflows.study.LithiationSettings`.
    seed
        Seed of pattern samples.
    """

    name: str = "lithiation"
    static: StaticMaker = field(default_factory=StaticMaker)
    relax: RelaxMaker = field(default_factory=lambda: RelaxMaker(relax_cell=True))
    charges: Mapping[str, float] = field(default_factory=dict)
    patterns_per_split: int = 8
    relaxed_per_content: int = 3
    seed: int = 0

    @step()
    def make(
        self,
        host: RelaxDocument,
        lithium: RelaxDocument,
        targets: list[LithiationTarget],
        voltages: list[float],
        n_low: int = 0,
        known: list[LithiatedCell] | None = None,
    ) -> Job:
        """Propose patterns at every target, evaluate them and go on to :meth:`refine`.

        Parameters
        ----------
        host
            Relaxed host with all Li.
        lithium
            Relaxed bcc Li.
        targets
            Li contents to compute; the host's own is always part of the curve.
        voltages
            Voltages around which the curve is refined until both neighbours of the stable Li
            content are computed.
        n_low
            Smallest Li content of the curve.
        known
            Cells computed before.
        """
        assignment = host.assignment
        occupation = assignment.occupation
        sublattices = {
            name: {site: assignment.atom_on(site) for site in occupation.sites_of("Li", *kinds)}
            for name, kinds in sublattice_kinds(occupation.frame).items()
        }
        whole = {name: len(sites) for name, sites in sublattices.items()}
        n_host = sum(whole.values())
        positions = SitePositions(host.structure, assignment)
        jobs, groups = [], []
        for target in targets:
            if target.n_li >= n_host:
                continue
            candidates, structures = [], []
            for quota in _divisions(target, whole):
                sample = lowest_patterns(
                    host.structure,
                    self.charges,
                    sublattices,
                    quota,
                    n_patterns=self.patterns_per_split,
                    seed=self.seed,
                )
                for pattern in sample.patterns:
                    every = {site for sites in sublattices.values() for site in sites}
                    structures.append(positions.without(every - set(pattern.kept)))
                    candidates.append(
                        LithiationCandidate(
                            n_li=target.n_li,
                            division=quota,
                            unrelaxed_energy=None,
                            n_seen=sample.n_seen,
                            n_total=sample.n_total,
                        )
                    )
            ranking = self.static.make(structures)
            patterns = "1 pattern" if len(structures) == 1 else f"{len(structures)} patterns"
            ranking.name = f"rank {patterns} with {target.n_li} Li"
            relaxing = self.select(host, candidates, structures, ranking.output)
            jobs += [ranking, relaxing]
            groups.append(relaxing.output)
        full = LithiationCandidate(
            n_li=n_host,
            division=whole,
            unrelaxed_energy=None,
            n_seen=1,
            n_total=1,
        )
        cells = known or [LithiatedCell(candidate=full, relaxed=host)]
        end = self.refine(host, lithium, voltages, n_low, cells, groups)
        return Response(replace=Flow([*jobs, end], output=end.output))  # type: ignore[return-value]

    @step()
    def select(
        self,
        host: RelaxDocument,
        candidates: list[LithiationCandidate],
        structures: list,
        ranking: StaticDocument,
    ) -> Job:
        """Relax the best pattern of the best divisions of one Li content."""
        best: dict[tuple[int, ...], int] = {}
        for index in sorted(range(len(candidates)), key=lambda i: ranking.energies[i]):
            best.setdefault(tuple(candidates[index].division.values()), index)
        jobs: list[Flow | Job] = []
        cells = []
        for index in list(best.values())[: self.relaxed_per_content]:
            candidate = candidates[index].model_copy(
                update={"unrelaxed_energy": ranking.energies[index]}
            )
            job = self.relax.make(structures[index], host.frame)
            where = ", ".join(f"{n} in the {name}" for name, n in candidate.division.items())
            job.name = f"relax {candidate.n_li} Li ({where})"
            jobs.append(job)
            cells.append({"candidate": candidate, "relaxed": job.output})
        return Response(replace=Flow(jobs, output=cells))  # type: ignore[return-value]

    @step()
    def refine(
        self,
        host: RelaxDocument,
        lithium: RelaxDocument,
        voltages: list[float],
        n_low: int,
        known: list[LithiatedCell],
        groups: list[list[dict]],
    ) -> Job:
        """Curve from all cells, or another round where it is too coarse for the voltages."""
        new = [LithiatedCell.model_validate(cell) for group in groups for cell in group]
        cells = [*known, *new]
        document = curve_document(cells, lithium)
        missing = missing_neighbours(document.curve, voltages, n_low)
        if not missing:
            return document  # type: ignore[return-value]
        targets = [LithiationTarget(n_li=n) for n in missing]
        more = self.make(host, lithium, targets, voltages, n_low, cells)
        return Response(replace=Flow([more], output=more.output))  # type: ignore[return-value]


def curve_document(cells: list[LithiatedCell], lithium: RelaxDocument) -> LithiationDocument:
    """Voltage curve from relaxed candidates."""
    ordered = sorted(cells, key=lambda cell: (cell.candidate.n_li, cell.relaxed.energy))
    points = [
        LithiationPoint(n_li=cell.candidate.n_li, energy=cell.relaxed.energy) for cell in ordered
    ]
    n_oxygen = sum(site.specie.symbol == "O" for site in ordered[0].relaxed.structure)
    return LithiationDocument(
        n_formula_units=n_oxygen // 2,
        curve=voltage_curve(points, lithium.energy / len(lithium.structure)),
        cells=ordered,
    )


def missing_neighbours(curve: VoltageCurve, voltages: list[float], n_low: int) -> list[int]:
    """Li contents next to the stable one at every voltage that are not computed yet."""
    computed = {point.n_li for point in curve.points}
    missing = set()
    for voltage in voltages:
        try:
            stable = lithium_at_voltage(curve, voltage)
        except VoltageOutsideCurveError:
            stable = min(computed)
        missing |= {stable - 1, stable + 1}
    return sorted(n for n in missing - computed if n_low <= n <= max(computed))


def _divisions(target: LithiationTarget, whole: Mapping[str, int]) -> list[dict[str, int]]:
    """Every way to spread the Li of a target over sublattices of given sizes.

    Those with least Li in the last sublattice (the TM layers) come first.
    """
    if target.quota is not None:
        return [target.quota]
    first, *others = whole
    divisions = []
    for counts in product(*(range(whole[name] + 1) for name in others)):
        rest = target.n_li - sum(counts)
        if 0 <= rest <= whole[first]:
            divisions.append({first: rest, **dict(zip(others, counts, strict=True))})
    return divisions


def even_contents(n_low: int, n_high: int, n_contents: int) -> list[int]:
    """Whole Li contents spread evenly from `n_low` to `n_high`, both included."""
    span = n_high - n_low
    steps = max(n_contents - 1, 1)
    return sorted({n_low + round(span * i / steps) for i in range(steps + 1)})
