"""From the records of all runs to everything under results/, and a few lines that say so."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.tables import Table


def make(
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
    from analysis import curves, figures, records, tables

    frame = records.collect(runs_dir, results / "records.csv")
    made = tables.build(frame)
    unknown = [one for one in problem_ids if not tables.render(made, [one])]
    if unknown:
        raise UserError(f"no runs of problem {unknown[0]}: see the problem_id in records.csv")
    tables.write(files(made, frame), results / "tables")
    points = curves.collect(runs_dir, results / "curves.csv", frame)
    drawn = figures.write(made, frame, points, results / "figures")
    lines = []
    if problem_ids:
        own = frame if run_ids is None else frame[frame["run_id"].isin(run_ids)]
        lines = [tables.render(made if run_ids is None else tables.build(own), problem_ids), ""]
        alike = frame["problem_id"].str.startswith(tuple(problem_ids))
        if others := (alike & ~frame["run_id"].isin(own["run_id"])).sum():
            lines.append(
                f"The tables above are of this sweep's own runs; those in {_short(results)} are "
                f"also of {others} other runs of the same problems."
            )
    for table in made:
        if table.stem in drawn and str(table.problem.problem_id).startswith(tuple(problem_ids)):
            lines.append(f"figure: {_short(drawn[table.stem])}")
    lines.append(f"{len(frame)} runs: {_short(results / 'records.csv')}")
    lines.append(f"{len(made)} tables: {_short(results / 'tables' / 'summary.md')} lists them")
    verdicts = ", ".join(_short(results / "tables" / name) for name in tables.of_models(made))
    lines.append(f"verdicts over all tasks of a model: {verdicts}")
    lines.append(f"{len(drawn)} figures: {_short(results / 'figures')}")
    return "\n".join(lines)


def files(made: list["Table"], frame: "DataFrame") -> dict[str, str]:
    """Everything under results/tables that comes from records, by file name."""
    from analysis import models, published, sensitivity, tables

    return (
        tables.files(made, frame)
        | models.files(made)
        | sensitivity.files(made, frame)
        | published.files(frame)
    )


def _short(path: Path) -> str:
    """Relative to here where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
