"""Shows which runs are done, running, stopped or failed: python scripts/status.py [runs_dir]"""

import json
import sys
from collections import Counter
from pathlib import Path

from runner import cli
from runner.config import ROOT
from runner.lock import held
from tasks.errors import UserError

STATES = ("finished", "diverged", "running", "stopped", "failed")


def main() -> None:
    """Print a line for each task and optimizer, and the errors of what failed."""
    runs_dir = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "results" / "runs"
    counts: dict[tuple[str, str], Counter[str]] = {}
    failures = []
    for folder in sorted(path for path in runs_dir.glob("*/*") if path.is_dir()):
        # A run is named task-optimizer-hash, and its folder's folder is the task.
        optimizer = folder.name.removeprefix(f"{folder.parent.name}-").rpartition("-")[0]
        state = _state(folder)
        counts.setdefault((folder.parent.name, optimizer), Counter())[state] += 1
        if state == "failed":
            failures.append(f"{folder.name}: {_read(folder / 'failure.json').get('error')}")
    if not counts:
        raise UserError(f"no runs in {runs_dir}: run `make demo` or `python run.py` first")
    print(f"{'task':20}{'optimizer':15}" + "".join(f"{state:>10}" for state in STATES))
    for (task, optimizer), count in counts.items():
        print(f"{task:20}{optimizer:15}" + "".join(f"{count[state]:>10}" for state in STATES))
    for failure in failures:
        print(f"failed  {failure}")


def _state(folder: Path) -> str:
    if (folder / "record.json").exists():
        return str(_read(folder / "record.json").get("status", "failed"))
    if held(folder / "owner"):
        return "running"
    return "failed" if (folder / "failure.json").exists() else "stopped"


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {"error": f"{path.name} is damaged"}


if __name__ == "__main__":
    cli.main(main)
