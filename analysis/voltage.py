"""Voltage curve from energies, and the Li content at a voltage."""

import itertools
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class VoltageOutsideCurveError(ValueError):
    """The voltage lies beyond the Li contents that were computed."""


class LithiationPoint(BaseModel):
    """Lowest energy found at one Li content of a cell.

    Attributes
    ----------
    n_li
        Li in the cell.
    energy
        Energy of the cell, eV.
    """

    model_config = ConfigDict(frozen=True)

    n_li: int
    energy: float


class VoltageStep(BaseModel):
    """Plateau between two neighbouring stable Li contents, V against Li/Li+."""

    model_config = ConfigDict(frozen=True)

    n_li_low: int
    n_li_high: int
    voltage: float


class VoltageCurve(BaseModel):
    """Convex hull over Li contents.

    Attributes
    ----------
    points
        Lowest energy at every Li content computed, ascending in Li.
    steps
        Plateaus between hull vertices, ascending in Li (descending in voltage).
    lithium_energy
        Energy of one atom of bcc Li, eV.
    """

    model_config = ConfigDict(frozen=True)

    points: tuple[LithiationPoint, ...]
    steps: tuple[VoltageStep, ...]
    lithium_energy: float


def average_voltage(low: LithiationPoint, high: LithiationPoint, lithium_energy: float) -> float:
    """Average voltage between two Li contents, V against Li/Li+.

    ``V = -[E(x1) - E(x2) - (x1 - x2) E(Li, bcc)] / (x1 - x2)``, Aydinol et al., Phys. Rev. B 56,
    1354 (1997).

    Raises
    ------
    ValueError
        If the Li contents are equal.
    """
    n = high.n_li - low.n_li
    if n == 0:
        raise ValueError(f"both points hold {low.n_li} Li")
    return -(high.energy - low.energy - n * lithium_energy) / n


def voltage_curve(points: Sequence[LithiationPoint], lithium_energy: float) -> VoltageCurve:
    """Lower convex hull over Li contents and its plateaus.

    Parameters
    ----------
    points
        Energies by Li content; of several at one content the lowest counts.
    lithium_energy
        Energy of one atom of bcc Li, eV.
    """
    lowest: dict[int, LithiationPoint] = {}
    for point in points:
        if point.n_li not in lowest or point.energy < lowest[point.n_li].energy:
            lowest[point.n_li] = point
    ordered = [lowest[n] for n in sorted(lowest)]
    hull: list[LithiationPoint] = []
    for point in ordered:
        # A vertex stays while the voltage falls towards more Li (Andrew's monotone chain).
        while len(hull) > 1 and average_voltage(
            hull[-2], hull[-1], lithium_energy
        ) <= average_voltage(hull[-1], point, lithium_energy):
            hull.pop()
        hull.append(point)
    steps = tuple(
        VoltageStep(
            n_li_low=low.n_li,
            n_li_high=high.n_li,
            voltage=average_voltage(low, high, lithium_energy),
        )
        for low, high in itertools.pairwise(hull)
    )
    return VoltageCurve(points=tuple(ordered), steps=steps, lithium_energy=lithium_energy)


def lithium_at_voltage(curve: VoltageCurve, voltage: float) -> int:
    """Li in the cell that is stable at a voltage.

    Below the lowest plateau the host is full. Above the highest one the curve says nothing: the
    Li content would be that of the curve's end whatever the voltage.

    Parameters
    ----------
    curve
        Computed curve.
    voltage
        V against Li/Li+.

    Raises
    ------
    VoltageOutsideCurveError
        If the voltage is above the highest plateau.
    """
    if not curve.steps:
        return curve.points[-1].n_li
    highest = curve.steps[0]
    if voltage > highest.voltage:
        raise VoltageOutsideCurveError(
            f"{voltage:g} V is above the highest plateau of the computed curve, "
            f"{highest.voltage:.2f} V ({highest.n_li_low} to {highest.n_li_high} Li per cell); "
            f"allowed: up to {highest.voltage:.2f} V, or give the state's li_content instead"
        )
    for step in curve.steps:
        if voltage > step.voltage:
            return step.n_li_low
    return curve.steps[-1].n_li_high
