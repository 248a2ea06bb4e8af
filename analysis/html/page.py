"""The report as one HTML page that works offline: a function of the records of runs."""

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from analysis.html.report import Answer, Report, report_of
from analysis.html.runs import KnownRuns
from analysis.html.table import Table, rich
from analysis.records import write_if_changed
from analysis.statistics import LEAST_TASKS, MARGIN
from analysis.tables.leaderboard import StepCosts
from tasks.errors import UserError

HERE = Path(__file__).parent
# The page's script, in this order, and what of a report it draws; the rest is HTML already.
SCRIPTS = ("base.js", "charts.js", "page.js")
DRAWN = ["filters", "selections", "boards", "duels", "problems", "budgets", "normalization"]
DRAWN += ["paper_charts", "run_charts", "runs"]
INSTALL = "pip install jinja2 vl-convert-python, or `make setup`"


def write_page(
    path: Path,
    runs: KnownRuns,
    title: str = "dog-bench",
    answer: Answer | None = None,
    costs: StepCosts | None = None,
) -> Report:
    """Write the page of some runs to one HTML file; return what it shows.

    Args:
        path: the file. It holds all that it needs: it can be moved, and sent by mail.
        runs: for a sweep's own runs or a comparison's, `KnownRuns.gather(...).only(run_ids)`.
        title: stands above all.
        answer: of a comparison: it stands first, in place of the general answers.
        costs: of a step of each optimizer, `leaderboard.step_costs`.

    Raises:
        UserError: if there are no runs, or a package that makes pages is not installed.
    """
    report = report_of(runs, title, answer, costs)
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
    anchors = {table.name for table in (*report.tables, *report.paper_tables)}
    anchors |= {each.stem for each in report.problems}
    environment.filters["rich"] = partial(rich, anchors=anchors)
    of_table = environment.get_template("table.html.j2")

    def as_html(table: Table) -> Markup:
        return Markup(of_table.render(table=table))

    environment.filters["html"] = as_html
    return environment.get_template("page.html.j2").render(
        report=report,
        margin=MARGIN,
        least_tasks=LEAST_TASKS,
        css=(HERE / "page.css").read_text("utf-8"),
        script="\n".join((HERE / name).read_text("utf-8") for name in SCRIPTS),
        library=library(),
        data=packed({name: _plain(getattr(report, name), as_html) for name in DRAWN}),
    )


def _plain(value: Any, as_html: Callable[[Table], str]) -> Any:
    """Tables as HTML; dataclasses and tuples as dictionaries and lists."""
    if isinstance(value, Table):
        return as_html(value)
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name), as_html) for each in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(each, as_html) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, as_html) for each in value]
    return value.item() if isinstance(value, np.generic) else value


@cache
def library() -> str:
    """The charts' JavaScript, packed."""
    import vl_convert

    return packed(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def packed(value: Any) -> str:
    """JSON as the page holds it: a third of its size or less, and it cannot end an element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return b64encode(gzip.compress(text.encode(), mtime=0)).decode()
