"""Shows how far runs are: python scripts/status.py [SWEEP] [runs_dir=...] [key=value ...]

Without a sweep, all runs of the folder, by task and optimizer; with one (configs/sweep, or a path),
what of its plan is done, running, failed and missing, how fast it goes and how long it will take.
"""

import sys
from pathlib import Path

from analysis import status
from runner import cli
from runner.config import ROOT


def main() -> None:
    """Print it."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return
    names = [word for word in words if "=" not in word]
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if names:
        print(_of_sweep(names[0], [word for word in words if "=" in word]))
    else:
        print(status.of_folder(ROOT / Path(options.get("runs_dir", "results/runs")).expanduser()))


def _of_sweep(name: str, overrides: list[str]) -> str:
    from analysis import price, price_text, selection
    from runner import config, plan

    sweep = plan.load(name, overrides)
    runs_dir = config.runs_dir(sweep.cells[0].config)
    frame = price.known(runs_dir)
    choices = selection.settings_to_report(frame)

    def priced() -> str:
        machine = price.this_machine(sweep)
        return price_text.time(price.price(sweep, choices, frame, machine))

    stages = {"tuning": sweep.tuning(), "reporting, as chosen so far": sweep.reporting(choices)}
    return status.of_plan(stages, runs_dir, priced)


if __name__ == "__main__":
    cli.main(main)
