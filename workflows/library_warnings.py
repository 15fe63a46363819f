"""Warnings of libraries, which users can do nothing about."""

import warnings


def ignore_library_warnings() -> None:
    """Show warnings of this package only; for programs, not for who imports it."""
    warnings.filterwarnings(
        "ignore", module="(chgnet|pymatgen|torch|ase|monty|mongomock|scipy|jobflow).*"
    )
