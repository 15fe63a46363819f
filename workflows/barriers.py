"""Barriers of one state: choose hops, relax and check end states, run bands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jobflow import Flow, Job, Maker, Response
from pydantic import BaseModel

from ..analysis.barrier import SOUND, Barrier, PathStatus
from ..analysis.documents import BarrierDocument, PathSegment, StudyContext
from ..analysis.physical_bounds import distance_problem
from ..structures.alignment import AssignmentError
from ..structures.frame import SiteKind
from ..structures.hops import (
    Hop,
    PathClass,
    find_hops,
    hop_images,
    surroundings,
    why_no_hop,
)
from ..structures.occupation import Occupation, is_transition_metal
from .neb import NebDocument, NebMaker
from .relax import RelaxDocument, RelaxMaker
from .static import StaticDocument, StaticMaker
from .task import step

#: Most bands that a path is split into.
MAX_SEGMENTS = 4
#: Minima whose atoms all lie closer than this are one and the same, Å.
SAME_MINIMUM = 0.2


class Spent(BaseModel):
    """Work on a path that is not part of its final bands."""

    n_force_calls: int = 0
    wall_time: float = 0.0

    def plus(self, work: Sequence[NebDocument | RelaxDocument]) -> "Spent":
        """Sum with the cost of some tasks."""
        return Spent(
            n_force_calls=self.n_force_calls + sum(item.n_force_calls for item in work),
            wall_time=self.wall_time + sum(item.wall_time for item in work),
        )


class HopContext(BaseModel):
    """State that hops are looked for in."""

    context: StudyContext
    state: str
    order: int
    voltage: float | None


@dataclass
class BarrierMaker(Maker):
    """Barriers of the most promising hops of every path class.

    Candidates are screened by the energy of their unrelaxed end states; of several waypoints
    between the same two sites the least hindered is taken.

    Attributes
    ----------
    static
        Maker that screens end states.
    relax
        Maker that relaxes end states, cell fixed.
    neb
        Maker that optimises bands.
    movers, classes, per_class, screened
        See :class:`lrlo.workflows.study.HopSettings`.
    """

    name: str = "barriers"
    static: StaticMaker = field(default_factory=StaticMaker)
    relax: RelaxMaker = field(default_factory=RelaxMaker)
    neb: NebMaker = field(default_factory=NebMaker)
    movers: tuple[str, ...] = ("Mn",)
    classes: tuple[PathClass, ...] = (PathClass.IN_PLANE, PathClass.OUT_OF_PLANE)
    per_class: int = 2
    screened: int = 100

    @step()
    def make(self, charged: RelaxDocument, where: HopContext) -> Job:
        """Find hops in a relaxed structure and compute each; returns barrier documents.

        A path class without a candidate gives a document that says why.
        """
        assignment = charged.assignment
        occupation = assignment.occupation
        jobs: list[Flow | Job] = []
        results: list[Any] = []
        for path_class in self.classes:
            movers = ("Li",) if path_class is PathClass.LI_HOP else self.movers
            pairs: dict[tuple[int, int], Hop] = {}
            for hop in find_hops(occupation, movers, path_class):
                pairs.setdefault((hop.start, hop.end.site), hop)  # the least hindered waypoint
            hops = list(pairs.values())[: self.screened]
            if not hops:
                reason = why_no_hop(occupation, movers, path_class)
                finding = record_finding(charged, where, path_class, reason)
                jobs.append(finding)
                results.append([finding.output])
                continue
            ends = [hop_images(charged.structure, assignment, hop)[-1] for hop in hops]
            ranking = self.static.make(ends)
            ranking.name = f"screen {len(hops)} {path_class.value} hops, {where.state}"
            chosen = self.follow(charged, hops, ranking.output, where)
            jobs += [ranking, chosen]
            results.append(chosen.output)
        return Response(replace=Flow(jobs, output=results))  # type: ignore[return-value]

    @step()
    def follow(
        self, charged: RelaxDocument, hops: list[Hop], ranking: StaticDocument, where: HopContext
    ) -> Job:
        """Relax the end states of the most promising hops and run their bands."""
        assignment = charged.assignment
        jobs: list[Flow | Job] = []
        results = []
        order = sorted(range(len(hops)), key=lambda i: ranking.energies[i])
        for number, index in enumerate(order[: self.per_class], start=1):
            hop = hops[index]
            images = hop_images(charged.structure, assignment, hop)
            end = self.relax.make(images[-1], charged.frame)
            end.name = f"end state {number} of {hop.label}, {where.state}"
            via = images[1].frac_coords[_mover(charged, hop)].tolist() if hop.via else None
            band = self.connect(charged, end.output, hop, via, where)
            jobs += [end, band]
            results.append(band.output)
        return Response(replace=Flow(jobs, output=results))  # type: ignore[return-value]

    @step()
    def connect(
        self,
        initial: RelaxDocument,
        final: RelaxDocument,
        hop: Hop,
        via: list[float] | None,
        where: HopContext,
    ) -> Job:
        """Check the end state and run the band, or report that there is no such minimum."""
        before = initial.occupation
        problem = end_state_problem(before, final, hop)
        if problem:
            return _document(  # type: ignore[return-value]
                where, [initial, final], [], hop, PathStatus.UNSTABLE_ENDPOINT, problem, Spent()
            )
        return self._bands([initial, final], hop, via, where, Spent())  # type: ignore[return-value]

    @step()
    def judge(
        self,
        minima: list[RelaxDocument],
        bands: list[NebDocument],
        hop: Hop,
        where: HopContext,
        spent: Spent,
    ) -> Job:
        """Turn bands into a document, or relax the intermediate minima that they show."""
        split = [i for i, band in enumerate(bands) if band.intermediate is not None]
        if not split or len(bands) >= MAX_SEGMENTS:
            return _path_document(where, minima, bands, hop, spent)  # type: ignore[return-value]
        jobs: list[Flow | Job] = []
        middles = []
        for index in split:
            job = self.relax.make(bands[index].intermediate, minima[0].frame)
            job.name = f"intermediate minimum of {hop.label}, {where.state}"
            jobs.append(job)
            middles.append(job.output)
        end = self.insert(minima, bands, split, middles, hop, where, spent)
        return Response(replace=Flow([*jobs, end], output=end.output))  # type: ignore[return-value]

    @step()
    def insert(
        self,
        minima: list[RelaxDocument],
        bands: list[NebDocument],
        split: list[int],
        middles: list[RelaxDocument],
        hop: Hop,
        where: HopContext,
        spent: Spent,
    ) -> Job:
        """Run bands again from minimum to minimum; those that have not changed are stored."""
        spent = spent.plus([bands[i] for i in split]).plus(middles)
        path = list(minima)
        for index, middle in reversed(list(zip(split, middles, strict=True))):
            ends = (minima[index], minima[index + 1])
            is_new = all(_displacement(middle, end) > SAME_MINIMUM for end in ends)
            if is_new and middle.is_on_frame:
                path.insert(index + 1, middle)
        if len(path) == len(minima):  # no dip was a minimum of its own on the frame
            return _path_document(where, minima, bands, hop, spent)  # type: ignore[return-value]
        return self._bands(path, hop, None, where, spent)  # type: ignore[return-value]

    def _bands(
        self,
        minima: list[RelaxDocument],
        hop: Hop,
        via: list[float] | None,
        where: HopContext,
        spent: Spent,
    ) -> Response:
        """Bands between consecutive minima, then :meth:`judge`."""
        mover = _mover(minima[0], hop)
        jobs: list[Flow | Job] = []
        outputs = []
        for number, (first, last) in enumerate(pairwise(minima), start=1):
            job = self.neb.make(first.structure, last.structure, mover, via)
            part = f"segment {number} of {len(minima) - 1}, " if len(minima) > 2 else ""
            job.name = f"band of {hop.label}, {part}{where.state}"
            jobs.append(job)
            outputs.append(job.output)
        end = self.judge(minima, outputs, hop, where, spent)
        return Response(replace=Flow([*jobs, end], output=end.output))


@step(output_schema=BarrierDocument)
def record_finding(
    charged: RelaxDocument, where: HopContext, path_class: PathClass, reason: str
) -> BarrierDocument:
    """Document that says why a path class has no candidate."""
    return BarrierDocument(
        **_place(where, charged),
        path_class=path_class.value,
        hop=None,
        surroundings=None,
        status=None,
        detail=reason,
        barrier=None,
        segments=[],
        followers=[],
        n_images=0,
        n_force_calls=0,
        wall_time=0.0,
    )


def end_state_problem(before: Occupation, final: RelaxDocument, hop: Hop) -> str:
    """Why a relaxed end state is not the one asked for; empty if it is.

    The mover must sit on its end site and every other TM on its own; other ions may follow.
    """
    if not final.converged:
        return (
            f"the end state did not relax (largest force {final.max_force:.2f} eV/Å after "
            f"{final.n_force_calls} steps)"
        )
    if collapsed := distance_problem(final.structure):
        return f"another basin: the end state is {collapsed}"
    try:
        after = final.occupation
    except AssignmentError as error:
        return f"another basin: the end state left the frame ({error})"
    if after.species[hop.end.site] != hop.mover:
        went = [
            site
            for site, species in enumerate(after.species)
            if species == hop.mover and before.species[site] != hop.mover
        ]
        where = (
            f"{after.frame.kinds[went[0]].value} site {went[0]}" if went else f"site {hop.start}"
        )
        return f"no such minimum: {hop.mover} relaxed to {where} instead of {hop.end.site}"
    wanted = before.with_species({hop.start: None, hop.end.site: hop.mover})
    strays = [
        f"{species} left site {site}"
        for site, species in enumerate(wanted.species)
        if is_transition_metal(species) and after.species[site] != species
    ]
    return f"another basin: {', '.join(strays)}" if strays else ""


def _mover(initial: RelaxDocument, hop: Hop) -> int:
    return initial.assignment.atom_on(hop.start)


def _displacement(first: RelaxDocument, second: RelaxDocument) -> float:
    """Largest displacement of an atom between two structures of one cell, Å."""
    step = first.structure.frac_coords - second.structure.frac_coords
    step -= np.round(step)
    return float(np.linalg.norm(first.structure.lattice.get_cartesian_coords(step), axis=1).max())


def _path_document(
    where: HopContext,
    minima: list[RelaxDocument],
    bands: list[NebDocument],
    hop: Hop,
    spent: Spent,
) -> BarrierDocument:
    """Document of a path of one or more bands."""
    if len(bands) == 1:
        status, detail = bands[0].status, _band_detail(bands[0])
    else:
        status = PathStatus.SEVERAL_SADDLES
        places = ", ".join(_mover_place(middle, minima[0], hop) for middle in minima[1:-1])
        outcomes = ", ".join(band.status.value for band in bands)
        detail = f"split at intermediate minima ({places}); segments: {outcomes}"
    return _document(where, minima, bands, hop, status, detail, spent)


def _band_detail(band: NebDocument) -> str:
    if band.problem:
        return f"the potential fails on this path: {band.problem}"
    if band.status is PathStatus.NO_INTERIOR_SADDLE:
        return "monotone band: the barrier is the energy difference of the end states"
    if band.status is PathStatus.UNCONVERGED:
        return (
            f"largest projected force {band.residual:.2f} eV/Å after {band.n_steps} steps "
            f"(threshold {band.fmax:g})"
        )
    if band.status is PathStatus.SEVERAL_SADDLES:
        return (
            "a dip that relaxes to an end state or off the frame: the path could not be split there"
        )
    return f"largest projected force {band.residual:.3f} eV/Å"


def _mover_place(middle: RelaxDocument, initial: RelaxDocument, hop: Hop) -> str:
    """Where the mover sits in an intermediate minimum."""
    site = middle.assignment.sites[_mover(initial, hop)]
    if site is None or middle.frame is None:
        return f"{hop.mover} off the sites of the frame"
    return f"{hop.mover} on {middle.frame.kinds[site].value} {site}"


def _place(where: HopContext, initial: RelaxDocument) -> dict[str, Any]:
    """Fields that tell where a barrier belongs."""
    return {
        "context": where.context,
        "state": where.state,
        "order": where.order,
        "voltage": where.voltage,
        "li_content": initial.occupation.count()["Li"] / where.context.n_formula_units,
        "level_of_theory": initial.level_of_theory,
    }


def _document(
    where: HopContext,
    minima: list[RelaxDocument],
    bands: list[NebDocument],
    hop: Hop,
    status: PathStatus,
    detail: str,
    spent: Spent,
) -> BarrierDocument:
    initial, final = minima[0], minima[-1]
    before = initial.occupation
    segments, offset = [], 0.0
    for band in bands:
        segments.append(
            PathSegment(
                status=band.status,
                barrier=band.barrier,
                arc_lengths=band.arc_lengths,
                energies=[energy + offset for energy in band.energies],
                tangential_forces=band.tangential_forces,
                residual=band.residual,
            )
        )
        offset += band.barrier.reaction_energy
    total = spent.plus(bands).plus([final])
    return BarrierDocument(
        **_place(where, initial),
        path_class=hop.path_class.value,
        hop=hop,
        surroundings=surroundings(before, hop),
        status=status,
        detail=detail,
        barrier=path_barrier(segments),
        segments=segments,
        followers=_followers(before, final.occupation, hop),
        n_images=sum(band.n_images for band in bands),
        n_force_calls=total.n_force_calls,
        wall_time=total.wall_time,
    )


def path_barrier(segments: list[PathSegment]) -> Barrier | None:
    """Barrier of a path of one or more segments; None unless every segment is converged.

    A monotone segment counts as converged: its barrier is the difference of its ends.
    """
    if not segments or any(segment.status not in SOUND for segment in segments):
        return None
    energies = [energy for segment in segments for energy in segment.energies]
    top = max(segment.energies[0] + segment.barrier.forward for segment in segments)
    return Barrier(
        forward=top - energies[0],
        reverse=top - energies[-1],
        reaction_energy=energies[-1] - energies[0],
        max_minus_min=max(energies) - min(energies),
    )


def _followers(before: Occupation, after: Occupation, hop: Hop) -> list[str]:
    """Ions other than the mover that sit on other sites after the hop."""
    wanted = before.with_species({hop.start: None, hop.end.site: hop.mover})
    frame = before.frame
    return [
        f"{species} to {frame.kinds[site].value} {site}"
        for site, species in enumerate(after.species)
        if species is not None
        and frame.kinds[site] is not SiteKind.ANION
        and wanted.species[site] != species
    ]
