"""``python -m lrlo`` is the ``lrlo`` command."""

from .cli import main

main()
