"""From the records of all runs to everything under results/, and a few lines that say so."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from tasks.errors import UserError


def write_results(
    runs_dir: Path,
    results: Path,
    problem_ids: Sequence[str] = (),
    run_ids: Collection[str] | None = None,
) -> str:
    """Write records, curves, tables and figures under `results`; return what to tell the user.

    That is the tables of the given problems (ids or their beginnings) and what was written. The
    tables are of the given runs alone, a sweep's own; by default of all runs, as those written.
    """
    # Here, so that `--help` and a typo are answered at once.
    from analysis import curves, records
    from analysis.all_tables import write_tables
    from analysis.comparison import compare_problems
    from analysis.figures import write_figures
    from analysis.tables.leaderboard import step_costs
    from analysis.tables.problems import names_of_models, render

    frame = records.collect(runs_dir, results / "records.csv")
    comparisons = compare_problems(frame)
    for problem_id in problem_ids:
        if not any(each.problem.problem_id.startswith(problem_id) for each in comparisons):
            raise UserError(f"no runs of problem {problem_id}: see the problem_id in records.csv")
    costs = step_costs(results / "benchmarks" / "optimizer_step.csv")
    write_tables(comparisons, frame, results / "tables", costs)
    points = curves.collect(runs_dir, results / "curves.csv", frame)
    drawn = write_figures(comparisons, frame, points, results / "figures")
    lines = []
    wanted = tuple(problem_ids)
    if problem_ids:
        mine = frame if run_ids is None else frame[frame["run_id"].isin(run_ids)]
        shown = comparisons if len(mine) == len(frame) else compare_problems(mine)
        lines = [render(shown, problem_ids), ""]
        alike = frame["problem_id"].str.startswith(wanted)
        if others := (alike & ~frame["run_id"].isin(mine["run_id"])).sum():
            lines.append(
                f"The tables above are of this sweep's own runs; those in {_short(results)} are "
                f"also of {others} other runs of the same problems."
            )
    for each in comparisons:
        if each.stem in drawn and each.problem.problem_id.startswith(wanted):
            lines.append(f"figure: {_short(drawn[each.stem])}")
    lines.append(f"{len(frame)} runs: {_short(results / 'records.csv')}")
    lines.append(
        f"{len(comparisons)} tables: {_short(results / 'tables' / 'summary.md')} lists them"
    )
    verdicts = (_short(results / "tables" / name) for name in names_of_models(comparisons))
    lines.append(f"verdicts over all tasks of a model: {', '.join(verdicts)}")
    boards = sorted((results / "tables").glob("leaderboard-*.md"))
    if boards:
        lines.append(f"optimizers over all problems: {', '.join(map(_short, boards))}")
    lines.append(f"{len(drawn)} figures: {_short(results / 'figures')}")
    return "\n".join(lines)


def short(runs_dir: Path, run_ids: Collection[str]) -> str:
    """Return a short table of each problem of these runs; nothing is written."""
    from analysis import records
    from analysis.comparison import compare_problems
    from analysis.tables.problems import short_table
    from runner.archive import archive_beside

    frame = records.gather(runs_dir, archive_beside(runs_dir))
    mine = frame[frame["run_id"].isin(run_ids)]
    return "\n\n".join(map(short_table, compare_problems(mine))) if len(mine) else "no results"


def _short(path: Path) -> str:
    """Relative to here where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def write_report(runs_dir: Path, results: Path, output: Path) -> str:
    """Write the page of all runs; return what to tell the user."""
    from analysis.html.page import write_page
    from analysis.html.runs import KnownRuns
    from analysis.tables.leaderboard import step_costs

    archive = results / "archive"
    runs = KnownRuns.gather(runs_dir, archive)
    if not runs.records:
        raise UserError(f"no runs in {runs_dir} and none in {archive}: run `make demo` first")
    costs = step_costs(results / "benchmarks" / "optimizer_step.csv")
    write_page(output, runs, "dog-bench: can tuning be spared?", costs=costs)
    size = output.stat().st_size / 1e6
    return f"{len(runs.records)} runs: {_short(output)}, {size:.1f} MB, works offline"
