"""``lrlo build`` and ``lrlo enumerate``. Heavy imports wait until a command needs them."""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from io import BytesIO
from itertools import islice, product
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from .cli_results import fail

if TYPE_CHECKING:
    from .structures.built_structure import BuiltStructure
    from .structures.catalogue import Builder, Parameter
    from .structures.enumeration import Sublattices
    from .structures.pattern_files import PatternFormat
    from .structures.vacancies import VacancyPattern

app = typer.Typer(add_completion=False)

_SOURCE = "File (CIF, POSCAR, extended XYZ, JSON) or named crystal, such as Li2MnO3."
_PICTURES = (".png", ".svg")
_CHUNK = 4096


class SampleMethod(StrEnum):
    """How patterns are sampled.

    ``uniform``: all distinct patterns with the same probability; ``ewald``: those of lowest Ewald
    energy.
    """

    UNIFORM = "uniform"
    EWALD = "ewald"


class _BuilderGroup(TyperGroup):
    """One command for every builder of the catalogue, made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the catalogue."""
        from .structures.catalogue import BUILDERS

        return list(BUILDERS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Command of a builder."""
        from .structures.catalogue import find_builder

        try:
            return _command(find_builder(cmd_name))
        except ValueError as error:
            fail(f"{error}; 'lrlo build --list' says what they are")


build_app = typer.Typer(cls=_BuilderGroup, add_completion=False)
app.add_typer(build_app, name="build")


@build_app.callback(invoke_without_command=True)
def build(
    ctx: typer.Context,
    list_: Annotated[bool, typer.Option("--list", help="List the builders and crystals.")] = False,
) -> None:
    """Build a crystal, an ordering, a fault, a slab or a defect; write it and draw it.

    'lrlo build NAME --help' explains the options of a builder. Those of slabs and defects work on
    a SOURCE: a file or a named crystal.
    """
    if list_:
        _list_builders()
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _list_builders() -> None:
    from .structures.catalogue import BUILDERS, BuilderGroup
    from .structures.crystals import CRYSTALS

    width = max(map(len, (*BUILDERS, *CRYSTALS))) + 2
    for group in BuilderGroup:
        typer.echo(f"{group.value}:")
        for builder in BUILDERS.values():
            if builder.group is group:
                typer.echo(f"  {builder.name:<{width}}{builder.summary}")
        if group is BuilderGroup.CRYSTALS:
            for crystal in CRYSTALS.values():
                typer.echo(f"    {crystal.name:<{width}}{crystal.symbol} ({crystal.space_group})")


def _command(builder: "Builder") -> TyperCommand:
    """Command whose options are the parameters of a builder."""

    def run(**values: Any) -> None:
        _build(builder, values)

    parameters = [_argument(p) for p in builder.parameters] + _output_options()
    parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    single = typer.Typer(add_completion=False)
    single.command(builder.name, help=f"{builder.summary}.")(run)
    command = typer.main.get_command(single)
    assert isinstance(command, TyperCommand)
    command.name = builder.name
    return command


def _argument(parameter: "Parameter") -> inspect.Parameter:
    """Option, or the argument SOURCE, for a parameter of a builder."""
    from .structures.built_structure import BuiltStructure

    kind, default = _plain(parameter.annotation), parameter.default
    if parameter.annotation is BuiltStructure:
        info = typer.Argument(metavar="SOURCE", help=_SOURCE)
        annotation: Any = Annotated[str, info]
    elif kind is BuiltStructure:
        info = typer.Option(help=parameter.description, metavar="SOURCE")
        annotation = Annotated[str | None, info]
    else:
        info = typer.Option(help=parameter.description, metavar=_metavar(kind))
        if get_origin(kind) is not None:
            # Tuples and mappings are written as one word: 1,2, Mn=3,Ni=2 and Mn-Ni=-0.2/0.1.
            kind = str
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
        annotation = Annotated[kind if default is not None else kind | None, info]
    return inspect.Parameter(
        parameter.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _output_options() -> list[inspect.Parameter]:
    from .analysis.structure_picture import ViewDirection

    options: dict[str, tuple[Any, Any]] = {
        "output": (
            Annotated[
                Path | None,
                typer.Option("--output", "-o", help="File to write: .cif, .vasp, .xyz, .json."),
            ],
            None,
        ),
        "format_": (
            Annotated[
                str | None,
                typer.Option(
                    "--format", help="cif, poscar, extxyz or json, whatever the file's suffix."
                ),
            ],
            None,
        ),
        "draw": (
            Annotated[Path | None, typer.Option(help="Picture to draw: .png or .svg.")],
            None,
        ),
        "draw_layer": (
            Annotated[
                int | None,
                typer.Option(
                    help="TM layer to draw, counted from 1. Default: that of the defect, or 1."
                ),
            ],
            None,
        ),
        "side_view": (
            Annotated[
                ViewDirection | None,
                typer.Option(
                    help="Direction of the side view: rows shows the stacking, honeycomb the order "
                    "of Li. Default: honeycomb where a TM layer holds Li."
                ),
            ],
            None,
        ),
        "force": (Annotated[bool, typer.Option("--force", help="Overwrite files.")], False),
    }
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in options.items()
    ]


def _build(builder: "Builder", values: dict[str, Any]) -> None:
    from .structures.structure_files import format_of, structure_text

    output, draw, force = values["output"], values["draw"], values["force"]
    files: dict[Path, bytes] = {}
    try:
        _check_targets([path for path in (output, draw) if path is not None], force=force)
        known = None if output is None else format_of(output, values["format_"])
        if draw is not None and draw.suffix.lower() not in _PICTURES:
            raise ValueError(f"{draw} is no picture; allowed: {' and '.join(_PICTURES)}")
        built = builder.build(**{p.name: _value(p, values[p.name]) for p in builder.parameters})
        if known is not None:
            files[output] = structure_text(built, known).encode()
        if draw is not None:
            title = _title(builder, values, built)
            files[draw] = _picture(built, draw, title, values["draw_layer"], values["side_view"])
        for path, content in files.items():
            _replace(path, content)
    except KeyError as error:
        fail(str(error.args[0]))
    except (ValueError, RuntimeError, OSError) as error:
        fail(str(error))
    _describe(built)
    for path in files:
        typer.echo(f"wrote {path}")


def _value(parameter: "Parameter", given: Any) -> Any:
    """What a builder takes, from what the command line gives."""
    from .structures.built_structure import BuiltStructure
    from .structures.structure_files import read_built

    kind = _plain(parameter.annotation)
    if given is not None and kind is BuiltStructure:
        return read_built(given)
    if given is None or get_origin(kind) is None:
        return given
    option = f"--{parameter.name.replace('_', '-')}"
    if get_origin(kind) is tuple:
        number, length = get_args(kind)[0], len(get_args(kind))
        numbers = _numbers(given, number, option)
        if get_args(kind)[-1] is not Ellipsis and len(numbers) != length:
            raise ValueError(f"{option} takes {length} numbers, such as {_metavar(kind)}")
        return numbers
    if get_origin(get_args(kind)[1]) is tuple:
        return _shells(given, option)
    return _mapping(given, get_args(kind)[1], option)


def _numbers(text: str, number: type, option: str) -> tuple[Any, ...]:
    try:
        return tuple(number(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"{option} takes numbers with commas between them, such as 0,120,240; got {text!r}"
        ) from None


def _mapping(text: str, number: type, option: str) -> dict[str, Any]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {symbol.strip(): number(amount) for symbol, amount in pairs}
    except ValueError:
        raise ValueError(
            f"{option} takes elements with numbers, such as Ti=1 or Al=2,F=1; got {text!r}"
        ) from None


def _shells(text: str, option: str) -> dict[str, tuple[float, ...]]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {pair.strip(): tuple(map(float, ns.split("/"))) for pair, ns in pairs}
    except ValueError:
        raise ValueError(
            f"{option} takes pairs of elements with a number for every shell, such as Mn-Ni=-0.2 "
            f"or Mn-Ni=-0.2/0.1,Mn-Co=0.1; got {text!r}"
        ) from None


def _plain(annotation: Any) -> Any:
    """Type without None."""
    if isinstance(annotation, UnionType):
        (annotation,) = (a for a in get_args(annotation) if a is not NoneType)
    return annotation


def _metavar(kind: Any) -> str | None:
    """How a value is written where its type does not say it."""
    if get_origin(kind) is tuple:
        arguments = get_args(kind)
        return "N,N,…" if arguments[-1] is Ellipsis else ",".join("N" * len(arguments))
    if get_origin(kind) is not None and get_origin(get_args(kind)[1]) is tuple:
        return "PAIR=N/N,…"
    return "ELEMENT=N,…" if get_origin(kind) is not None else None


def _title(builder: "Builder", values: Mapping[str, Any], built: "BuiltStructure") -> str:
    """Builder, what it was given, and the stacking, as the title of a picture."""
    named = ("formula", "name", "metal", "poor_phase", "host")
    subject = next((str(values[key]) for key in named if values.get(key)), "")
    stacking = built.frame.label if built.frame is not None and built.frame.n_layers else ""
    about = ", ".join(part for part in (Path(subject).name, stacking) if part)
    sequence = built.remarks.get("sequence")
    return f"{builder.name}: {about}" + (f", faults {sequence}" if sequence else "")


def _picture(
    built: "BuiltStructure", path: Path, title: str, layer: int | None, direction: Any
) -> bytes:
    import matplotlib

    from .analysis.structure_picture import structure_figure

    n_layers = 0 if built.frame is None else built.frame.n_layers
    if layer is not None and n_layers and not 1 <= layer <= n_layers:
        raise ValueError(f"--draw-layer {layer} does not exist; allowed: 1 to {n_layers}")
    chosen = None if layer is None else layer - 1
    figure = structure_figure(built, title=title, layer=chosen, direction=direction)
    content = BytesIO()
    kind = path.suffix.lower()[1:]
    metadata = {"Date": None} if kind == "svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "lrlo", "svg.fonttype": "none"}):
        figure.savefig(content, format=kind, dpi=100, metadata=metadata)
    return content.getvalue()


def _describe(built: "BuiltStructure") -> None:
    """Print what was realised."""
    structure, frame = built.structure, built.frame
    lines = {
        "cell": f"{built.formula}, {len(structure)} atoms, images "
        f"{built.image_distance:.1f} Å apart"
    }
    if built.composition is not None:
        deviation = built.composition.deviation
        lines["composition per formula unit"] = ", ".join(
            f"{symbol} {amount:.3f} ({deviation.get(symbol, 0):+.3f})"
            for symbol, amount in built.composition.realised.items()
        )
    lines["charge"] = _charge(built)
    lines["space group"] = built.space_group
    if frame is not None:
        size = f"{frame.n_layers or 'no'} TM layer{'' if frame.n_layers == 1 else 's'}"
        lines["frame"] = f"{frame.label}, {size}, supercell {[list(row) for row in frame.matrix]}"
    if built.o_classes:
        total = sum(built.o_classes.values())
        lines["oxygen classes"] = ", ".join(
            f"{name} {n} ({100 * n / total:.0f} %)" for name, n in built.o_classes.items()
        )
    if built.path:
        lines["structures"] = f"{len(built.path)} on a path"
    for name, text in {**lines, **built.remarks}.items():
        typer.echo(f"{name}: {text}")


def _charge(built: "BuiltStructure") -> str:
    from .structures.composition import OXIDATION_STATES

    states = {**OXIDATION_STATES, **built.oxidation_states}
    present = sorted(built.structure.composition.get_el_amt_dict())
    if built.charge is None:
        unknown = [symbol for symbol in present if symbol not in states]
        return f"not known, no oxidation state of {', '.join(unknown)}"
    with_states = ", ".join(f"{symbol} {states[symbol]:+g}" for symbol in present)
    if abs(built.charge) < 1e-6:
        return f"balanced with {with_states}"
    return f"{built.charge:+g} e with {with_states}; reported, not corrected"


@app.command("enumerate")
def enumerate_patterns(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE)],
    keep_li_layer: Annotated[
        str | None,
        typer.Option(metavar="N|N-M", help="Li to keep in the Li layers (default: any number)."),
    ] = None,
    keep_tm_layer: Annotated[
        str | None,
        typer.Option(metavar="N|N-M", help="Li to keep in the TM layers (default: any number)."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="N|N-M", help="Li to keep in all (default: any number)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to stream to: .jsonl (patterns) or .xyz (structures)."
        ),
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="jsonl or extxyz, whatever the suffix.")
    ] = None,
    limit: Annotated[
        int, typer.Option(help="Most distinct patterns to write; they are counted first.")
    ] = 100_000,
    sample: Annotated[
        int | None, typer.Option(help="Write only this many patterns of every quota.")
    ] = None,
    how: Annotated[
        SampleMethod, typer.Option(help="Sample at random, or the lowest in Ewald energy.")
    ] = SampleMethod.UNIFORM,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    energies: Annotated[
        bool, typer.Option("--energies", help="Write the Ewald energy of every pattern.")
    ] = False,
    charges: Annotated[
        str | None,
        typer.Option(
            metavar="ELEMENT=N,…", help="Charges for Ewald energies that are not the stated ones."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Count the symmetry-distinct Li/vacancy patterns of a cell, then stream them to a file.

    Li of the Li layers and Li of the TM layers are counted apart. The charge of removed Li goes in
    equal shares to the TM in Ewald energies.
    """
    from .structures.composition import OXIDATION_STATES
    from .structures.pattern_files import pattern_format_of
    from .structures.structure_files import read_built
    from .structures.vacancies import lithium_sublattices

    try:
        if limit < 1 or (sample is not None and sample < 1):
            raise ValueError("--limit and --sample are at least 1")
        known = None if output is None else pattern_format_of(output, format_)
        if output is not None:
            _check_targets([output], force=force)
        states = {**OXIDATION_STATES, **(_mapping(charges, float, "--charges") if charges else {})}
        host = read_built(source)
        assert host.occupation is not None
        lattice = lithium_sublattices(host.occupation)
        quotas = _quotas(lattice, {"Li layer": keep_li_layer, "TM layer": keep_tm_layer}, keep)
        counts = _print_counts(lattice, quotas)
        if output is None or known is None:
            typer.echo("give --output FILE to write the patterns")
            return
        n_wanted = sum(n if sample is None else min(n, sample) for n in counts)
        if n_wanted > limit:
            raise ValueError(
                f"{n_wanted:,} distinct patterns are more than the limit of {limit:,}; raise "
                "--limit (patterns are streamed, memory does not grow), keep fewer quotas, or "
                "sample: --sample 100 --how uniform (or --how ewald for the lowest in energy)"
            )
        if energies or (sample is not None and how is SampleMethod.EWALD):
            present = sorted(host.structure.composition.get_el_amt_dict())
            charged = ", ".join(f"{s} {states[s]:+g}" for s in present if s in states)
            typer.echo(
                f"Ewald energies with {charged}; the charge of removed Li in equal shares on the TM"
            )
        stream = _chosen(host, lattice, quotas, sample, how, seed, states, energies=energies)
        n_written = _stream(output, host, stream, known, n_wanted)
    except (ValueError, RuntimeError, OSError) as error:
        fail(str(error))
    total = sum(counts)
    typer.echo(f"wrote {n_written:,} of {total:,} distinct patterns to {output}")


def _quotas(
    lattice: "Sublattices", layers: Mapping[str, str | None], total: str | None
) -> list[dict[str, int]]:
    """All quotas that were asked for, one dictionary each."""
    absent = [
        name for name, text in layers.items() if text is not None and name not in lattice.sites
    ]
    if absent:
        raise ValueError(
            f"there is no Li in the {absent[0]} of this cell; it has Li in the "
            f"{' and the '.join(lattice.sites)}"
        )
    ranges = [
        _range(layers.get(name), len(sites), f"the {name}") for name, sites in lattice.sites.items()
    ]
    totals = _range(total, sum(lattice.sizes), "all layers")
    quotas = [
        dict(zip(lattice.sites, keep, strict=True))
        for keep in product(*ranges)
        if sum(keep) in totals
    ]
    if not quotas:
        raise ValueError(f"no quota of the layers adds up to {total} Li")
    return quotas


def _range(text: str | None, most: int, where: str) -> range:
    if text is None:
        return range(most + 1)
    first, _, last = text.partition("-")
    if not (first.isdigit() and (last or first).isdigit()):
        raise ValueError(f"Li to keep is a number or a range such as 4-8, not {text!r}")
    low, high = int(first), int(last or first)
    if low > high or high > most:
        raise ValueError(f"cannot keep {text} Li in {where}; allowed are 0 to {most}")
    return range(low, high + 1)


def _print_counts(lattice: "Sublattices", quotas: Sequence[Mapping[str, int]]) -> list[int]:
    """Print a line for every quota; return the numbers of distinct patterns."""
    sites = ", ".join(f"{len(s)} Li in the {name}" for name, s in lattice.sites.items())
    plural = "" if lattice.n_operations == 1 else "s"
    typer.echo(f"{sites}; {lattice.n_operations} symmetry operation{plural}")
    names = [*lattice.sites, "patterns", "distinct"]
    counts = [(lattice.n_patterns(quota), lattice.n_classes(quota)) for quota in quotas]
    rows = [
        [f"{n:,}" for n in (*quota.values(), *count)]
        for quota, count in zip(quotas, counts, strict=True)
    ]
    if len(rows) > 1:
        rows.append([""] * len(lattice.sites) + [f"{sum(n):,}" for n in zip(*counts, strict=True)])
    cells = [names, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        typer.echo("  ".join(f"{x:>{w}}" for x, w in zip(row, widths, strict=True)))
    return [n_distinct for _, n_distinct in counts]


def _chosen(
    host: "BuiltStructure",
    lattice: "Sublattices",
    quotas: Sequence[Mapping[str, int]],
    sample: int | None,
    how: SampleMethod,
    seed: int,
    charges: Mapping[str, float],
    *,
    energies: bool,
) -> "Iterator[VacancyPattern]":
    """The patterns to write, quota by quota."""
    from .structures.ewald import Compensation
    from .structures.vacancies import distinct_patterns, lowest_by_ewald, sample_patterns

    assert host.occupation is not None
    for quota in quotas:
        n_classes = lattice.n_classes(quota)
        stream: Iterator[VacancyPattern]
        if sample is None:
            stream = distinct_patterns(lattice, quota, limit=n_classes)
        elif how is SampleMethod.UNIFORM:
            selection = sample_patterns(lattice, quota, min(sample, n_classes), seed=seed)
            stream = iter(selection.patterns)
        else:
            selection = lowest_by_ewald(
                host.occupation,
                lattice,
                quota,
                charges,
                compensation=Compensation.TRANSITION_METALS,
                n_patterns=min(sample, n_classes),
                seed=seed,
            )
            stream = iter(selection.patterns)
        if energies and not (sample is not None and how is SampleMethod.EWALD):
            stream = _with_energies(host, lattice, stream, charges)
        yield from stream


def _with_energies(
    host: "BuiltStructure",
    lattice: "Sublattices",
    patterns: "Iterator[VacancyPattern]",
    charges: Mapping[str, float],
) -> "Iterator[VacancyPattern]":
    """The same patterns with their Ewald energies, on ideal sites."""
    from dataclasses import replace

    import numpy as np

    from .structures.ewald import Compensation, ewald_energy

    assert host.occupation is not None
    atom = {site: index for index, site in enumerate(host.occupation.occupied())}
    model = ewald_energy(
        host.occupation.to_structure(),
        charges,
        [atom[int(site)] for site in lattice.all_sites],
        Compensation.TRANSITION_METALS,
    )
    while chunk := list(islice(patterns, _CHUNK)):
        removed = [np.isin(lattice.all_sites, pattern.removed) for pattern in chunk]
        values = model.energies(~np.array(removed))
        for pattern, energy in zip(chunk, values, strict=True):
            yield replace(pattern, energy=float(energy))


def _stream(
    path: Path,
    host: "BuiltStructure",
    patterns: "Iterator[VacancyPattern]",
    file_format: "PatternFormat",
    n_wanted: int,
) -> int:
    """Write patterns one by one; the file appears when all are written."""
    from rich.console import Console
    from rich.progress import track

    from .structures.pattern_files import pattern_record

    console = Console(stderr=True)
    shown = track(
        patterns,
        "writing patterns",
        total=n_wanted,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    n_written = 0
    with _new_file(path) as part, part.open("w", encoding="utf-8") as file:
        for pattern in shown:
            file.write(pattern_record(host, pattern, file_format))
            n_written += 1
    return n_written


def _check_targets(paths: Sequence[Path], *, force: bool) -> None:
    """Refuse files that cannot or must not be written, before anything is computed."""
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give the name of a file")
        if path.exists() and not force:
            raise ValueError(f"{path} exists; choose another name or give --force")
        if not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent} for {path.name}")
    if len(set(paths)) < len(paths):
        raise ValueError(f"{paths[0]} cannot be both the structure and its picture")


def _replace(path: Path, content: bytes) -> None:
    with _new_file(path) as part:
        part.write_bytes(content)


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when the block ends well."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
