"""Runs of made-up problems give the records and the curves that are in runs/, see :mod:`frozen`."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frozen
import pytest

# Of each kind of problem one, of each optimizer one, and what changes how a step is made.
RUNS = {
    "convex-dog": "task=logistic_wine opt=dog opt.reps_rel=0.01",
    "convex-sgd": "task=logistic_digits opt=sgd opt.lr=0.3 train.averaging_gamma=2",
    "convex-tdog": "task=logistic_wine opt=tdog opt.reps_rel=0.1",
    "divergence_example-dog": "task=divergence_example opt=dog task.dimension=40",
    "probe-dog": "task=probe_cifar opt=dog opt.reps_rel=0.01",
    "probe-ldog": "task=probe_cifar opt=ldog opt.reps_rel=0.01",
    "probe-sgd": "task=probe_cifar opt=sgd opt.lr=0.1",
    "probe-adam": "task=probe_cifar opt=adam opt.lr=0.01",
    "probe-diverged": "task=probe_newsgroups opt=sgd opt.lr=1e30 opt.weight_decay=0.1",
    "image-dog-batch_norm": "task=cifar opt=dog model.batch_norm=train train.augment=flip",
    "image-sgd_momentum": "task=cifar model=squeezenet opt=sgd_momentum opt.lr=0.0003",
    "image-sgd-bf16": "task=cifar opt=sgd opt.lr=0.01 train.precision=bf16",
    "text-adamw": "task=movies opt=adamw opt.lr=0.001",
    "regression-ldog": "task=stsb opt=ldog opt.reps_rel=0.001",
    "questions-adam-best": "task=squad opt=adam opt.clip_norm=0.5 train.checkpoint=best",
    "text_to_text-dog": "task=cola model=t5_base opt=dog opt.reps_rel=0.001",
}
STEPS = ["train.steps=12", "log_every=1"]
REPLICAS = ["probe-dog", "probe-ldog", "probe-sgd", "probe-adam"]

# What differs between two equal runs, or two machines.
NOT_FROZEN = ("measured", "code", "packages", "hardware", "numerics")
COLUMNS = {"loss", "lr", "eta", "validation_last", "validation_averaged"}
LISTS_OF_NUMBERS = re.compile(r"\[\n\s+([-+.,\w\s]+?)\s+\]")

# How far numbers may be from those of another machine: relatively, and scores that count examples.
CLOSE, CLOSE_BF16, CLOSE_SCORES = 1e-4, 1e-2, 0.05
# What another machine may have otherwise altogether: what depends on random weights and features.
ELSEWHERE = {"data_id", "train", "validation", "test", "weights", "test_correct"}


def words(name: str) -> list[str]:
    return [*RUNS[name].split(), *STEPS]


def path_of(name: str) -> Path:
    return frozen.FOLDER / "runs" / f"{name}.json"


def parts_to_freeze(trained: frozen.Trained) -> dict[str, Any]:
    record, lines = trained
    numerics = record["numerics"]
    made_with = {name: numerics[name] for name in ("torch", "processor", "cpu_capability")}
    curves: dict[str, list[float]] = {}
    for line in lines:
        for name in line.keys() & COLUMNS:
            curves.setdefault(name, []).append(line[name])
    return {
        "made_with": made_with | {"kernel": numerics.get("kernel")},
        "curves": curves,
        "record": {name: record[name] for name in record if name not in NOT_FROZEN},
    }


def as_text(parts: dict[str, Any]) -> str:
    """Return JSON with a line for each value and for each curve."""
    text = json.dumps(parts, indent=1, sort_keys=True, ensure_ascii=False)
    return LISTS_OF_NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def check(name: str, trained: frozen.Trained) -> None:
    """Compare a run with its golden file: all of it, or what does not depend on the machine."""
    found, text = parts_to_freeze(trained), path_of(name).read_text()
    golden = json.loads(text)
    if found["made_with"] == golden["made_with"]:
        assert as_text(found) == text
        return
    close = CLOSE_BF16 if golden["record"]["settings"]["train"]["precision"] == "bf16" else CLOSE
    del found["made_with"], golden["made_with"]
    assert not list(differences(found, golden, close))


def differences(found: Any, golden: Any, close: float, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what differs by more than two machines do."""
    if type(found) is not type(golden):
        yield f"{path}: {found!r} and {golden!r} are of different types"
    elif isinstance(golden, dict):
        if found.keys() != golden.keys():
            yield f"{path}: only in one of both: {sorted(found.keys() ^ golden.keys())}"
        for key in found.keys() & golden.keys():
            yield from differences(found[key], golden[key], close, (*path, key))
    elif isinstance(golden, list):
        if len(found) != len(golden):
            yield f"{path}: {len(found)} values, {len(golden)} before"
        for one, other in zip(found, golden, strict=False):
            yield from differences(one, other, close, path)
    elif isinstance(golden, float):
        is_score = "loss" not in path and {"test", "validation"} & set(path[:-1])
        if not math.isclose(found, golden, rel_tol=close, abs_tol=CLOSE_SCORES if is_score else 0):
            yield f"{path}: {found!r}, {golden!r} before"
    elif isinstance(golden, str) and ELSEWHERE & set(path):
        if len(found) != len(golden):
            yield f"{path}: {found!r} and {golden!r} are of different lengths"
    elif found != golden:
        yield f"{path}: {found!r}, {golden!r} before"


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_golden_record_and_curves(name, tmp_path):
    trained = frozen.train(words(name), tmp_path)
    if frozen.UPDATE:
        path_of(name).write_text(as_text(parts_to_freeze(trained)))
    check(name, trained)


def test_replicas_give_the_golden_records_and_curves_of_their_runs(tmp_path):
    together = frozen.train_replicas([words(name) for name in REPLICAS], tmp_path)
    for name, trained in zip(REPLICAS, together, strict=True):
        assert trained[0]["measured"]["replicas"] == len(REPLICAS)
        check(name, trained)


def test_every_golden_run_is_trained():
    assert sorted(path.stem for path in path_of("any").parent.iterdir()) == sorted(RUNS)
