"""Where a store lies: one setting for a path or a MongoDB database."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .configuration import ConfigurationError, configuration_path, read_configuration

STORE_VARIABLE = "LRLO_STORE"
#: Name of a study's own store in its folder.
STORE_FILE = "store.sqlite"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MONGODB = ("mongodb://", "mongodb+srv://")
_HOSTS = re.compile(r"[\w.\-\[\]:%,]+(/[^/]*)?")


class StoreError(RuntimeError):
    """The store cannot be opened, read or written. The message shows no password."""


@dataclass(frozen=True)
class StoreLocation:
    """Path of an embedded store, or URI of a MongoDB database.

    As text it shows neither user name nor password nor options of a URI: only :attr:`address`
    has them.

    Parameters
    ----------
    address
        Path, or ``mongodb://`` or ``mongodb+srv://`` URI.
    origin
        Where the setting comes from, for messages.

    Raises
    ------
    StoreError
        If the address is empty or of another kind.
    """

    address: str
    origin: str = ""

    def __post_init__(self) -> None:
        scheme = _SCHEME.match(self.address)
        if not self.address or (scheme and not self.is_mongodb):
            shown = f"{scheme.group()}…" if scheme else "an empty text"
            raise StoreError(
                f"{shown} is no store{self._from}; give the path of a file, or a URI that starts "
                f"with {' or '.join(_MONGODB)}"
            )

    @property
    def is_mongodb(self) -> bool:
        """Whether the store is a MongoDB database."""
        return self.address.startswith(_MONGODB)

    @property
    def path(self) -> Path:
        """Path of an embedded store.

        Raises
        ------
        StoreError
            If the store is a MongoDB database.
        """
        if self.is_mongodb:
            raise StoreError(f"{self} is no file")
        return Path(self.address).expanduser()

    def exists(self) -> bool:
        """Whether there is a file; a MongoDB database is taken to exist."""
        return self.is_mongodb or self.path.exists()

    def __str__(self) -> str:
        if not self.is_mongodb:
            return self.address
        scheme, _, rest = self.address.partition("://")
        server, _, options = rest.partition("?")
        hosts = server.rpartition("@")[2]
        # An unescaped "?" of a password would otherwise put a part of it among the hosts.
        readable = _HOSTS.fullmatch(hosts) and "@" not in options
        return f"{scheme}://{hosts}" if readable else f"{scheme}://…"

    def __repr__(self) -> str:
        return f"StoreLocation({str(self)!r})"

    @property
    def _from(self) -> str:
        return f" (from {self.origin})" if self.origin else ""


def store_location(option: str | None, folder: Path | None = None) -> StoreLocation:
    """Where the store lies: ``--store``, else ``LRLO_STORE``, else the configuration file, else
    the folder of the study.

    Parameters
    ----------
    option
        What the command line says, if anything.
    folder
        Folder of the study.

    Raises
    ------
    StoreError
        If nothing says where the store lies, the configuration file cannot be used, or the
        setting is neither a path nor a MongoDB URI.
    """
    if option:
        return StoreLocation(option, "--store")
    if variable := os.environ.get(STORE_VARIABLE):
        return StoreLocation(variable, STORE_VARIABLE)
    try:
        configured = read_configuration().store
    except ConfigurationError as error:
        raise StoreError(str(error)) from None
    if configured:
        return StoreLocation(configured, str(configuration_path()))
    if folder is None:
        raise StoreError(
            f"no store given: use --store, {STORE_VARIABLE} or 'store:' in {configuration_path()}"
        )
    return StoreLocation(str(folder / STORE_FILE), "the study's folder")
