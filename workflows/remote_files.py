"""Files in which a job hands over what it gives."""

from typing import Any

from jobflow_remote.remote.data import MinimalORJSONStore


class JobFile(MinimalORJSONStore):
    """Documents of one job, in a JSON file that says after every update what it was given.

    jobflow-remote's default writes its file again whenever it is opened, through a database in
    memory; its parent here writes once, when it is closed, and would keep the document of a start
    that was killed beside that of the next.
    """

    def update(self, docs: list[dict] | dict, key: list[str] | str | None = None) -> None:
        """Keep documents, in the place of those with the same key."""
        new = docs if isinstance(docs, list) else [docs]
        names = [key] if isinstance(key, str) else key or []
        keys = [_key(each, names) for each in new]
        kept = [each for each in self.data if not names or _key(each, names) not in keys]
        self.data = [*kept, *new]
        self.update_file()

    def close(self) -> None:
        """Nothing is left to do: the file is written."""


def _key(document: dict[str, Any], names: list[str]) -> list[Any]:
    return [document.get(name) for name in names]
