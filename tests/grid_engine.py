"""Grid Engine's own reading of job scripts, which needs its client and no daemon."""

import os
import subprocess
from pathlib import Path

_QSUB = Path("/usr/lib/gridengine/qsub")
_SETTINGS = {
    **{"admin_user": "none", "default_domain": "none", "ignore_fqdn": "true"},
    **{"spooling_method": "classic", "spooling_lib": "libspoolc", "spooling_params": "/x;/y"},
    **{"binary_path": "/usr/lib/gridengine", "qmaster_spool_dir": "/x"},
    **{"security_mode": "none", "listener_threads": "2", "worker_threads": "2"},
    **{"scheduler_threads": "1", "jvm_threads": "0"},
}


def why_no_qsub() -> str | None:
    """Why scripts cannot be verified here; None if they can."""
    if _QSUB.exists():
        return None
    return "apt-get install --no-install-recommends gridengine-client"


def verify(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What ``qsub -verify`` says about a script."""
    common = folder / "cell" / "default" / "common"
    common.mkdir(parents=True, exist_ok=True)
    (common / "act_qmaster").write_text("localhost\n")
    (common / "bootstrap").write_text("".join(f"{k} {v}\n" for k, v in _SETTINGS.items()))
    (folder / "job.sh").write_text(script)
    environment = {"SGE_ROOT": str(folder / "cell"), "SGE_CELL": "default"}
    environment |= {"SGE_QMASTER_PORT": "16444", "SGE_EXECD_PORT": "16445"}
    return subprocess.run(
        [_QSUB, "-verify", "job.sh"],
        cwd=folder,
        env={**environment, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def directives(understood: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Directives that were understood, by name."""
    lines = (line.partition(":") for line in understood.stdout.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}
