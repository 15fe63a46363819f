"""Barriers of one state: choose hops, relax and check end states, run bands."""

from dataclasses import dataclass, field
from typing import Any

from jobflow import Flow, Job, Maker, Response
from pydantic import BaseModel

from ..analysis.barrier import Barrier, PathStatus
from ..analysis.documents import BarrierDocument, PathSegment, StudyContext
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
                where, initial, hop, PathStatus.UNSTABLE_ENDPOINT, problem, relaxations=[final]
            )
        band = self.neb.make(initial.structure, final.structure, _mover(initial, hop), via)
        band.name = f"band of {hop.label}, {where.state}"
        end = self.conclude(initial, final, hop, band.output, where)
        return Response(replace=Flow([band, end], output=end.output))  # type: ignore[return-value]

    @step()
    def conclude(
        self,
        initial: RelaxDocument,
        final: RelaxDocument,
        hop: Hop,
        band: NebDocument,
        where: HopContext,
    ) -> Job:
        """Turn a band into a document; split a band with an intermediate minimum."""
        if band.intermediate is None:
            return _document(  # type: ignore[return-value]
                where, initial, hop, band.status, _detail(band), [band], [final]
            )
        middle = self.relax.make(band.intermediate, initial.frame)
        middle.name = f"intermediate minimum of {hop.label}, {where.state}"
        end = self.split(initial, final, hop, band, middle.output, where)
        return Response(replace=Flow([middle, end], output=end.output))  # type: ignore[return-value]

    @step()
    def split(
        self,
        initial: RelaxDocument,
        final: RelaxDocument,
        hop: Hop,
        band: NebDocument,
        middle: RelaxDocument,
        where: HopContext,
    ) -> Job:
        """Run the two bands from end to end through the intermediate minimum."""
        mover = _mover(initial, hop)
        names = ("first", "second")
        pairs = ((initial, middle), (middle, final))
        bands = [self.neb.make(a.structure, b.structure, mover) for a, b in pairs]
        for part, name in zip(bands, names, strict=True):
            part.name = f"{name} band of {hop.label}, {where.state}"
        end = join_segments(
            initial, hop, band, [middle, final], [part.output for part in bands], where
        )
        return Response(replace=Flow([*bands, end], output=end.output))  # type: ignore[return-value]


@step(output_schema=BarrierDocument)
def join_segments(
    initial: RelaxDocument,
    hop: Hop,
    whole: NebDocument,
    relaxations: list[RelaxDocument],
    bands: list[NebDocument],
    where: HopContext,
) -> BarrierDocument:
    """Document of a path with several saddles from its converged segments."""
    place = _waypoint_found(relaxations[0], initial, hop)
    detail = f"split at an intermediate minimum ({place}); " + "; ".join(
        f"segment {i}: {band.status.value}" for i, band in enumerate(bands, start=1)
    )
    return _document(
        where, initial, hop, PathStatus.SEVERAL_SADDLES, detail, bands, relaxations, [whole]
    )


@step(output_schema=BarrierDocument)
def record_finding(
    charged: RelaxDocument, where: HopContext, path_class: PathClass, reason: str
) -> BarrierDocument:
    """Document that says why a path class has no candidate."""
    return _document(where, charged, None, None, reason, path_class=path_class)


def end_state_problem(before: Occupation, final: RelaxDocument, hop: Hop) -> str:
    """Why a relaxed end state is not the one asked for; empty if it is.

    The mover must sit on its end site and every other TM on its own; other ions may follow.
    """
    if not final.converged:
        return (
            f"the end state did not relax (largest force {final.max_force:.2f} eV/Å after "
            f"{final.n_force_calls} steps)"
        )
    after = final.occupation
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


def _waypoint_found(middle: RelaxDocument, initial: RelaxDocument, hop: Hop) -> str:
    """Where the mover sits in the intermediate minimum."""
    site = middle.assignment.sites[_mover(initial, hop)]
    if site is None or middle.frame is None:
        return f"{hop.mover} off the sites of the frame"
    return f"{hop.mover} on {middle.frame.kinds[site].value} site {site}"


def _detail(band: NebDocument) -> str:
    if band.status is PathStatus.NO_INTERIOR_SADDLE:
        return "monotone band: the barrier is the energy difference of the end states"
    if band.status is PathStatus.UNCONVERGED:
        return (
            f"largest projected force {band.residual:.2f} eV/Å after {band.n_steps} steps "
            f"(threshold {band.fmax:g})"
        )
    return f"largest projected force {band.residual:.3f} eV/Å"


def _document(
    where: HopContext,
    initial: RelaxDocument,
    hop: Hop | None,
    status: PathStatus | None,
    detail: str,
    bands: list[NebDocument] | None = None,
    relaxations: list[RelaxDocument] | None = None,
    other_bands: list[NebDocument] | None = None,
    path_class: PathClass | None = None,
) -> BarrierDocument:
    before = initial.occupation
    segments, offset = [], 0.0
    for band in bands or []:
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
    work: list[NebDocument | RelaxDocument] = [
        *(bands or []),
        *(other_bands or []),
        *(relaxations or []),
    ]
    kind = path_class or (hop.path_class if hop else None)
    assert kind is not None
    return BarrierDocument(
        context=where.context,
        state=where.state,
        order=where.order,
        voltage=where.voltage,
        li_content=before.count()["Li"] / where.context.n_formula_units,
        path_class=kind.value,
        hop=hop,
        surroundings=surroundings(before, hop) if hop else None,
        status=status,
        detail=detail,
        barrier=path_barrier(segments),
        segments=segments,
        followers=_followers(before, relaxations[-1].occupation, hop)
        if hop and relaxations
        else [],
        n_images=sum(band.n_images for band in bands or []),
        n_force_calls=sum(item.n_force_calls for item in work),
        wall_time=sum(item.wall_time for item in work),
        level_of_theory=initial.level_of_theory,
    )


def path_barrier(segments: list[PathSegment]) -> Barrier | None:
    """Barrier of a path of one or more segments; None unless every segment is converged.

    A monotone segment counts as converged: its barrier is the difference of its ends.
    """
    sound = (PathStatus.CONVERGED, PathStatus.NO_INTERIOR_SADDLE)
    if not segments or any(segment.status not in sound for segment in segments):
        return None
    energies = [energy for segment in segments for energy in segment.energies]
    return Barrier(
        forward=max(energies) - energies[0],
        reverse=max(energies) - energies[-1],
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
