"""A real sshd on loopback, whose keys and settings lie in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

#: Loopback, but not what profiles take for this machine.
HOST = "127.0.0.2"
_CONFIGURATION = """
ListenAddress {host}
Port {port}
HostKey {base}/host_key
PidFile {base}/sshd.pid
AuthorizedKeysFile {base}/user_key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
Subsystem sftp internal-sftp
SetEnv {variables}
"""


def why_no_ssh() -> str | None:
    """Why sshd cannot be started here; None if it can."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    missing = [name for name in ("sshd", "ssh-keygen") if shutil.which(name, path=path) is None]
    if missing:
        return f"sshd is not installed ({', '.join(missing)}): apt-get install openssh-server"
    if os.geteuid() != 0:
        return "sshd is started as root"
    return None


class LocalSSH:
    """sshd that lets the user in with a key; a context manager that starts and stops it.

    Parameters
    ----------
    variables
        Environment of every login.
    """

    def __init__(self, **variables: str) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="sshd-"))
        self.key = self.base / "user_key"
        self.port = _free_port()
        self._variables = variables
        self._daemon: subprocess.Popen | None = None

    def __enter__(self) -> "LocalSSH":
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.base / name)]
            subprocess.run(command, check=True)
        settings = " ".join(f'{name}="{value}"' for name, value in self._variables.items())
        text = _CONFIGURATION.format(
            host=HOST, port=self.port, base=self.base, variables=settings or 'LRLO_TEST="1"'
        )
        (self.base / "sshd_config").write_text(text)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's, for separated privileges
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def start(self) -> None:
        """Listen."""
        path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
        program = shutil.which("sshd", path=path)
        assert program is not None
        with (self.base / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.base / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > end or self._daemon.poll() is not None:
                raise RuntimeError(f"sshd did not start: {self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop listening, and cut every connection."""
        if self._daemon is None:
            return
        children = Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children")
        connections = [int(pid) for pid in children.read_text().split()]
        self._daemon.terminate()
        self._daemon.wait(10)
        self._daemon = None
        for pid in connections:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue

    def log(self) -> str:
        """What the daemon wrote."""
        return (self.base / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), 1):
                return True
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as each:
        each.bind((HOST, 0))
        return int(each.getsockname()[1])
