"""The user's configuration file, which may hold passwords."""

import os
import stat
import tempfile
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator


class ConfigurationError(ValueError):
    """The configuration file cannot be used. The message shows no value of it."""


class Configuration(BaseModel):
    """What the configuration file says.

    Attributes
    ----------
    store
        Store that commands use where neither ``--store`` nor ``LRLO_STORE`` names one: an
        absolute path (``~`` allowed) or a ``mongodb://`` URI.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    store: str | None = None

    @field_validator("store")
    @classmethod
    def _absolute(cls, store: str | None) -> str | None:
        if store is None or "://" in store:
            return store
        if not Path(store).expanduser().is_absolute():
            raise ValueError("a path in the configuration file must be absolute or start with ~")
        return str(Path(store).expanduser())

    @property
    def has_secret(self) -> bool:
        """Whether a URI with user name or options is in it."""
        return self.store is not None and "://" in self.store and bool({*"@?"} & {*self.store})


def configuration_path() -> Path:
    """``lrlo/config.yaml`` in ``XDG_CONFIG_HOME``, by default ``~/.config``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "lrlo/config.yaml"


def read_configuration(path: Path | None = None) -> Configuration:
    """Read the configuration file; without one nothing is configured.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, says something that is not allowed, or holds a password
        that others may read.
    """
    path = path or configuration_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Configuration()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__})") from None
    try:
        configuration = Configuration.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError:
        raise ConfigurationError(f"{path} is not valid YAML") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_context=False)
        )
        allowed = ", ".join(Configuration.model_fields)
        raise ConfigurationError(f"{path}: {problems}; allowed keys: {allowed}") from None
    if configuration.has_secret:
        require_private(path)
    return configuration


def write_configuration(configuration: Configuration, path: Path | None = None) -> Path:
    """Write the configuration file, readable by its owner alone.

    Returns
    -------
    path
        The file written.
    """
    path = path or configuration_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = yaml.safe_dump(configuration.model_dump(exclude_none=True), sort_keys=False)
    write_private(path, text)
    return path


def require_private(path: Path) -> None:
    """Refuse a file with a password that others than its owner may read.

    Raises
    ------
    ConfigurationError
        If group or others may read it.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(
            f"{path} holds a password and can be read by others (mode {mode:04o}); "
            f"run: chmod 600 {path}"
        )


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it appears whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
