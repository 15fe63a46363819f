"""Why a scheduler ended a job, read from what it wrote.

The forms of the messages are those of

- Slurm: ``slurmstepd`` (``src/slurmd/slurmstepd/req.c``: ``*** JOB 7 ON n1 CANCELLED AT … DUE TO
  TIME LIMIT ***``) and its cgroup plugin ("Detected 1 oom_kill event in StepId=…"; "oom-kill
  event(s)" until 22.05), and the job states that ``sacct`` and ``scontrol show job`` print
  (section "JOB STATE CODES" of the manual page of ``squeue``);
- PBS: ``=>> PBS: job killed: walltime 3618 exceeded limit 3600`` and the like for mem, vmem, pmem
  and cput (``mom_over_limit`` of OpenPBS and TORQUE, ``src/resmom/linux/mom_mach.c``), and TORQUE's
  ``node 1 (n2) requested job terminate``;
- Grid Engine: ``job 7 exceeds job hard limit "h_rt" of queue …`` (``msg_execd.h``), and the line
  ``failed 37 : qmaster enforced h_rt, h_cpu, or h_vmem limit`` of ``qacct``;
- LSF: the termination reasons, ``TERM_RUNLIMIT: job killed after reaching LSF run time limit``
  (IBM Spectrum LSF configuration reference, "Termination reasons displayed by bacct and bhist");
- Linux: "No space left on device", "Disk quota exceeded", "Read-only file system" (``errno(3)``),
  and what SQLite makes of them.
"""

import re
from dataclasses import dataclass

_MORE_TIME = "submit it again to go on where it stopped, and ask for more time if it ends so often"
_MORE_MEMORY = "ask for more memory per job, or for fewer jobs per node, and submit it again"
_AGAIN = "nothing that was stored is lost: submit it again"


@dataclass(frozen=True)
class _Cause:
    """A cause: forms of the messages that tell it, and what to say."""

    forms: tuple[str, ...]
    sentence: str

    def explains(self, text: str) -> bool:
        """Whether the text has one of the forms."""
        return any(re.search(form, text, re.MULTILINE) for form in self.forms)


def _state(*names: str) -> tuple[str, ...]:
    """Forms in which ``sacct`` and ``scontrol`` print a state; not the bare word in a text."""
    any_of = "|".join(names)
    return (
        rf"^\s*(?:{any_of})(?: by \d+)?\+?\s*$",  # sacct -n -o State
        rf"\|(?:{any_of})(?: by \d+)?\s*(?:\||$)",  # sacct -P
        rf"^\s*\d[\w.+\[\]-]*\s.*\s(?:{any_of})\+?\s+\d+:\d+\s*$",  # sacct
        rf"\bJobState=(?:{any_of})\b",  # scontrol show job
    )


#: What is told first goes first: a job that ran out of memory is also reported as cancelled.
_CAUSES: tuple[_Cause, ...] = (
    _Cause(
        (
            r"[Dd]etected \d+ oom[_-]kill event",
            r"slurmstepd[^:\s]*: error: .*[Ee]xceeded (?:job |step )?memory limit",
            r"^srun: error: .*: Out Of Memory",
            r"\bReason=OutOfMemory\b",
            *_state("OUT_OF_MEMORY", "OUT_OF_ME"),
            r"PBS: job killed: (?:p?v?mem) .*exceeded limit",
            r'exceeds job (?:hard|soft) limit "[hs]_(?:vmem|rss|data|as)"',
            r"\bTERM_(?:MEMLIMIT|SWAP|SWAPLIMIT)\b",
        ),
        f"The job used more memory than it asked for and was killed: {_MORE_MEMORY}.",
    ),
    _Cause(
        (
            r"DUE TO TIME LIMIT",
            r"\bReason=TimeLimit\b",
            *_state("TIMEOUT", "DEADLINE"),
            r"PBS: job killed: walltime .*exceeded limit",
            r'exceeds job (?:hard|soft) limit "[hs]_rt"',
            r"\bTERM_(?:RUNLIMIT|DEADLINE|WINDOW)\b",
        ),
        f"The job reached its walltime: {_MORE_TIME}.",
    ),
    _Cause(
        (
            r"PBS: job killed: p?cput .*exceeded limit",
            r'exceeds job (?:hard|soft) limit "[hs]_cpu"',
            r"\bTERM_CPULIMIT\b",
        ),
        f"The job reached its limit of CPU time: {_MORE_TIME}.",
    ),
    _Cause(
        (r"(?:qmaster|execd) enforced h_rt, h_cpu,? or h_vmem limit",),
        "The job reached its walltime or its limit of memory (Grid Engine does not say which): "
        "compare ru_wallclock and maxvmem of 'qacct -j' with what was asked for, ask for more of "
        "it, and submit it again.",
    ),
    _Cause(
        (r"Disk quota exceeded", r"No space left on device", r"database or disk is full"),
        "The disk or the quota is full: make room ('quota' and 'df -h' in the folder of the job "
        f"say where); {_AGAIN}.",
    ),
    _Cause(
        (r"Read-only file system", r"attempt to write a readonly database"),
        "The file system of the job cannot be written: have it mounted for writing, or choose "
        f"another folder; {_AGAIN}.",
    ),
    _Cause(
        (
            r"DUE TO NODE FAILURE",
            *_state("NODE_FAIL", "BOOT_FAIL"),
            r"PBS: job killed: node \d+ ",
            r"\bTERM_(?:ZOMBIE|SLURM|RMS)\b",
        ),
        f"The node of the job failed: {_AGAIN}; tell the operators if the same node fails again.",
    ),
    _Cause(
        (
            r"DUE TO (?:PREEMPTION|JOB REQUEUE)",
            *_state("PREEMPTED", "REQUEUED"),
            r"\bTERM_(?:PREEMPT|LOAD|REQUEUE_OWNER|REQUEUE_ADMIN)\b",
        ),
        "The scheduler took the node away for a job of higher priority: submit it again to go on "
        "where it stopped, or choose a partition without preemption.",
    ),
    _Cause(
        (
            r"CANCELLED AT [\dT:-]+ \*\*\*",
            *_state("CANCELLED"),
            r"\bTERM_(?:FORCE_)?(?:OWNER|ADMIN)\b",
        ),
        f"The job was cancelled by its owner or an operator: {_AGAIN}.",
    ),
)
_OTHER_OF_PBS = re.compile(r"PBS: job killed: (.+)")


def find_reason(text: str) -> str | None:
    """One sentence on why the scheduler ended a job and what to do about it.

    Parameters
    ----------
    text
        What the scheduler wrote into the output or error file of one job, or what ``sacct``,
        ``scontrol show job``, ``qacct``, ``bjobs -l`` or ``bhist -l`` say about it.

    Returns
    -------
    reason
        None if the text has none of the known forms: the job then ended by itself.

    Examples
    --------
    >>> find_reason("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-05T10:00:00 DUE TO TIME LIMIT ***")
    'The job reached its walltime: submit it again to go on where it stopped, and ask for more time if it ends so often.'
    >>> find_reason("converged after 12 steps") is None
    True
    """  # noqa: E501  # the line is as long as schedulers write it
    for cause in _CAUSES:
        if cause.explains(text):
            return cause.sentence
    other = _OTHER_OF_PBS.search(text)
    return f"PBS ended the job ({other[1].strip()}): {_AGAIN}." if other else None
