"""Migration and oxygen-coordination studies of Li-rich layered oxide cathodes."""

__version__ = "0.1.0"
