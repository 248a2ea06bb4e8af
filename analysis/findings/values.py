"""All that can be filled in, by the name of its marks; and the pages that it is filled into."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from analysis import records
from analysis.figures.style import svg
from analysis.findings import (
    accuracies,
    automatic,
    claims,
    coverage,
    figure,
    headline,
    longer,
    starts,
)
from analysis.findings.archived import FAMILY, Archived
from analysis.findings.fill import fill
from analysis.statistics import MARGIN
from runner.archive import SUFFIX, archive_files

PAGES = ("README.md", "docs/findings.md", "docs/optimizers.md", "docs/rivals.md", "docs/start.md")
ARCHIVE = "results/archive"
FIGURE = "results/figures/findings.svg"
# Not that of tables and figures made of all runs: it stays when these are made anew.
MADE_BY = "made by scripts/tables.py from results/archive of dog-bench, do not edit"


def values(archived: Archived) -> dict[str, Callable[[], str]]:
    """Return what makes each value, by its name."""
    named: dict[str, Callable[[Archived], str]] = {
        "demo": coverage.demo,
        "evidence": coverage.table,
        "missing": coverage.missing,
        "headline": headline.table,
        "headline.short": partial(claims.by_domain, matches=claims.IN_SHORT),
        "headline.over": headline.what_it_is_over,
        "claims": claims.summary,
        "domains": partial(claims.by_domain, matches=claims.OF_DOMAINS),
        "verdicts": claims.number_of_verdicts,
        "averaging": claims.averaging,
        "averaging.against": claims.averaging_contradicting,
        "rivals": claims.rivals,
        "starts": partial(starts.table, optimizers=FAMILY),
        "starts.against": partial(starts.contradicting, optimizers=FAMILY),
        "starts.found": automatic.make_table,
        "starts.found.against": automatic.list_misses,
        "starts.found.by_steps": automatic.make_table_by_steps,
        "starts.found.gain": automatic.describe_gain,
        "starts.found.near": automatic.count_near,
        "starts.tried": automatic.count_starts,
        "starts.found.worst": automatic.describe_worst,
        "starts.best": automatic.describe_best,
        "starts.best.at_edge": automatic.count_at_edge,
        "starts.shared": automatic.list_shared_starts,
        "starts.overtrained": automatic.describe_overtraining,
        "starts.rules": automatic.make_table_of_rules,
        "starts.rules.moved": automatic.describe_moved_constants,
        "starts.missing": partial(coverage.missing, sweeps=coverage.OF_STARTS),
        "accuracies": accuracies.of_family,
        "accuracies.adapters": partial(accuracies.of_family, setting="model.lora="),
        "accuracies.defaults": accuracies.at_defaults,
        "accuracies.guesses": accuracies.list_guesses,
        "rivals.starts": lambda found: starts.table(found, _names_of_rivals(found)),
        "rivals.starts.against": lambda found: starts.contradicting(found, _names_of_rivals(found)),
        "edges": headline.edges,
        "break_even": headline.break_even,
        "longer": longer.table,
        "margin": lambda _: f"{100 * MARGIN:g} %",
    }
    for name, matches in claims.MATCHES.items():
        named[name] = partial(claims.table, matches=matches)
        named[f"{name}.against"] = partial(claims.contradicting, matches=matches)
        named[f"{name}.unmeasured"] = partial(claims.unmeasured, matches=matches)
    return {name: cache(partial(make, archived)) for name, make in named.items()}


def _names_of_rivals(archived: Archived) -> list[str]:
    return [optimizer for optimizer, _ in archived.rivals]


def write_pages(root: Path) -> list[Path]:
    """Fill the pages of a project, and draw their figure, from its archive; return their paths."""
    archived = Archived(records.of_archive(root / ARCHIVE))
    files = {root / page: text for page, text in filled(root, archived).items()}
    files[root / FIGURE] = svg(figure.draw(archived), MADE_BY)
    for path, text in files.items():
        records.write_if_changed(path, text)
    return [*files]


def filled(root: Path, archived: Archived) -> dict[str, str]:
    """Return the text of each page with what these runs, of the archive's files, say."""
    names = (path.name.removesuffix(SUFFIX) for path in archive_files(root / ARCHIVE))
    sweeps = ", ".join(f"`{name}`" for name in names)
    stored = f"{len(archived.frame):,} finished runs, of the sweeps {sweeps}"
    by_name = {**values(archived), "stored": lambda: stored}
    return {page: fill((root / page).read_text("utf-8"), by_name) for page in PAGES}
