"""Makes run folders with invented results, in the form in which the runner leaves them."""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import records
from runner import SCHEMA
from runner.identity import problem_id, run_id
from runner.run_record import RunFailure, RunRecord

if TYPE_CHECKING:
    from sweeps.plan import PlannedRun

GRIDS: dict[str, dict[str, list[float]]] = {
    "dog": {},
    "ldog": {},
    "sgd": {"lr": [0.01, 0.1, 1.0]},
    "adam": {"lr": [0.0001, 0.001, 0.01]},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "dog": {"lr": 1.0, "reps_rel": 1e-4},
    "ldog": {"lr": 1.0, "reps_rel": 1e-4},
    "sgd": {"lr": 0.01, "weight_decay": 0.0},
    "adam": {"lr": 0.001, "betas": [0.9, 0.999]},
}
LABELS = {"dog": "DoG", "ldog": "L-DoG", "sgd": "SGD", "adam": "Adam"}

# A part of a sweep, small enough to count its runs by hand.
PART = {
    "tasks": ["probe_cifar"],
    "optimizers": ["dog", "sgd"],
    "seeds": [0, 1],
    "overrides": ["protocol=smoke"],
    "grids": {"sgd": {"lr": [0.001, 0.01, 0.1]}},
}


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def settings_of(
    opt: str = "sgd",
    seed: int = 0,
    changed: dict[str, Any] | None = None,
    task: str = "cifar",
    model: str = "efficientnet_lite0",
    protocol: tuple[str, int] = ("lite", 1),
    task_version: int = 1,
    steps: int = 468,
    higher_is_better: bool = True,
    budget: str = "vision",
    batch_norm: str | None = None,
    metric: str | None = None,
    **train: Any,
) -> dict[str, Any]:
    return {
        "task": {
            "name": task,
            "version": task_version,
            "domain": "language" if budget == "language" else "vision",
            "budget": budget,
            "metric": metric or ("accuracy" if higher_is_better else "loss"),
            "higher_is_better": higher_is_better,
            "image_size": 64,
        },
        "model": {"name": model} | ({"batch_norm": batch_norm} if batch_norm else {}),
        "opt": {"name": opt, **DEFAULTS[opt], **(changed or {})},
        "train": {"steps": steps, "batch_size": 32, "train_examples": 5000, **train},
        "protocol": {"name": protocol[0], "version": protocol[1]},
        "seed": seed,
    }


def record(
    validation: float | tuple[float, float],
    test: float | tuple[float, float] | None = None,
    status: str = "finished",
    seconds: float = 60.0,
    examples: int = 1000,
    data: str = "the examples",
    numerics: dict[str, Any] | None = None,
    **choices: Any,
) -> dict[str, Any]:
    """A record; a score is (last, averaged), or one number for both.

    `data` stands for the examples and weights that were read, `numerics` is what is not as usual.
    """
    changed = choices.get("changed") or {}
    settings = settings_of(**choices)
    opt = settings["opt"]["name"]
    test = validation if test is None else test
    scores = {}
    for split, score, size in (("validation", validation, examples), ("test", test, 2000)):
        last, averaged = score if isinstance(score, tuple) else (score, score)
        scores[split] = {"last": last, "averaged": averaged, "majority": 0.1, "examples": size}
    content = {
        "schema": SCHEMA,
        "run_id": run_id(settings),
        "status": status,
        "problem_id": problem_id(settings),
        "data_id": digest(data),
        "settings": settings,
        "opt_default": not changed,
        "opt_changed": changed,
        "opt_label": LABELS[opt],
        "grid": GRIDS[opt],
        "results": {
            "steps": settings["train"]["steps"],
            "train_loss": 0.4,
            "train_examples": settings["train"]["train_examples"] or 50_000,
            **scores,
        },
        "fingerprints": {},
        "sources": {},
        "numerics": {"kernel": "compiled", "device": "cpu", "threads": 2, **(numerics or {})},
        "code": {"version": "0.1.0", "commit": "abc", "modified": False},
        "packages": {},
        "hardware": {"cpu": "a cpu", "cores": 2, "gpu": None, "device": "cpu"},
        "measured": {
            "started": "2025-01-01T00:00:00+00:00",
            "finished": "2025-01-01T00:01:00+00:00",
            "seconds": seconds,
            "examples_per_second": 296.1,
            "peak_memory_bytes": 123,
            "sessions": 1,
            "threads": 2,
        },
    }
    return RunRecord.of(content).plain()


def record_of(
    run: "PlannedRun",
    seconds: float,
    cpu: str = "a cpu",
    status: str = "finished",
    steps: int | None = None,
    **train: Any,
) -> dict[str, Any]:
    """The record that a planned run might leave; other steps make it another problem's."""
    made = record(0.5, seconds=seconds, status=status)
    settings = copy.deepcopy(run.config.spec.settings)  # which is kept
    settings["train"] |= {"steps": steps or settings["train"]["steps"], **train}
    return made | {
        "settings": settings,
        "run_id": run_id(settings),
        "problem_id": problem_id(settings),
        "sources": {**run.folder.sources},
        "hardware": {**made["hardware"], "cpu": cpu},
    }


def failure(**choices: Any) -> dict[str, Any]:
    whole = record(0.5, **choices)
    keys = ("run_id", "settings", "opt_changed", "opt_default", "grid")
    keys += ("problem_id", "opt_label")
    content = {key: whole[key] for key in keys} | {"error": "boom", "log": "run.log"}
    return RunFailure.of(content).plain()


def write(runs_dir: Path, record: dict[str, Any]) -> Path:
    """Puts a record, or a failure, where the runner would; returns the file."""
    folder = runs_dir / record["settings"]["task"]["name"] / record["run_id"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("failure.json" if "error" in record else "record.json")
    path.write_text(json.dumps(record))
    return path


def write_with_curve(runs_dir: Path, record: dict[str, Any], points: dict[int, float]) -> Path:
    """Puts a record where the runner would, with its metrics: η by step, r̄ = 10 η, loss 1/step."""
    folder = write(runs_dir, record).parent
    lines = [
        {"step": step, "loss": 1 / step, "eta": eta, "rbar": 10 * eta, "G": 1.0}
        for step, eta in points.items()
    ]
    lines.insert(1, {"step": min(points), "validation_last": 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def collected(folder: Path, *made: dict[str, Any]) -> pd.DataFrame:
    """Write records below a folder and return the frame that tables are made from."""
    for one in made:
        write(folder / "runs", one)
    return records.collect(folder / "runs", folder / "records.csv")


def with_rate(rate: float, opt: str = "sgd") -> dict[str, Any]:
    """The changed settings of a run with this learning rate."""
    return {} if rate == DEFAULTS[opt]["lr"] else {"lr": rate}


def example(first: str, *others: str) -> Iterator[dict[str, Any]]:
    """Tasks with all that a table can show: divergence, a crash, an edge, one seed."""
    for place, task in enumerate((first, *others)):
        shift = 0.03 * place
        for seed, change in ((100, 0.0), (0, 0.01), (1, -0.01), (2, 0.015)):
            validation = (0.80 + change - shift, 0.82 + change - shift)
            test = (0.79 + change - shift, 0.81 + change - shift)
            yield record(validation, test, opt="dog", seed=seed, task=task, seconds=70)
            test = tuple(score - 0.02 for score in test)
            yield record(validation, test, opt="sgd", seed=seed, task=task, seconds=50)
            if seed == 1:
                yield failure(opt="sgd", seed=seed, task=task, changed={"lr": 0.1})
            else:
                changed = {"changed": {"lr": 0.1}, "task": task, "seed": seed, "seconds": 52}
                yield record((0.84, 0.83), (0.82 + change, 0.81), **changed)
        yield record(0.1, seed=100, changed={"lr": 1.0}, task=task, status="diverged", seconds=10)
        for rate, score in ((0.0001, 0.6), (0.001, 0.7), (0.01, 0.85 - shift)):
            changed = with_rate(rate, "adam")
            yield record(score, opt="adam", changed=changed, seed=100, task=task)
    yield record(0.86, opt="adam", changed={"lr": 0.01}, seed=0, task=first)
    yield failure(opt="dog", seed=3, task=first)
    yield record(0.7, opt="dog", changed={"reps_rel": 1e-6}, task=first)
    yield record(0.5, opt="dog", task_version=0, task=first)
