"""How many CPU cores this process is to use."""

import os

#: Variables by which users and schedulers say it, first ones first: OpenMP's own, those of Slurm,
#: Grid Engine, PBS and LSF.
_VARIABLES = (
    "OMP_NUM_THREADS",
    *("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    *("NSLOTS", "NCPUS", "LSB_DJOB_NUMPROC"),
)


def n_cores() -> int:
    """Cores that were asked for or allocated, else those that this process may run on."""
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value):
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(number: int) -> None:
    """Let libraries that are not loaded yet, and programs, use so many threads."""
    os.environ["OMP_NUM_THREADS"] = str(number)
