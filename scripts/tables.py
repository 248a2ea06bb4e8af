"""Makes results/records.csv, the tables and the figures from the records of all runs."""

import argparse
import logging
import os
import sys
from pathlib import Path

from tasks.errors import UserError

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where tables are written")
    parser.add_argument("--runs", type=Path, help="folder of the records (default: RESULTS/runs)")
    parser.add_argument("--problems", help="print the tables of these problem ids, comma-separated")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="warning: %(message)s")
    problem_ids = [one for one in (options.problems or "").split(",") if one]
    try:
        print(make(options.runs or options.results / "runs", options.results, problem_ids))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def make(runs_dir: Path, results: Path, problem_ids: list[str]) -> str:
    """Writes everything under `results`; returns what to tell the user."""
    # After the arguments are read: `--help` and a typo are answered at once.
    from analysis import figures, records, tables

    frame = records.collect(runs_dir, results / "records.csv")
    made = tables.build(frame)
    unknown = [one for one in problem_ids if not tables.render(made, [one])]
    if unknown:
        raise UserError(f"no runs of problem {unknown[0]}: see the problem_id in records.csv")
    tables.write(made, frame, results / "tables")
    drawn = figures.write(made, frame, results / "figures")
    lines = [tables.render(made, problem_ids), ""] if problem_ids else []
    for table in made:
        if table.stem in drawn and str(table.problem.problem_id).startswith(tuple(problem_ids)):
            lines.append(f"figure: {_short(drawn[table.stem])}")
    lines.append(f"{len(frame)} runs: {_short(results / 'records.csv')}")
    lines.append(f"{len(made)} tables: {_short(results / 'tables' / 'summary.md')} lists them")
    lines.append(f"{len(drawn)} figures: {_short(results / 'figures')}")
    return "\n".join(lines)


def _short(path: Path) -> str:
    """Relative to here where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


if __name__ == "__main__":
    sys.exit(main())
