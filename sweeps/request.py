"""What the command line of a comparison asks for: data=PATH and further key=value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.overrides import path_in
from sweeps.design import check_fixed
from sweeps.executors.specs import ExecutorSpec
from sweeps.options import boolean, executor_of, number
from tasks.errors import UserError
from tasks.format import did_you_mean

COLUMNS = ["text", "second_text", "label", "kind"]
OURS = ["data", "model", "hours", *COLUMNS, "metric", "rivals"]
OURS += ["steps", "seeds", "dry_run", "jobs", "executor"]
OF_RUNS = ["device", "threads", "workers", "eval_batch_size", "data_dir", "runs_dir", "debug"]
# Decided by the comparison: the steps by the time; only the last scores, as nothing else counts.
DECIDED = ("train.steps", "train.eval_every", "train.checkpoint", "task.data")
# What is compared: each method's own settings, and what the protocol prescribes for them.
COMPARED = ("opt.", "protocol.")


@dataclass(frozen=True)
class Request:
    """A comparison that is asked for."""

    data: str
    model: str | None
    metric: str | None
    columns: dict[str, Any]  # of a table, and its kind, as far as they are named
    hours: float
    steps: int | None
    seeds: int | None
    rivals: bool
    dry_run: bool
    executor: ExecutorSpec
    words: list[str]  # for every run

    @property
    def name(self) -> str:
        """The data's name for readers."""
        return Path(self.data).name or self.data

    @property
    def data_dir(self) -> Path | None:
        """The folder of data and weights, if it is named."""
        found = [path_in(word) for word in self.words if word.startswith("data_dir=")]
        return Path(found[-1]).expanduser().resolve() if found else None


def read_request(words: list[str]) -> Request:
    """Return what a command line asks for.

    Raises:
        UserError: for an unknown key or an impossible value.
    """
    options: dict[str, str] = {}
    of_runs = []
    for word in ("dry_run=true" if word == "--dry-run" else word for word in words):
        key, equal, value = word.partition("=")
        if not equal:
            raise UserError(f"{word} cannot be read: say data={word}, or another key=value")
        if key.startswith(COMPARED):
            raise UserError(f"{key} is not to be set: optimizers are compared as their yamls say")
        if key in OURS or key.startswith("executor."):
            options[key] = value
        elif key in OF_RUNS or ("." in key and not key.startswith(DECIDED)):
            of_runs.append(word)
        elif key == "train.steps":
            raise UserError(f"{key} is chosen by the time: say steps={value}")
        else:
            raise UserError(f"there is no key {key}: {did_you_mean(key, [*OURS, *OF_RUNS])}")
    if not options.get("data"):
        raise UserError("name your data: python compare.py data=PATH (a folder, or a file)")
    steps, seeds = number("steps", options, int), number("seeds", options, int)
    check_fixed(steps, seeds)
    devices = [word for word in of_runs if word.startswith("device=")]
    return Request(
        data=options["data"],
        model=options.get("model") or None,
        metric=options.get("metric") or None,
        columns={key: options.get(key) or None for key in COLUMNS},
        hours=number("hours", options, float) or 1.0,
        steps=steps,
        seeds=seeds,
        rivals=boolean("rivals", options),
        dry_run=boolean("dry_run", options),
        executor=executor_of(options, on_cpu=devices[-1:] == ["device=cpu"]),
        words=of_runs,
    )
