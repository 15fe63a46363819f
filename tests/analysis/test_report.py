"""The report is one safe file, and its words and numbers are those of the documents."""

import base64
import html
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path

import pytest

from lrlo.analysis import report
from lrlo.analysis.barrier import PathStatus
from lrlo.analysis.documents import BarrierDocument, StateDocument
from lrlo.analysis.report import barriers_table, write_report

from .documents import PRISTINE, barrier_of, charged, state_of, study

VOID = {"meta", "img", "br", "link", "input", "hr"}


def page(path: Path, states: Sequence = (), barriers: Sequence = (), **texts: object) -> str:
    values: dict = {"title": "a title", **texts}
    return write_report(states, barriers, path / "report.html", **values).read_text("utf-8")


def visible(text: str) -> str:
    """Text that a reader sees."""
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


class Tags(HTMLParser):
    """Collects attributes, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


HOPS = [
    barrier_of(PathStatus.CONVERGED, 0.7654),
    barrier_of(PathStatus.NO_INTERIOR_SADDLE, 0.6543),
    barrier_of(PathStatus.SEVERAL_SADDLES, 0.5432),
    barrier_of(PathStatus.UNCONVERGED, 9.8765, detail="forces too large"),
    barrier_of(PathStatus.UNSTABLE_ENDPOINT, 8.7654, detail="no such minimum"),
    barrier_of(None, 7.6543, detail="no vacancy on tm_oct"),
]


def test_page_is_one_offline_file(tmp_path: Path) -> None:
    text = page(tmp_path, study(1.0, 0.9, 0.8, 0.8), HOPS, notes=["a note"], failures=["a failure"])
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    drawings = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text)
    assert "//" not in re.sub(r"data:[^\"]+", "", text)
    for drawing in drawings:
        inside = base64.b64decode(drawing).decode("utf-8")
        assert inside.startswith("<svg")
        assert not re.search(r"(href|src)=\"(?!#|data:)", inside)
    assert "<script" not in text
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    references = [value for _, name, value in tags.attributes if name in ("src", "href")]
    assert references
    assert all(value.startswith("data:image/svg+xml;base64,") for value in references)
    assert all(value for tag, name, value in tags.attributes if (tag, name) == ("img", "alt"))
    assert "a note" in text
    assert "a failure" in text


def test_only_sound_paths_have_numbers(tmp_path: Path) -> None:
    text = visible(page(tmp_path, study(1.0, 0.9), HOPS))
    assert "0.77 " in text
    assert "0.65† " in text
    assert "0.54‡ " in text
    for number in ("9.87", "9.88", "8.76", "8.77", "7.65"):
        assert number not in text
    for reason in ("forces too large", "no such minimum", "no vacancy on tm_oct"):
        assert f"no number: {reason}" in text


def test_number_of_an_unconverged_path_stays_out_even_if_the_document_has_it() -> None:
    leaked = barrier_of(PathStatus.CONVERGED, 3.2109).model_copy(
        update={"status": PathStatus.UNCONVERGED}
    )
    table = barriers_table([leaked])
    assert not any("3.2" in cell.text for cell in table.rows[0])


@pytest.mark.parametrize("hop", HOPS)
def test_barrier_rows_are_as_wide_as_the_header(hop: BarrierDocument) -> None:
    table = barriers_table([hop])
    assert sum(cell.span for cell in table.rows[0]) == len(table.header)


def test_text_is_escaped(tmp_path: Path) -> None:
    evil = '<img src=x onerror="alert(1)">'
    states = [charged(evil, 0, 1.0, migration_stopped=evil)]
    hop = barrier_of(PathStatus.UNCONVERGED, state=evil, detail=evil)
    text = page(tmp_path, states, [hop], title=evil, notes=[evil], failures=[evil])
    assert "<img src=x" not in text
    assert 'onerror="' not in text
    assert "&lt;img src=x" in text


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser: apt install chromium")
def test_a_browser_runs_nothing_of_a_hostile_name(tmp_path: Path) -> None:
    script = "document.documentElement.id=&quot;owned&quot;"
    evil = (
        "</title></script><script>document.documentElement.id='owned'</script>"
        f'<img src=x onerror="{script}"><svg onload="{script}">'
    )
    states = [charged(evil, 0, 1.0, migration_stopped=evil)]
    hop = barrier_of(PathStatus.UNCONVERGED, state=evil, detail=evil)
    text = page(tmp_path, states, [hop], title=evil, notes=[evil], failures=[evil])
    assert "owned" not in shown_by_browser(tmp_path / "hostile.html", text)
    # and the browser does run scripts
    assert 'id="owned"' in shown_by_browser(tmp_path / "open.html", f"<html><body>{evil}</body>")


def shown_by_browser(path: Path, text: str) -> str:
    """Opening tag of the page that Chromium makes of a text, its scripts run."""
    path.write_text(text, encoding="utf-8")
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command = [*browser, f"--user-data-dir={path.with_suffix('')}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    opening = re.search(r"<html[^>]*>", done.stdout)
    assert opening is not None
    return opening.group()


def test_nothing_gives_sentences(tmp_path: Path) -> None:
    text = visible(page(tmp_path))
    assert "No state has been computed." in text
    assert "No hop has been looked for" in text
    assert "Cannot be said" in text


def test_study_without_moments_or_barriers(tmp_path: Path) -> None:
    states = [s.model_copy(update={"oxidation": None}) for s in study(1.0, 0.9)]
    assert "there are no barriers" in visible(page(tmp_path, states))


def test_existing_report_survives_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = page(tmp_path)

    def full(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="disk full"):
        page(tmp_path, title="new")
    assert (tmp_path / "report.html").read_text("utf-8") == old
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_followers_keep_their_moves_in_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}

    def spy(state: StateDocument, layer: int):  # type: ignore[no-untyped-def]
        seen[state.label] = len(state.moves)
        return original(state, layer)

    original = report.tm_layer_figure
    monkeypatch.setattr(report, "tm_layer_figure", spy)
    page(tmp_path, [state_of(PRISTINE, "pristine", 0), *study(1.0, 0.9, 0.8, 0.8)[2:]])
    assert seen == {"pristine": 0, "4.8 V": 1, "2.0 V": 1}


def test_versions_are_those_of_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PACKAGES", ("matplotlib", "no-such-package"))
    text = visible(page(tmp_path))
    assert f"Versions matplotlib {metadata.version('matplotlib')}" in text
    assert "no-such-package" not in text
