"""Bonding tasks: electronic states of one structure and what they say about its oxygens."""

from dataclasses import dataclass, field
from typing import Any

from jobflow import Job, Maker
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure

from ..analysis.bonding_documents import BondingDocument, BondingResult, EnergyWindow
from ..structures.frame import Frame
from .backend import BackendError, BackendSpec, checked_settings
from .barriers import HopContext
from .bonding_source import BondingSource
from .gpaw_lcao import GpawLcao
from .gpaw_settings import LCAO_FUNCTIONALS, GpawSettings
from .task import step, task
from .tight_binding import TightBinding, TightBindingSettings
from .vasp_lobster import VaspLobster, VaspSettings


class BondingSourceSpec(BaseModel):
    """Which source of electronic states is used.

    Attributes
    ----------
    name
        ``tight_binding`` (GFN1-xTB), ``gpaw`` (DFT+U in a local basis) or ``vasp`` (with LOBSTER).
    settings
        Settings of the source; see :class:`lrlo.workflows.tight_binding.TightBindingSettings`,
        :class:`lrlo.workflows.gpaw_settings.GpawSettings` and
        :class:`lrlo.workflows.vasp_lobster.VaspSettings`.
    version
        Source and version, filled in by :func:`versioned_source` when a study starts: part of the
        key of every task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "tight_binding"
    settings: dict[str, Any] = {}
    version: str = ""


SOURCES = ("tight_binding", "gpaw", "vasp")


def load_source(spec: BondingSourceSpec) -> BondingSource:
    """The source that a specification names.

    Raises
    ------
    BackendError
        If there is no such source, its package is missing, or a setting is unknown or out of
        range.
    """
    what, place = f"source of bonding {spec.name}", "bonding.source.settings"
    if spec.name == "tight_binding":
        return TightBinding(checked_settings(TightBindingSettings, spec.settings, what, place))
    if spec.name == "gpaw":
        return GpawLcao(checked_settings(GpawSettings, spec.settings, what, place))
    if spec.name == "vasp":
        return VaspLobster(checked_settings(VaspSettings, spec.settings, what, place))
    raise BackendError(f"unknown source of bonding {spec.name!r}; allowed: {', '.join(SOURCES)}")


def default_source(backend: BackendSpec) -> BondingSourceSpec:
    """The source of a study that names none: that of its backend.

    GPAW analyses in atomic orbitals what it relaxed, with the same U, k points and processes
    where the study says them; functionals that need plane waves give way to PBE.

    Examples
    --------
    >>> default_source(BackendSpec(name="gpaw", kwargs={"n_ranks": 8, "cutoff": 600})).settings
    {'n_ranks': 8}
    """
    if backend.name != "gpaw":
        return BondingSourceSpec()
    given = {
        key: value for key, value in backend.kwargs.items() if key in GpawSettings.model_fields
    }
    if given.get("functional", "PBE") not in LCAO_FUNCTIONALS:
        given.pop("functional")
    return BondingSourceSpec(name="gpaw", settings=given)


def versioned_source(spec: BondingSourceSpec) -> BondingSourceSpec:
    """Specification with the source and version that it means on this machine."""
    return spec.model_copy(update={"version": str(load_source(spec).level_of_theory)})


@dataclass
class BondingMaker(Maker):
    """O 2p states, -ICOHP and gaps of one structure by oxygen class.

    Attributes
    ----------
    source
        Where the electronic states come from.
    window
        Window of the O 2p weight.
    """

    name: str = "bonding"
    source: BondingSourceSpec = field(default_factory=BondingSourceSpec)
    window: EnergyWindow = field(default_factory=EnergyWindow)

    @task(output_schema=BondingResult, data=["curves"])
    def make(
        self,
        structure: Structure,
        frame: Frame | None = None,
        magmoms: list[float] | None = None,
    ) -> Job:
        """Analyse a structure as it is.

        Parameters
        ----------
        structure
            Structure to analyse.
        frame
            Frame of its cell; None to take oxygen classes from a distance cutoff.
        magmoms
            Moment of every atom, Bohr magneton.
        """
        result = load_source(self.source).analyse(structure, frame, magmoms, self.window)
        return result  # type: ignore[return-value]  # the decorator makes it a job


@step(output_schema=BondingDocument, data=["curves"])
def record_bonding(result: BondingResult, where: HopContext) -> BondingDocument:
    """Document of the bonding in a state of a study."""
    n_lithium = sum(site.specie.symbol == "Li" for site in result.structure)
    return BondingDocument(
        context=where.context,
        state=where.state,
        order=where.order,
        voltage=where.voltage,
        li_content=n_lithium / where.context.n_formula_units,
        result=result,
        level_of_theory=result.level_of_theory,
    )
