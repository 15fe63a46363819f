"""Claims: who computes a task now, so that nobody else starts the same one.

Before a task is computed its key is claimed in the store, by an insertion that only one process
can make. A thread renews the claims of a process while it lives. A claim that is not renewed any
more is taken over: at once if its process is known to be dead, else after :data:`STALE_AFTER`.
Claims only save work: results are right without them, since a task gives the same document
whoever computes it.
"""

import hashlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pymongo.errors import DuplicateKeyError, PyMongoError

from .sqlite_store import SQLiteStore
from .store_location import StoreError

#: Table or collection of claims.
CLAIM_STORE = "claims"
#: Seconds between two signs of life of a process that has claims.
BEAT = 15.0
#: Seconds without a sign of life, on the clock of whoever waits, after which a claim is nobody's.
STALE_AFTER = 180.0


@dataclass(frozen=True)
class Claim:
    """That a process computes a task.

    Attributes
    ----------
    key
        Task.
    owner
        Claimant, unique to one start of a run.
    run
        What no two processes do at a time, see :func:`run_identity`.
    host, pid
        Machine and process, for people.
    machine
        Running system that the process number belongs to; empty if unknown.
    since
        When it was claimed, UTC, ISO 8601.
    beat
        Changes with every sign of life.
    """

    key: str
    owner: str
    run: str
    host: str
    pid: int
    machine: str
    since: str
    beat: float

    def __str__(self) -> str:
        """Who has the claim, and since when."""
        return f"process {self.pid} on {self.host} since {self.since}"


class ClaimTable(Protocol):
    """Where claims are kept. Every method is atomic, and raises StoreError if the store fails."""

    def add(self, claim: Claim) -> bool:
        """Keep a claim, unless its task is claimed: then False."""

    def find(self, key: str) -> Claim | None:
        """Claim of a task."""

    def replace(self, old: Claim, new: Claim) -> bool:
        """Put a claim in the place of another, unless that has changed: then False."""

    def renew(self, owner: str, beat: float) -> None:
        """Show that the owner of claims lives."""

    def adopt(self, new: Claim) -> None:
        """Make all claims of the same run those of another owner; the keys stay."""

    def remove(self, owner: str, key: str | None = None) -> None:
        """Remove an owner's claim of a task, or all its claims."""


class Claims:
    """Claims of one process; a context manager that gives them back.

    Parameters
    ----------
    table
        Where claims are kept.
    run
        Identity of the run, by which it knows what an earlier start of itself has left; None for
        a run that has none.
    """

    def __init__(self, table: ClaimTable, run: str | None = None) -> None:
        owner = uuid.uuid4().hex
        host = socket.gethostname()
        self._table = table
        self._own = Claim("", owner, run or owner, host, os.getpid(), _machine(), "", 0.0)
        self._seen: dict[str, tuple[float, float]] = {}  # by owner: beat, and when it was seen
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.release_all()

    def take(self, key: str) -> Claim | None:
        """Claim a task.

        Returns
        -------
        holder
            Claim of the process that computes the task now; None if it is this one's from now on.

        Raises
        ------
        StoreError
            If the store fails.
        """
        mine = self._claim(key)
        try:
            self._show_life()
            while not self._table.add(mine):
                other = self._table.find(key)
                if other is None:
                    continue  # it was given back in between
                if other.owner == mine.owner:
                    return None
                if not self._is_nobodys(other):
                    return other
                if self._table.replace(other, mine):
                    return None
        except StoreError:
            # Nothing is known about the time in which the store did not answer.
            self._seen.clear()
            raise
        return None

    def release(self, key: str) -> None:
        """Give a task back. A store that fails is no matter: unrenewed claims end by themselves."""
        with suppress(StoreError):
            self._table.remove(self._own.owner, key)

    def release_all(self) -> None:
        """Give all tasks back."""
        with suppress(StoreError):
            self._table.remove(self._own.owner)

    def adopt(self) -> None:
        """Take over what an earlier start of the same run has left.

        Only for a process that keeps all others out of the run.

        Raises
        ------
        StoreError
            If the store fails.
        """
        self._table.adopt(self._claim(""))
        self._show_life()

    def stop(self) -> None:
        """Show no further signs of life; claims stay until others find them stale."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _claim(self, key: str) -> Claim:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(self._own, key=key, since=now, beat=time.time())

    def _is_nobodys(self, claim: Claim) -> bool:
        if claim.run == self._own.run:
            return True  # of an earlier start: this process keeps all others out
        if claim.machine and claim.machine == self._own.machine and not _is_alive(claim.pid):
            return True
        # Clocks of two machines may differ: what counts is how long no change was seen here.
        now = time.monotonic()
        beat, since = self._seen.get(claim.owner, (None, now))
        if beat != claim.beat:
            self._seen[claim.owner] = (claim.beat, now)
            return False
        return now - since > STALE_AFTER

    def _show_life(self) -> None:
        if self._thread is None:
            self._end.clear()
            self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            with suppress(StoreError):  # the store may be back at the next beat
                self._table.renew(self._own.owner, time.time())


class SQLiteClaims:
    """Claims in the file of an embedded store; the table is made by the first claim.

    Parameters
    ----------
    store
        Connected store.
    """

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self._is_there = False

    def add(self, claim: Claim) -> bool:
        """Keep a claim, unless its task is claimed."""
        marks = ", ".join("?" * len(_FIELDS))
        sql = f"INSERT OR IGNORE INTO {CLAIM_STORE} ({', '.join(_FIELDS)}) VALUES ({marks})"
        return bool(self._execute(sql, astuple(claim))[0])

    def find(self, key: str) -> Claim | None:
        """Claim of a task."""
        sql = f"SELECT {', '.join(_FIELDS)} FROM {CLAIM_STORE} WHERE key = ?"
        _, found = self._execute(sql, (key,))
        return Claim(*found[0]) if found else None

    def replace(self, old: Claim, new: Claim) -> bool:
        """Put a claim in the place of another, unless that has changed."""
        where = "key = ? AND owner = ? AND beat = ?"
        values = (*astuple(new), old.key, old.owner, old.beat)
        return bool(self._execute(f"UPDATE {CLAIM_STORE} SET {_SETTERS} WHERE {where}", values)[0])

    def renew(self, owner: str, beat: float) -> None:
        """Show that the owner of claims lives."""
        self._execute(f"UPDATE {CLAIM_STORE} SET beat = ? WHERE owner = ?", (beat, owner))

    def adopt(self, new: Claim) -> None:
        """Make all claims of the same run those of another owner."""
        values = (new.owner, new.host, new.pid, new.machine, new.beat, new.run)
        setters = "owner = ?, host = ?, pid = ?, machine = ?, beat = ?"
        self._execute(f"UPDATE {CLAIM_STORE} SET {setters} WHERE run = ?", values)

    def remove(self, owner: str, key: str | None = None) -> None:
        """Remove an owner's claim of a task, or all its claims."""
        sql = f"DELETE FROM {CLAIM_STORE} WHERE owner = ?"
        if key is None:
            self._execute(sql, (owner,))
        else:
            self._execute(f"{sql} AND key = ?", (owner, key))

    def _execute(self, sql: str, values: tuple[Any, ...]) -> tuple[int, list[tuple[Any, ...]]]:
        """Rows changed and rows found by a statement, in a transaction of its own."""
        with self._store.transaction() as execute:
            if not self._is_there:
                execute(f"CREATE TABLE IF NOT EXISTS {CLAIM_STORE} ({_COLUMNS})")
            cursor = execute(sql, values)
            rows = cursor.fetchall()
        self._is_there = True
        return cursor.rowcount, rows


class MongoClaims:
    """Claims in a collection of MongoDB, whose ``_id`` is the task.

    Parameters
    ----------
    collection
        Collection.
    name
        Name of the server that shows no password.
    """

    def __init__(self, collection: Any, name: str) -> None:
        self._collection = collection
        self._name = name

    def add(self, claim: Claim) -> bool:
        """Keep a claim, unless its task is claimed."""
        with self._explained():
            try:
                self._collection.insert_one({"_id": claim.key, **asdict(claim)})
            except DuplicateKeyError:
                return False
            return True

    def find(self, key: str) -> Claim | None:
        """Claim of a task."""
        with self._explained():
            found = self._collection.find_one({"_id": key})
        return Claim(**{name: found[name] for name in _FIELDS}) if found else None

    def replace(self, old: Claim, new: Claim) -> bool:
        """Put a claim in the place of another, unless that has changed."""
        same = {"_id": old.key, "owner": old.owner, "beat": old.beat}
        with self._explained():
            return bool(self._collection.update_one(same, {"$set": asdict(new)}).matched_count)

    def renew(self, owner: str, beat: float) -> None:
        """Show that the owner of claims lives."""
        with self._explained():
            self._collection.update_many({"owner": owner}, {"$set": {"beat": beat}})

    def adopt(self, new: Claim) -> None:
        """Make all claims of the same run those of another owner."""
        names = ("owner", "host", "pid", "machine", "beat")
        update = {name: getattr(new, name) for name in names}
        with self._explained():
            self._collection.update_many({"run": new.run}, {"$set": update})

    def remove(self, owner: str, key: str | None = None) -> None:
        """Remove an owner's claim of a task, or all its claims."""
        with self._explained():
            if key is None:
                self._collection.delete_many({"owner": owner})
            else:
                self._collection.delete_one({"_id": key, "owner": owner})

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            raise StoreError(
                f"{self._name} does not answer as it should ({type(error).__name__}); "
                "what was stored before is still there"
            ) from None


_FIELDS = tuple(field.name for field in fields(Claim))
_SETTERS = ", ".join(f"{name} = ?" for name in _FIELDS)
_COLUMNS = ", ".join(f"{name}{' PRIMARY KEY' * (name == 'key')}" for name in _FIELDS)


def claim_key(job_uuid: str, index: int) -> str:
    """Key of a task by uuid and index of its job."""
    return f"{job_uuid}_{index}"


def run_identity(lock: Path) -> str:
    """What a run is known by over its starts: the file by whose lock it keeps others out.

    It is hashed, as others see it who share the store.
    """
    text = f"{lock.resolve()}#{lock.stat().st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()


def _machine() -> str:
    """Running system in which process numbers mean the same; empty where it cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
