"""Draw the pictures of docs/structures.md, by the commands that the page gives."""

import os
import re
import shlex
import tempfile
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from lrlo.cli import app

DOCS = Path(__file__).parents[1] / "docs"
MAX_BYTES = 60_000


def main() -> None:
    """Run the commands in a folder of their own and keep the pictures."""
    commands = re.findall(r"^lrlo (.+)$", (DOCS / "structures.md").read_text(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for command in commands:
            result = CliRunner().invoke(app, shlex.split(command))
            if result.exit_code:
                raise SystemExit(f"lrlo {command}: {result.output}")
        for drawn in sorted(Path(folder).glob("*.png")):
            target = DOCS / "pictures" / drawn.name
            # Few colours make small files.
            picture = (
                Image.open(drawn)
                .convert("RGB")
                .quantize(40, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            )
            picture.save(target, optimize=True)
            size = target.stat().st_size
            print(f"{target.name}: {size / 1000:.0f} kB")
            if size > MAX_BYTES:
                raise SystemExit(f"{target} has {size} bytes, more than {MAX_BYTES}")


if __name__ == "__main__":
    main()
