"""Shows how far runs are: python scripts/status.py [SWEEP] [runs_dir=...] [key=value ...]

Without a sweep, all runs of the folder, by task and optimizer; with one (configs/sweep, or a path),
what of its plan is done, running, failed and missing, how fast it goes and how long it will take.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the suite is not installed

from runner import cli, config, overrides
from sweeps import status
from tasks.errors import UserError


def main() -> None:
    """Print it."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return
    names, settings = overrides.split(words)
    if len(names) > 1:
        raise UserError(f"name one sweep or none, not {' and '.join(names)}")
    if names:
        print(_of_sweep(names[0], settings))
        return
    if unknown := [word for word in settings if not word.startswith("runs_dir=")]:
        raise UserError(f"{unknown[0]}: without a sweep there is nothing to give but runs_dir=...")
    folder = overrides.path_in(settings[-1]) if settings else "results/runs"
    print(status.of_folder(config.in_project(folder)))


def _of_sweep(name: str, settings: list[str]) -> str:
    from sweeps import cost as price
    from sweeps import cost_text as price_text
    from sweeps import plan

    sweep = plan.load(name, settings)
    runs_dir = sweep.cells[0].config.execution.runs
    frame = price.known(runs_dir)
    choices = price.chosen(sweep, frame)

    def priced() -> str:
        machine = price.this_machine(sweep)
        return price_text.time(price.price(sweep, choices, frame, machine))

    stages = {"tuning": sweep.tuning(), "reporting, as chosen so far": sweep.reporting(choices)}
    return status.of_plan(stages, runs_dir, priced)


if __name__ == "__main__":
    cli.main(main)
