"""How fast a sweep of a small problem is: python -m benchmarks.sweep_throughput

Trains the grid of the sweep `probes` (SGD with 10 learning rates, Adam with 9, DoG and L-DoG, on 5
seeds) in several ways, each a command of its own, from its start to its end; and so many replicas
at once, to see how cost grows. Data and features must be there: make prepare, one run of it.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch

from analysis.tables.page import markdown
from runner import cli, environment
from runner import config as configuration
from runner.cores import usable_cores
from sweeps import executors, plan
from sweeps.plan import PlannedRun
from sweeps.worker import Group, work

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "results" / "benchmarks" / "sweep_throughput.md"
ALL = 105
REPLICAS, GROWTH_STEPS = (1, 10, 100, 1000), 200
CORES = usable_cores()

_LEGEND = f"""\
*one process a run*: `python run.py`, one after another, torch with all cores. *in sequence*: one
worker process with all cores, run after run. *workers*: {CORES} worker processes of one thread,
each run after run. *replicas*: the same workers, which train their runs together; it is what a
sweep does. Where less than all {ALL} runs were timed, it was all of as many seeds, and *seconds* is
the time that they took, times {ALL} by their number. *peak memory* is that of the largest process,
features included."""


@dataclass(frozen=True)
class Way:
    """How long the grid takes in one way."""

    way: str
    runs_timed: int
    seconds: float  # of the whole grid
    peak_memory_mebibytes: float


@dataclass(frozen=True)
class Growth:
    """What a step of so many replicas costs, in one process of one thread."""

    replicas: int
    milliseconds_a_step: float
    peak_memory_mebibytes: float


def main() -> None:
    """Time every way and write the table; or, as a command of its own, go one way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="for every run, such as train.steps=100")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the table to write")
    parser.add_argument("--go", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.go:
        what, folder = options.go[0], Path(options.go[1])
        if what in WAYS:
            WAYS[what](grid(folder, options.overrides), options.overrides)
        else:
            _many(int(what), folder)
        return
    with tempfile.TemporaryDirectory(prefix="sweep-throughput-") as name:
        ways = [_timed(way, Path(name) / way, options.overrides) for way in WAYS]
        growth = [_grown(count, Path(name) / str(count)) for count in REPLICAS]
    _write(ways, growth, options.overrides, options.output)
    print(options.output.read_text("utf-8"))


def grid(folder: Path, overrides: Sequence[str] = ()) -> list[PlannedRun]:
    """Return the runs of the grid, with their files in a folder."""
    keys = ["progress=false", f"runs_dir={folder}/runs", *overrides]
    return plan.load("probes", keys).reporting({})


def _one_process_a_run(runs: list[PlannedRun], overrides: Sequence[str]) -> None:
    for run in _of_seeds(runs, 1):
        spec, changes = run.config.spec, configuration.opt_changes(run.config.spec)
        words = [f"opt={spec.opt.name}", *(f"opt.{k}={v}" for k, v in changes.items())]
        words.append(f"seed={spec.seed}")
        words += ["task=probe_cifar", "wandb.mode=disabled", "progress=false", *overrides]
        words.append(f"runs_dir={run.folder.path.parents[1]}")
        subprocess.run(
            [sys.executable, "run.py", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )


def _in_sequence(runs: list[PlannedRun], overrides: Sequence[str]) -> None:
    _execute([(run,) for run in runs], workers=1)


def _workers(runs: list[PlannedRun], overrides: Sequence[str]) -> None:
    _execute([(run,) for run in _of_seeds(runs, 2)], workers=CORES)


def _replicas(runs: list[PlannedRun], overrides: Sequence[str]) -> None:
    _execute(plan.grouped(runs, CORES), workers=CORES)


def _of_seeds(runs: list[PlannedRun], number: int) -> list[PlannedRun]:
    return [run for run in runs if run.config.spec.seed < number]


WAYS: dict[str, Callable[[list[PlannedRun], Sequence[str]], None]] = {
    "one process a run": _one_process_a_run,
    "in sequence": _in_sequence,
    "workers": _workers,
    "replicas": _replicas,
}


def _execute(groups: Sequence[Group], workers: int) -> None:
    runs_dir = groups[0][0].folder.path.parents[1]
    chosen = executors.settings([f"executor.workers={workers}"])
    with executors.start(chosen, runs_dir) as executor:
        for group in groups:
            executor.submit(group)
        for outcome in executor.results():
            assert outcome.status in ("finished", "diverged"), outcome


def _timed(way: str, folder: Path, overrides: Sequence[str]) -> Way:
    """Go one way in a process of its own, from its start to its end."""
    seconds = _go(way, folder, overrides)
    memory = [record["measured"]["peak_memory_bytes"] for record in _records(folder)]
    _say(f"{way}: {len(memory)} runs in {seconds:.0f} s")
    return Way(way, len(memory), seconds * ALL / len(memory), max(memory) / 2**20)


def _grown(count: int, folder: Path) -> Growth:
    """Train so many replicas of the sweep's tuned optimizer in a process of their own."""
    _go(str(count), folder, [])
    records = list(_records(folder))
    seconds = sum(record["measured"]["train_seconds"] for record in records)
    memory = max(record["measured"]["peak_memory_bytes"] for record in records)
    _say(f"{count} replicas: {1000 * seconds / GROWTH_STEPS:.1f} ms a step")
    return Growth(count, 1000 * seconds / GROWTH_STEPS, memory / 2**20)


def _many(count: int, folder: Path) -> None:
    keys = ["progress=false", f"runs_dir={folder}/runs", f"train.steps={GROWTH_STEPS}"]
    cells = plan.load("probes", keys).cells
    tuned = next(cell for cell in cells if cell.config.spec.opt.role == "tuned")  # SGD
    outcomes = work(tuple(tuned.run({"lr": 1e-3 * 1.005**i}, i % 5) for i in range(count)), 1)
    assert {outcome.status for outcome in outcomes} == {"finished"}, outcomes


def _go(what: str, folder: Path, overrides: Sequence[str]) -> float:
    """Do one thing of this benchmark in a process of its own; return its seconds."""
    words = ["-m", "benchmarks.sweep_throughput", "--go", what, str(folder), *overrides]
    began = time.monotonic()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    return time.monotonic() - began


def _records(folder: Path) -> Iterator[dict]:
    for path in folder.glob("runs/*/*/record.json"):
        yield json.loads(path.read_text())


def _write(
    ways: Sequence[Way], growth: Sequence[Growth], overrides: Sequence[str], path: Path
) -> None:
    """Write the tables for people, and beside them the ways as csv."""
    table = pd.DataFrame(map(asdict, ways))
    singly, in_sequence = table["seconds"][:2]
    table["times_one_process_a_run"] = singly / table["seconds"]
    table["times_in_sequence"] = in_sequence / table["seconds"]
    costs = pd.DataFrame(map(asdict, growth))
    costs["milliseconds_a_replica"] = costs["milliseconds_a_step"] / costs["replicas"]
    machine = environment.describe(torch.device("cpu"))["hardware"]
    command = shlex.join(["python", "-m", "benchmarks.sweep_throughput", *overrides])
    texts = [
        "# How fast a sweep of a small problem is",
        f"`{command}` on {machine['cpu']}, {CORES} cores, torch {torch.__version__}: "
        f"{ALL} runs of `probe_cifar`, logistic regression on 1,280 features of CIFAR-10.",
        markdown(_spoken(table), ["way"]),
        _LEGEND,
        f"So many replicas of SGD on 5 seeds in one process with one thread, {GROWTH_STEPS} steps:",
        markdown(_spoken(costs)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(texts) + "\n", "utf-8")
    path.with_suffix(".csv").write_text(table.round(3).to_csv(index=False, lineterminator="\n"))


def _spoken(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table as people read it: words in the heading, three digits or whole numbers."""

    def text(value: str | float) -> str:
        if isinstance(value, str):
            return value
        return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"

    return frame.map(text).rename(columns=lambda name: name.replace("_", " "))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.main(main)
