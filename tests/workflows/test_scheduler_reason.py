"""What schedulers write when they end a job, and what users are told."""

import doctest

import pytest

from lrlo.workflows import scheduler_reason
from lrlo.workflows.scheduler_reason import find_reason

WALLTIME, MEMORY, CPU_TIME = "reached its walltime:", "more memory than", "limit of CPU time"
NODE, TAKEN, CANCELLED = "node of the job failed", "higher priority", "cancelled by its owner"
FULL, READ_ONLY = "quota is full", "cannot be written"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        # Slurm, in the error file of the job
        (
            "slurmstepd: error: *** JOB 14 ON node1 CANCELLED AT 2026-11-21T17:03:12 "
            "DUE TO TIME LIMIT ***",
            WALLTIME,
        ),
        (
            "slurmstepd: error: *** STEP 14.0 ON node1 CANCELLED AT 2026-11-21T17:03:12 "
            "DUE TO TIME LIMIT ***",
            WALLTIME,
        ),
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=16.batch. Some of the step "
            "tasks have been OOM Killed.",
            MEMORY,
        ),
        (
            "slurmstepd: error: Detected 3 oom-kill event(s) in StepId=16.batch. Some of your "
            "processes may have been killed by the cgroup out-of-memory handler.",
            MEMORY,
        ),
        ("slurmstepd: error: Exceeded job memory limit", MEMORY),
        ("slurmstepd: error: Job 5 exceeded memory limit (5228 > 1024), being killed", MEMORY),
        (  # Slurm 22.05 with OverMemoryKill, as its daemon wrote it
            "slurmstepd-node1: error: StepId=1.batch exceeded memory limit (416317440 > "
            "104857600), being killed\nslurmstepd-node1: error: Exceeded job memory limit\n"
            "slurmstepd-node1: error: *** JOB 1 ON node1 CANCELLED AT 2026-11-21T21:32:00 ***",
            MEMORY,
        ),
        ("srun: error: node1: task 0: Out Of Memory", MEMORY),
        (
            "slurmstepd: error: *** JOB 8 ON node1 CANCELLED AT 2026-11-21T17:03:12 DUE TO NODE "
            "FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***",
            NODE,
        ),
        (
            "slurmstepd: error: *** JOB 8 ON node1 CANCELLED AT 2026-11-21T17:03:12 DUE TO "
            "PREEMPTION ***",
            TAKEN,
        ),
        (
            "slurmstepd: error: *** JOB 8 ON node1 CANCELLED AT 2026-11-21T17:03:12 DUE TO JOB "
            "REQUEUE ***",
            TAKEN,
        ),
        ("slurmstepd: error: *** JOB 9 ON node1 CANCELLED AT 2026-11-21T17:03:12 ***", CANCELLED),
        # Slurm, as sacct and scontrol say it
        ("TIMEOUT\n", WALLTIME),
        ("14|lrlo|TIMEOUT|0:0\n14.batch|batch|CANCELLED|0:15\n", WALLTIME),
        ("14                 lrlo      debug            1    TIMEOUT      0:0", WALLTIME),
        ("   JobState=TIMEOUT Reason=TimeLimit Dependency=(null)", WALLTIME),
        ("   OUT_OF_ME+ ", MEMORY),
        ("16|OUT_OF_MEMORY|0:125", MEMORY),
        ("   JobState=OUT_OF_MEMORY Reason=OutOfMemory Dependency=(null)", MEMORY),
        ("   JobState=NODE_FAIL Reason=NodeDown Dependency=(null)", NODE),
        ("PREEMPTED", TAKEN),
        ("9|CANCELLED by 1000|0:0", CANCELLED),
        (
            "error: the store a.sqlite cannot be opened or written (database or disk is full); "
            "free space or raise the quota: what was stored before is still there",
            FULL,
        ),
        ("error: … (attempt to write a readonly database); make it writable", READ_ONLY),
        # PBS
        ("=>> PBS: job killed: walltime 3618 exceeded limit 3600", WALLTIME),
        ("=>> PBS: job killed: mem 4323312kb exceeded limit 3145728kb", MEMORY),
        ("=>> PBS: job killed: mem job total 4323312 kb exceeded limit 3145728 kb", MEMORY),
        ("=>> PBS: job killed: vmem 9000kb exceeded limit 8000kb", MEMORY),
        ("=>> PBS: job killed: cput 3700 exceeded limit 3600", CPU_TIME),
        (
            "=>> PBS: job killed: node 18 (n314) requested job terminate, 'EOF' (code 1099) - "
            "received SISTER_EOF attempting to communicate with sister MOM's",
            NODE,
        ),
        ("=>> PBS: job killed: ncpus 9.1 exceeded limit 8", "(ncpus 9.1 exceeded limit 8)"),
        # Grid Engine
        (
            'job 7 exceeds job hard limit "h_rt" of queue "all.q@n1" (3601.00000 > '
            "limit:3600.00000) - sending SIGKILL",
            WALLTIME,
        ),
        (
            'job 7 exceeds job hard limit "h_vmem" of queue "all.q@n1" (2147483648.0 > '
            "limit:1073741824.0) - sending SIGKILL",
            MEMORY,
        ),
        ('job 7 exceeds job hard limit "h_cpu" of queue "all.q@n1" (3 > limit:2)', CPU_TIME),
        ("failed       37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "qacct -j"),
        # LSF
        ("TERM_RUNLIMIT: job killed after reaching LSF run time limit.", WALLTIME),
        ("TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.", MEMORY),
        ("Completed <exit>; TERM_OWNER: job killed by owner.", CANCELLED),
        ("TERM_FORCE_ADMIN: job killed by root or LSF administrator", CANCELLED),
        ("TERM_PREEMPT: job killed after preemption.", TAKEN),
        ("TERM_ZOMBIE: job exited while LSF is not available", NODE),
        # the operating system
        ("OSError: [Errno 122] Disk quota exceeded: '/home/u/study'", FULL),
        ("sqlite3.OperationalError: No space left on device", FULL),
        ("mkdir: cannot create directory 'a': Read-only file system", READ_ONLY),
    ],
)
def test_what_was_written_is_told_in_one_sentence(written: str, told: str) -> None:
    reason = find_reason(f"some output of the job\n{written}\nmore of it")
    assert reason is not None
    assert told in reason
    assert reason.endswith(".")
    assert reason.count(". ") == 0


def test_out_of_memory_goes_before_what_followed_from_it() -> None:
    reason = find_reason(
        "slurmstepd: error: Detected 1 oom_kill event in StepId=16.batch.\n"
        "slurmstepd: error: *** JOB 16 ON node1 CANCELLED AT 2026-11-21T17:03:12 ***\n"
    )
    assert reason is not None
    assert MEMORY in reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wrote 12 documents",
        "ValueError: the band TIMEOUT was cancelled",  # words of a program are no verdict
        "request TIMEOUT\nthe user CANCELLED the dialog",
        "JobState=COMPLETED Reason=None",
        "14|lrlo|COMPLETED|0:0",
        "   JobState=FAILED Reason=NonZeroExitCode Dependency=(null)",
    ],
)
def test_a_job_that_ended_by_itself_has_no_reason(text: str) -> None:
    assert find_reason(text) is None


def test_examples_of_the_documentation() -> None:
    assert doctest.testmod(scheduler_reason) == (0, 2)
