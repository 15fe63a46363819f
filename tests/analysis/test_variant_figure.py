"""Comparison of the variants of a study."""

from lrlo.analysis.barrier import PathStatus
from lrlo.analysis.documents import BarrierDocument, StateDocument
from lrlo.analysis.report import write_report
from lrlo.analysis.variant_figure import variant_figure

from .documents import CONTEXT, barrier_of, study, texts


def variant(
    name: str, fractions: tuple[float, ...], forward: float, status: PathStatus
) -> tuple[list[StateDocument], list[BarrierDocument]]:
    context = CONTEXT.model_copy(update={"variant": name})
    states = [s.model_copy(update={"context": context}) for s in study(*fractions)]
    return states, [barrier_of(status, forward, context=context)]


def test_only_converged_barriers_are_compared() -> None:
    first = variant("O3", (1.0, 0.95, 0.9), 0.7, PathStatus.CONVERGED)
    second = variant("O2", (1.0, 1.0, 1.0), 0.4, PathStatus.UNCONVERGED)
    figure = variant_figure(first[0] + second[0], first[1] + second[1])
    upper, lower = figure.axes
    assert [list(line.get_ydata())[:3] for line in upper.lines] == [[1, 0.95, 0.9], [1, 1, 1]]
    heights = [[y for y in line.get_ydata() if y == y] for line in lower.lines]
    assert heights == [[0.7], []]
    assert "O2" in texts(figure)


def test_many_variants_differ_in_style_and_an_empty_panel_has_no_scale() -> None:
    results = [variant(f"v{n}", (1.0, 0.95, 0.9), 0.4, PathStatus.UNCONVERGED) for n in range(30)]
    figure = variant_figure([s for each, _ in results for s in each], [b for _, [b] in results])
    upper, lower = figure.axes
    styles = {(x.get_color(), x.get_marker(), x.get_linestyle()) for x in upper.lines}
    assert len(styles) == len({(colour, marker) for colour, marker, _ in styles}) == 30
    assert len(lower.get_yticks()) == 0
    assert "no converged barrier" in texts(figure)


def test_report_compares_variants_only_where_there_are_several(tmp_path) -> None:
    first = variant("O3", (1.0, 0.95, 0.9), 0.7, PathStatus.CONVERGED)
    second = variant("<b>O2", (1.0, 1.0, 1.0), 0.4, PathStatus.CONVERGED)
    both = write_report(
        first[0] + second[0], first[1] + second[1], tmp_path / "both.html", title="s"
    )
    text = both.read_text()
    assert 'id="variants"' in text
    assert "<b>O2" not in text
    one = write_report(first[0], first[1], tmp_path / "one.html", title="s")
    assert 'id="variants"' not in one.read_text()
