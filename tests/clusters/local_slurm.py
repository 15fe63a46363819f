"""A real Slurm cluster of one node on this machine: munged, slurmctld and slurmd on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "scontrol")
PARTITION = "debug"
#: CPUs that the node says it has, whatever the machine has.
N_CPUS = 8
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={base}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=8000
ReturnToService=2
KillWait=2
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MaxJobCount=20000
NodeName={host} NodeAddr=127.0.0.1 CPUs={n_cpus} RealMemory=65536 State=UNKNOWN
PartitionName={partition} Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_no_slurm() -> str | None:
    """Why Slurm cannot be started here; None if it can."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root"
    return None


class LocalSlurm:
    """Slurm in a folder of its own; a context manager that starts and stops it.

    While it is up, ``SLURM_CONF`` of this process names it, so that commands find it.
    """

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket's path is limited
        self.configuration = self.base / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen] = {}
        self._before = os.environ.get("SLURM_CONF")

    def __enter__(self) -> "LocalSlurm":
        self.base.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (self.base / name).mkdir(mode=0o755)
        ports = _free_ports(2)
        self.configuration.write_text(
            _CONFIGURATION.format(
                host=_host(),
                base=self.base,
                controller_port=ports[0],
                node_port=ports[1],
                n_cpus=N_CPUS,
                partition=PARTITION,
            )
        )
        os.environ["SLURM_CONF"] = str(self.configuration)
        key = self.base / "munge" / "key"
        key.touch(mode=0o400)
        key.write_bytes(os.urandom(128))
        files = {
            "key": key,
            **{n: self.base / "munge" / n for n in ("socket", "pid", "log", "seed")},
        }
        names = {"key": "key-file", "pid": "pid-file", "log": "log-file", "seed": "seed-file"}
        self._start(
            "munged",
            ["--foreground", "--force"]
            + [f"--{names.get(name, name)}={path}" for name, path in files.items()],
        )
        _wait(lambda: files["socket"].exists(), "munged did not start")
        self.start_controller()
        self._start("slurmd", ["-D"])
        self._wait_for_node()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scancel", "--user=root"], capture_output=True, check=False, timeout=20)
        for name in list(self._daemons):
            self._stop(name)
        if self._before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = self._before
        shutil.rmtree(self.base, ignore_errors=True)

    def start_controller(self) -> None:
        """Start slurmctld, with the jobs of before if it was stopped."""
        self._start("slurmctld", ["-D", "-i"])

    def stop_controller(self) -> None:
        """Stop slurmctld: commands get no answer, running jobs go on."""
        self._stop("slurmctld")

    def command(self, *arguments: str) -> str:
        """Output of a command of Slurm."""
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, timeout=60, errors="replace"
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """State of every job that is waiting or running, by its number."""
        lines = self.command("squeue", "-h", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def expire(self, job: str) -> None:
        """Let a running job reach its time limit now; Slurm's own limits are whole minutes."""
        self.command("scontrol", "update", f"JobId={job}", "EndTime=now")

    def fail_node(self) -> None:
        """Take the node down as one that lost its power: its jobs end or are queued again."""
        self.command("scontrol", "update", f"NodeName={_host()}", "State=DOWN", "Reason=test")
        time.sleep(5)  # the node lives, and has to end what ran there before it takes it again

    def repair_node(self) -> None:
        """Bring the node back."""
        command = ["scontrol", "update", f"NodeName={_host()}", "State=RESUME"]
        # Refused if the node has come back by itself.
        subprocess.run(command, capture_output=True, check=False, timeout=60)
        self._wait_for_node()

    def wait_until_idle(self, timeout: float = 60.0) -> None:
        """Wait until no job waits or runs."""
        _wait(lambda: not self.jobs(), "jobs are still in the queue", timeout)

    def _wait_for_node(self) -> None:
        def idle() -> bool:
            done = subprocess.run(
                ["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, check=False
            )
            return "idle" in done.stdout or "mix" in done.stdout

        _wait(idle, f"slurmd did not start; see {self.base}")

    def _start(self, program: str, arguments: list[str]) -> None:
        path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
        found = shutil.which(program, path=path)
        assert found is not None, program
        with (self.base / f"{program}.out").open("ab") as out:
            self._daemons[program] = subprocess.Popen(
                [found, *arguments], stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    def _stop(self, program: str) -> None:
        daemon = self._daemons.pop(program, None)
        if daemon is None:
            return
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait(condition, message: str, timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(message)
        time.sleep(0.05)


def _host() -> str:
    return socket.gethostname().split(".")[0]


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
