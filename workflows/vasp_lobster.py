"""Bonding by VASP and LOBSTER: atomate2's jobs with this project's settings, read as a document."""

from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
from jobflow import CURRENT_JOB, Flow, Job, JobStore, run_locally
from maggma.core import Sort
from maggma.stores import MemoryStore
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pymatgen.core import Element, Structure
from pymatgen.io.lobster import Lobsterin
from pymatgen.io.vasp import Kpoints, PotcarSingle

from ..analysis.bonding_documents import BondingResult, EnergyWindow, ScfAttempt, ScfReport
from ..analysis.bonding_lobster import read_lobster
from ..analysis.level_of_theory import LevelOfTheory
from ..structures.frame import Frame
from .backend import BackendError
from .checkpoint import calculation_folder
from .gpaw_process import START_MOMENTS
from .gpaw_settings import DEFAULT_U
from .progress import report_step

#: PAW datasets, those of the Materials Project; LOBSTER's basis needs their semicore states, which
#: the analysis then leaves out of TM-O bonds. Others carry the name of their element.
POTCARS: Mapping[str, str] = MappingProxyType(
    {
        **{"Li": "Li_sv", "Na": "Na_pv", "Mg": "Mg_pv", "Ti": "Ti_pv", "V": "V_pv"},
        **{"Cr": "Cr_pv", "Mn": "Mn_pv", "Fe": "Fe_pv", "Ni": "Ni_pv", "Nb": "Nb_pv"},
        **{"Mo": "Mo_pv", "Ru": "Ru_pv", "W": "W_sv", "Ta": "Ta_pv", "Zr": "Zr_sv"},
    }
)
POTCAR_FUNCTIONAL = "PBE_54"


class VaspSettings(BaseModel):
    """How VASP and LOBSTER are run.

    Attributes
    ----------
    functional
        ``PBE`` or ``r2SCAN``.
    hubbard_u
        U of d shells by element, eV; by default that of the functional, as for GPAW. ``{}`` is
        without U.
    cutoff
        Kinetic energy of the plane waves, eV.
    k_density
        k points per 1/Å in every direction, gamma included.
    smearing
        Width of Gaussian occupations, eV; LOBSTER uses the same.
    potcars
        PAW datasets by element, in place of the default ones.
    vasp_command, lobster_command
        How the programs are started; by default as atomate2 is configured (``ATOMATE2_VASP_CMD``,
        ``ATOMATE2_LOBSTER_CMD``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functional: Literal["PBE", "r2SCAN"] = "PBE"
    hubbard_u: dict[str, float] | None = None
    cutoff: float = Field(default=520.0, ge=300, le=2000)
    k_density: float = Field(default=3.0, gt=0)
    smearing: float = Field(default=0.05, gt=0, le=0.5)
    potcars: dict[str, str] = {}
    vasp_command: str | None = None
    lobster_command: str | None = None

    @model_validator(mode="after")
    def _u_belongs_to_transition_metals(self) -> Self:
        for element in self.hubbard_u or {}:
            known = Element.is_valid_symbol(element)
            if not (known and Element(element).is_transition_metal):
                raise ValueError(f"hubbard_u: {element} has no d shell to put U on")
        return self

    @property
    def u_values(self) -> Mapping[str, float]:
        """U of d shells by element, eV."""
        return DEFAULT_U[self.functional] if self.hubbard_u is None else self.hubbard_u

    @property
    def level_of_theory(self) -> LevelOfTheory:
        """Label of the numbers that come out."""
        return LevelOfTheory(
            backend="vasp",
            model=f"{self.functional}{'+U' if self.u_values else ''}, LOBSTER",
            version=f"({POTCAR_FUNCTIONAL}, {self.cutoff:g} eV)",
        )


def incar(structure: Structure, settings: VaspSettings) -> dict[str, Any]:
    """What the settings say about INCAR beyond atomate2's static calculation for LOBSTER.

    U is by element; pymatgen puts it into the order of POSCAR.
    """
    elements = list(dict.fromkeys(site.specie.symbol for site in structure))
    u_values = settings.u_values
    wanted: dict[str, Any] = {
        **{"ISPIN": 2, "ENCUT": settings.cutoff, "ISMEAR": 0, "SIGMA": settings.smearing},
        # Symmetry off: LOBSTER needs every k point but for time reversal.
        **{"ISYM": 0, "EDIFF": 1e-6, "LORBIT": 11, "LASPH": True, "LMAXMIX": 4},
        "METAGGA": "R2Scan" if settings.functional == "r2SCAN" else None,
        "LDAU": False,
    }
    with_u = {element: u for element in elements if (u := u_values.get(element))}
    if with_u:
        wanted |= {
            **{"LDAU": True, "LDAUTYPE": 2},  # Dudarev: U - J only
            "LDAUL": dict.fromkeys(with_u, 2),
            "LDAUU": with_u,
            "LDAUJ": dict.fromkeys(with_u, 0),
        }
    return wanted


def k_mesh(cell: NDArray[np.float64], k_density: float) -> tuple[int, int, int]:
    """Number of k points in every direction of a cell with vectors in rows, Å."""
    reciprocal = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
    a, b, c = (max(1, int(np.ceil(k_density * length - 1e-6))) for length in reciprocal)
    return a, b, c


def potcars(structure: Structure, settings: VaspSettings) -> dict[str, str]:
    """PAW dataset of every element of a structure, in the order of POSCAR."""
    elements = dict.fromkeys(site.specie.symbol for site in structure)
    return {e: settings.potcars.get(e, POTCARS.get(e, e)) for e in elements}


def lobster_basis(structure: Structure, settings: VaspSettings) -> dict[str, str]:
    """Orbitals of LOBSTER's projection by element: the standard ones of the PAW datasets.

    Raises
    ------
    BackendError
        If a dataset has no standard basis.
    """
    symbols = list(potcars(structure, settings).values())
    try:
        lines = Lobsterin.get_basis(structure, symbols)
    except (KeyError, ValueError) as error:
        raise BackendError(
            f"LOBSTER has no standard basis for one of the datasets {', '.join(symbols)} "
            f"({error}); choose others with potcars"
        ) from error
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def require_potcars(structure: Structure, settings: VaspSettings) -> None:
    """Make sure that VASP's datasets can be had before anything starts.

    Raises
    ------
    BackendError
        Naming the first that is missing and how to get it.
    """
    for symbol in potcars(structure, settings).values():
        try:
            PotcarSingle.from_symbol_and_functional(symbol, POTCAR_FUNCTIONAL)
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendError(
                f"no POTCAR {symbol} ({POTCAR_FUNCTIONAL}): VASP's datasets come with its licence "
                "(portal of vasp.at, potpaw_PBE.54); unpack them, run 'pmg config -p UNPACKED "
                "FOLDER' and 'pmg config --add PMG_VASP_PSP_DIR FOLDER', or name another with "
                "potcars"
            ) from error


def require_atomate2() -> str:
    """Version of atomate2.

    Raises
    ------
    BackendError
        If it, lobsterpy or ijson is not installed.
    """
    for name in ("atomate2", "lobsterpy", "ijson"):
        if util.find_spec(name) is None:
            raise BackendError(f"{name} is not installed; pip install 'lrlo[vasp]'")
    return metadata.version("atomate2")


def lobster_maker(structure: Structure, settings: VaspSettings, folder: Path) -> Any:
    """atomate2's ``VaspLobsterMaker`` (static calculation, LOBSTER) with these settings.

    Parameters
    ----------
    structure
        Structure that it will be given; moments as site property ``magmom``.
    settings
        How VASP and LOBSTER are run.
    folder
        Where the file with LOBSTER's basis is written, which atomate2 reads when it runs.
    """
    require_atomate2()
    # Optional, so that the type checker may not find it either.
    from atomate2.lobster import jobs as lobster_jobs  # type: ignore[import-not-found,unused-ignore]
    from atomate2.vasp.flows import lobster as flows  # type: ignore[import-not-found,unused-ignore]
    from atomate2.vasp.jobs import lobster as vasp_jobs  # type: ignore[import-not-found,unused-ignore]
    from atomate2.vasp.sets import core as sets  # type: ignore[import-not-found,unused-ignore]

    datasets = potcars(structure, settings)
    basis = lobster_basis(structure, settings)
    # One basis as the smallest and as the largest: one run of LOBSTER, not one per combination.
    path = folder / "lobster_basis.yaml"
    lines = [f"  {datasets[e]}: '{orbitals} '" for e, orbitals in basis.items()]
    path.write_text("BASIS:\n" + "\n".join(lines) + "\n")
    generator = sets.LobsterTightStaticSetGenerator(
        user_incar_settings=incar(structure, settings),
        user_kpoints_settings=Kpoints.gamma_automatic(
            k_mesh(structure.lattice.matrix, settings.k_density)
        ),
        user_potcar_settings=datasets,
        user_potcar_functional=POTCAR_FUNCTIONAL,
        user_supplied_basis=basis,
    )
    vasp = {"vasp_cmd": settings.vasp_command} if settings.vasp_command else {}
    lobster = {"lobster_cmd": settings.lobster_command} if settings.lobster_command else {}
    return flows.VaspLobsterMaker(
        relax_maker=None,
        lobster_static_maker=vasp_jobs.LobsterStaticMaker(
            input_set_generator=generator,
            run_vasp_kwargs=dict(vasp),
            # Whatever the user's settings of atomate2 are: no bonding of unconverged states.
            stop_children_kwargs={"handle_unsuccessful": "error"},
        ),
        lobster_maker=lobster_jobs.LobsterMaker(
            # Empty d states are looked for up to 10 eV above the valence band.
            user_lobsterin_settings={"COHPendEnergy": 12.0},
            # Without custodian, whose job for LOBSTER opens its log in a way that monty refuses;
            # what LOBSTER did not write is missed when its files are read.
            run_lobster_kwargs={"job_type": "direct", **lobster},
            # Read by read_lobster; lobsterpy's own analysis would only be another way to fail.
            task_document_kwargs={"analyze_outputs": False},
        ),
        address_min_basis=str(path),
        address_max_basis=str(path),
    )


def with_moments(structure: Structure, magmoms: list[float] | None) -> Structure:
    """Copy with the moments that VASP starts from, typical ones where none are given."""
    if magmoms is None or not any(magmoms):
        magmoms = [START_MOMENTS.get(site.specie.symbol, 0.0) for site in structure]
    plain = Structure.from_sites(structure)
    plain.add_site_property("magmom", magmoms)
    return plain


class VaspLobster:
    """VASP's static calculation and LOBSTER, by atomate2's jobs in one task.

    Everything is written below the folder of the running task's checkpoints. A task that is
    stopped after VASP goes on with LOBSTER.

    Parameters
    ----------
    settings
        How they are run.
    """

    def __init__(self, settings: VaspSettings | None = None) -> None:
        self.settings = settings or VaspSettings()
        self.level_of_theory = self.settings.level_of_theory

    def estimate(self, structure: Structure) -> None:
        """Nothing: the time depends on a cluster and on how VASP was compiled there."""

    def analyse(
        self,
        structure: Structure,
        frame: Frame | None = None,
        magmoms: Sequence[float] | None = None,
        window: EnergyWindow | None = None,
    ) -> BondingResult:
        """O 2p states and -ICOHP of a structure, whose atoms the result sorts by element.

        Raises
        ------
        BackendError
            If atomate2 or a POTCAR is missing: before VASP is started.
        LobsterError
            If a file of LOBSTER is missing or belongs to another structure.
        """
        require_atomate2()
        require_potcars(structure, self.settings)
        start, order = sorted_by_element(structure)
        moments = None if magmoms is None else [magmoms[atom] for atom in order]
        folder = calculation_folder("vasp")
        folder.mkdir(parents=True, exist_ok=True)
        maker = lobster_maker(with_moments(start, moments), self.settings, folder)
        report_step("VASP, static")
        static = _finished_static(folder) or _run_static(
            maker, with_moments(start, moments), folder
        )
        report_step("LOBSTER")
        basis = lobster_basis(start, self.settings)
        done = _run(maker.lobster_maker.make(wavefunction_dir=static, basis_dict=basis), folder)
        for wave_function in folder.glob("job_*/WAVECAR*"):
            wave_function.unlink()  # by far the largest files, and only LOBSTER needed them
        attempt = ScfAttempt(
            settings=f"VASP, Gaussian smearing {self.settings.smearing:g} eV",
            spin_polarised=True,
            electronic_temperature=0.0,
            converged=True,  # the job fails otherwise
            n_iterations=0,
            last_iterations=(),
        )
        return read_lobster(
            Path(_without_host(done)),
            start,
            frame,
            window or EnergyWindow(),
            scf=ScfReport(attempts=(attempt,), n_unpaired=None, moments_from="the moments given"),
            level_of_theory=self.level_of_theory,
        )


def _finished_static(folder: Path) -> str | None:
    """Folder of a finished run of VASP whose wave function is still there."""
    note = folder / "static.txt"
    if not note.exists():
        return None
    static = note.read_text().strip()
    return static if any(Path(_without_host(static)).glob("WAVECAR*")) else None


def _run_static(maker: Any, structure: Structure, folder: Path) -> str:
    """Run VASP with as many bands as LOBSTER's basis has functions; its folder."""
    from atomate2.vasp.jobs import lobster as vasp_jobs

    basis = vasp_jobs.get_basis_infos(
        structure=structure,
        vasp_maker=maker.lobster_static_maker,
        address_max_basis=maker.address_max_basis,
        address_min_basis=maker.address_min_basis,
    )
    static = vasp_jobs.update_user_incar_settings_maker(
        maker.lobster_static_maker, basis.output["nbands"], structure, None
    )
    directory = _run(Flow([basis, static], output=static.output), folder)
    (folder / "static.txt").write_text(directory)
    return directory


def _run(work: Flow | Job, folder: Path) -> str:
    """Run jobs of atomate2 one after the other; the folder of the last, with its host's name."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    running = CURRENT_JOB.job, CURRENT_JOB.store
    try:
        run_locally(
            work,
            log=False,
            store=store,
            create_folders=True,
            root_dir=folder,
            raise_immediately=True,
        )
    finally:
        CURRENT_JOB.job, CURRENT_JOB.store = running  # jobflow forgets the job around these
    last = store.query_one(
        {"uuid": work.output.uuid}, ["output.dir_name"], sort={"index": Sort.Descending}
    )
    assert last is not None  # run_locally has raised otherwise
    return str(last["output"]["dir_name"])


def _without_host(directory: str) -> str:
    return directory.rsplit(":", 1)[-1]


def sorted_by_element(structure: Structure) -> tuple[Structure, list[int]]:
    """Structure with atoms of one element together, as POTCAR is, and the atom of every place."""
    elements = list(dict.fromkeys(site.specie.symbol for site in structure))
    order = sorted(range(len(structure)), key=lambda i: elements.index(structure[i].specie.symbol))
    return Structure.from_sites([structure[i] for i in order]), order
