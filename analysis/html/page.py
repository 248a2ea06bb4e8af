"""The report as one HTML page that works offline: a function of the records of runs."""

import gzip
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.html.boards import FILTERS
from analysis.html.report import Answer, Report, report_of
from analysis.html.runs import Runs
from analysis.html.table import rich
from analysis.records import write_if_changed
from analysis.tables.leaderboard import StepCosts
from tasks.errors import UserError

HERE = Path(__file__).parent
WORTH_SHARING = 40
INSTALL = "pip install jinja2 vl-convert-python, or `make setup`"


def write_page(
    path: Path,
    runs: Runs,
    title: str = "dog-bench",
    answer: Answer | None = None,
    costs: StepCosts | None = None,
) -> Report:
    """Write the page of some runs to one HTML file; return what it shows.

    Args:
        path: the file. It holds all that it needs: it can be moved, and sent by mail.
        runs: for a sweep's own runs or a comparison's, `Runs.gather(...).only(run_ids)`.
        title: stands above all.
        answer: of a comparison: it stands first, in place of the general answers.
        costs: of a step of each optimizer, `leaderboard.step_costs`.

    Raises:
        UserError: if there are no runs, or a package that makes pages is not installed.
    """
    report = report_of(runs, title, answer, costs or {})
    write_if_changed(path, render(report))
    return report


def render(report: Report) -> str:
    """The page as HTML.

    Raises:
        UserError: if a package that makes pages is not installed.
    """
    try:
        import vl_convert  # noqa: F401
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise UserError(f"a page needs the package {error.name}: {INSTALL}") from error
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("page.html.j2")
    return template.render(
        report=report,
        filters=FILTERS,
        css=(HERE / "page.css").read_text("utf-8"),
        script=(HERE / "page.js").read_text("utf-8"),
        library=library(),
        data=embedded(_shown(report)),
    )


def _shown(report: Report) -> dict[str, Any]:
    """The part of the report that the page's script shows."""
    shown = _plain(report)
    runs = shown.pop("runs")
    anchors = {table.name for table in (*report.tables, *report.paper_tables)}
    anchors |= {each.stem for each in report.problems}
    for table in _tables_in(shown):
        table["notes"] = [str(rich(note, anchors)) for note in table["notes"]]
        table["head"] = str(rich(table["head"], anchors))
    return {**with_shared(shown), "runs": runs}


def _tables_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every table in plain values."""
    if isinstance(value, dict):
        if {"columns", "rows", "notes"} <= value.keys():
            yield value
        else:
            for each in value.values():
                yield from _tables_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _tables_in(each)


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as dictionaries and lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def with_shared(value: dict[str, Any]) -> dict[str, Any]:
    """Plain values, with what is in them more than once as {"$": its place in `shared`}.

    Charts of one kind have much in common, and so have the notes of tables.

    >>> with_shared({"a": ["x" * 50], "b": "x" * 50})["b"]
    {'$': 0}
    """
    counts: Counter[str] = Counter()
    shared: list[Any] = []
    places: dict[str, int] = {}

    def text_of(part: Any) -> str:
        """What identifies a part that is worth sharing; "" of another."""
        text = json.dumps(part) if isinstance(part, dict | list | str) else ""
        return text if len(text) > WORTH_SHARING else ""

    def count(part: Any) -> None:
        counts[text_of(part)] += 1
        for each in part.values() if isinstance(part, dict) else part:
            if isinstance(each, dict | list):
                count(each)
            else:
                counts[text_of(each)] += 1

    def replaced(part: Any) -> Any:
        text = text_of(part)
        if text and counts[text] > 1:
            if text not in places:
                places[text] = len(shared)
                shared.append(None)  # its place, before those of its parts
                shared[places[text]] = inside(part)
            return {"$": places[text]}
        return inside(part)

    def inside(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: replaced(each) for name, each in part.items()}
        return [replaced(each) for each in part] if isinstance(part, list) else part

    count(value)
    return {**inside(value), "shared": shared}


@cache
def library() -> str:
    """The charts' JavaScript, packed: a third of its size, and it cannot end an element."""
    import vl_convert

    return b64encode(gzip.compress(vl_convert.javascript_bundle(None).encode(), mtime=0)).decode()


def embedded(value: Any) -> str:
    """JSON that cannot end the script element in which it stands.

    >>> embedded("</script><!--")
    '"\\\\u003c/script>\\\\u003c!--"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")
