"""How long it takes to collect many records: python -m benchmarks.collect_records

Makes a tree of invented runs in the form in which the runner leaves them, and collects their
records and curves, each time in a fresh process. The tree is removed again.
"""

import argparse
import json
import os
import random
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.text import markdown
from runner import SCHEMA, cli

OUTPUT = Path(__file__).parents[1] / "results" / "benchmarks" / "collect_records.md"
RUNS = 100_000
# What collecting 100,000 records may take.
SECONDS, GIBIBYTES = 60, 2
# By task: the number of its test examples, each of them a bit in a record, twice.
TASKS = {"probe_cifar": 10_000, "probe_newsgroups": 7_532, "cifar": 2_000, "movies": 2_000}
RATES = [round(10**exponent, 6) for exponent in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5)]
STEPS = 2000
LOGGED = [1, 2, 3, 5, 7, *range(10, STEPS + 1, 40)]
# The steps of a timing, each in a process of its own, so that memory and imports are its own.
PARTS = ("records", "curves")

_LEGEND = f"""\
- *first*: nothing was collected before. *again*: nothing is new.
- *cold*: the files were not in the operating system's cache, but for what it keeps of folders where
  this process may not drop it. *warm*: they were.
- *peak memory*: of the process, pandas and its other imports included.
- The target: {RUNS:,} records within {SECONDS} s and {GIBIBYTES} GiB. Curves are read after the
  records, of the runs with telemetry: half of these."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    collected: str  # records or curves
    time: str  # first, cold; again, warm
    runs: int
    megabytes_on_disk: float
    seconds: float
    peak_memory_mebibytes: float
    csv_megabytes: float


def main() -> None:
    """Make the tree, time each part and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how many (default {RUNS})")
    parser.add_argument("--folder", type=Path, help="where the tree is made (default: a temporary)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the table to write")
    parser.add_argument("--time", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time:
        _time(options.time[0], Path(options.time[1]))
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="collect-records-") as name:
        folder = Path(name)
        _say(f"making {options.runs:,} runs")
        make_tree(folder / "runs", options.runs)
        rows = list(_timings(folder, options.runs))
    _write(rows, options.output)
    print(options.output.read_text("utf-8"))


def make_tree(runs_dir: Path, runs: int) -> None:
    """Write so many runs, each with its record and metrics, over several tasks."""
    numbers = random.Random(0)
    for index in range(runs):
        record = made_up(index, numbers)
        folder = runs_dir / record["settings"]["task"]["name"] / record["run_id"]
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        (folder / "metrics.jsonl").write_text("".join(_metrics(record, numbers)))
        (folder / "log.txt").touch()


def made_up(index: int, numbers: random.Random) -> dict[str, Any]:
    """Return an invented record: every field that a run of a probe or of a network leaves."""
    task = list(TASKS)[index % len(TASKS)]
    opt = ("sgd", "adam", "dog", "ldog")[index // len(TASKS) % 4]
    tuned = opt in ("sgd", "adam")
    rate = RATES[index // 16 % len(RATES)] if tuned else 1.0
    examples, right = TASKS[task], numbers.random()
    scores = {"averaged": round(right, 4), "last": round(right * 0.99, 4), "majority": 0.1}
    answers = {name: numbers.randbytes(examples // 8).hex() for name in ("averaged", "last")}
    return {
        "schema": SCHEMA,
        "run_id": f"{task}-{opt}-{numbers.getrandbits(40):010x}",
        "status": "finished",
        "problem_id": f"{sorted(TASKS).index(task):010x}",
        "data_id": f"{sorted(TASKS).index(task):010x}",
        "opt_label": {"sgd": "SGD", "adam": "Adam", "dog": "DoG", "ldog": "L-DoG"}[opt],
        "opt_default": not tuned,
        "opt_changed": {"lr": rate} if tuned else {},
        "grid": {"lr": RATES} if tuned else {},
        "settings": {
            "model": {
                "arch": "tf_efficientnet_lite0", "batch_norm": "frozen", "channels": "rgb",
                "mean": [127.5] * 3, "std": [127.5] * 3, "name": "efficientnet_lite0",
            },
            "opt": {
                "name": opt, "lr": rate, "clip_norm": None, "eps": 1e-08, "init_eta": None,
                "reps_rel": 1e-4, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0,
            },
            "protocol": {"name": "lite", "version": 1},
            "seed": index // 640,
            "task": {
                "name": task, "version": 1, "domain": "vision", "budget": "probe",
                "metric": "accuracy", "higher_is_better": True, "synthetic": False,
                "source": {
                    "name": "cifar", "version": 1, "domain": "vision", "budget": "vision",
                    "metric": "accuracy", "higher_is_better": True, "synthetic": False,
                },
            },
            "train": {
                "steps": STEPS, "batch_size": 128, "averaging_gamma": 8.0, "augment": "none",
                "eval_every": 500, "image_size": 64, "max_tokens": 64, "precision": "fp32",
                "train_examples": 10000, "validation_examples": 2000, "test_examples": examples,
            },
        },
        "results": {
            "steps": STEPS,
            "train_loss": numbers.random(),
            "train_examples": 10000,
            "trouble": [],
            "validation": {**scores, "examples": 2000},
            "test": {**scores, "examples": examples},
            "test_correct": answers,
        },
        "fingerprints": {
            name: numbers.randbytes(32).hex() for name in ("train", "validation", "test", "weights")
        },
        "code": {"version": "0.1.0", "commit": "8d76f97a35f6bfffcba372f13c8206c83b2ed7a9",
                 "modified": False},
        "packages": {
            "hydra-core": "1.3.8", "numpy": "2.4.6", "pillow": "13.0.0", "python": "3.11.7",
            "timm": "1.0.31", "tokenizers": "0.23.3", "torch": "2.15.0", "torchvision": "0.29.2",
            "transformers": "5.23.0",
        },
        "sources": {"data": numbers.randbytes(32).hex(), "weights": numbers.randbytes(32).hex()},
        "numerics": {"kernel": "compiled", "cpu_capability": "AVX512", "device": "cpu",
                     "threads": 1, "torch": "2.15.0"},
        "hardware": {"cpu": "AMD EPYC", "cores": 2, "device": "cpu", "gpu": None},
        "measured": {
            "started": "2026-11-23T03:42:39+00:00", "finished": "2026-11-23T03:42:45+00:00",
            "seconds": round(5 + numbers.random(), 3), "train_seconds": 3.201,
            "examples_per_second": 79977.57, "peak_memory_bytes": 937971712,
            "sessions": 1, "threads": 1,
        },
    }  # fmt: skip


def _metrics(record: dict[str, Any], numbers: random.Random) -> Iterator[str]:
    """Yield the lines of metrics.jsonl: DoG's telemetry, or a learning rate."""
    opt = record["settings"]["opt"]
    for step in LOGGED:
        line: dict[str, Any] = {"step": step, "loss": numbers.random()}
        if opt["name"] in ("dog", "ldog"):
            line |= {name: numbers.random() for name in ("eta", "rbar", "G", "gradient_norm")}
            line |= {"distance": numbers.random(), "skipped": 0}
        else:
            line["lr"] = opt["lr"]
        yield json.dumps(line) + "\n"


def _timings(folder: Path, runs: int) -> Iterator[Row]:
    files = {"records": "record.json", "curves": "metrics.jsonl"}
    for part in PARTS:
        paths = list((folder / "runs").glob(f"*/*/{files[part]}"))
        size = sum(path.stat().st_size for path in paths) / 1e6
        for time_of in ("first, cold", "again, cold", "again, warm"):
            if time_of.endswith("cold"):
                _forget(paths)
            _say(f"collecting the {part}: {time_of}")
            words = [sys.executable, "-m", "benchmarks.collect_records", "--time", part, folder]
            found = subprocess.run(words, check=True, text=True, stdout=subprocess.PIPE)
            seconds, memory = json.loads(found.stdout)
            csv = (folder / f"{part}.csv").stat().st_size / 1e6
            yield Row(part, time_of, runs, size, seconds, memory, csv)


def _time(part: str, folder: Path) -> None:
    """Collect a part in this process and print the seconds and the peak memory in MiB."""
    from analysis import curves, records

    began = time.perf_counter()
    if part == "records":
        records.collect(folder / "runs", folder / "records.csv")
    else:
        frame = records.gather(folder / "runs", folder / "archive")
        began = time.perf_counter()
        curves.collect(folder / "runs", folder / "curves.csv", frame)
    seconds = time.perf_counter() - began
    # Kibibytes on Linux.
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def _forget(paths: list[Path]) -> None:
    """Let the operating system drop files from its cache, and all else where we may ask for it."""
    os.sync()
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    drop = Path("/proc/sys/vm/drop_caches")
    if os.access(drop, os.W_OK):
        drop.write_text("3")


def _write(rows: list[Row], path: Path) -> None:
    import torch

    from runner import environment

    described = environment.describe(torch.device("cpu"))
    table = pd.DataFrame(map(asdict, rows))
    table["megabytes_on_disk"] = table["megabytes_on_disk"].map("{:,.0f}".format)
    table["runs"] = table["runs"].map("{:,}".format)
    for name in ("seconds", "csv_megabytes"):
        table[name] = table[name].map("{:,.1f}".format)
    table["peak_memory_mebibytes"] = table["peak_memory_mebibytes"].map("{:,.0f}".format)
    table.columns = [
        "collected", "time", "runs", "MB on disk", "seconds", "peak memory, MiB", "csv, MB",
    ]  # fmt: skip
    command = shlex.join(["python", "-m", "benchmarks.collect_records", *sys.argv[1:]])
    hardware = described["hardware"]
    header = [
        f"- command: `{command}`",
        f"- CPU: {hardware['cpu']}, {hardware['cores']} cores",
        f"- code: dog-bench {described['code']['version']}, commit {described['code']['commit']}"
        + (", modified" if described["code"]["modified"] else ""),
        f"- pandas {pd.__version__}",
    ]
    texts = ["# Collecting many records", "\n".join(header), _LEGEND]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "\n\n".join([*texts, markdown(table, ["collected", "time"])]).rstrip() + "\n", "utf-8"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.main(main)
