"""The words of the command that trains a run again."""

from collections.abc import Mapping
from typing import Any

from analysis.records import Run
from analysis.variants import default_leaves
from runner.identity import leaves
from runner.run_record import RunRecord, Settings
from tasks.format import override_value

PARTS = ("task", "model", "train")


def command(run: Run) -> list[str]:
    """The words of the command that trains a run again, in a folder of its own."""
    words = _words_of_problem(run.settings)
    words += _words({f"opt.{key}": value for key, value in leaves(run.opt_changed)})
    words.append(f"seed={run.settings['seed']}")
    if isinstance(run, RunRecord) and run.measured.threads:
        words.append(f"threads={run.measured.threads}")
    return ["python", "run.py", *words, "runs_dir=mine/runs"]


def _words_of_problem(settings: Settings) -> list[str]:
    """What chooses a run's task, network, optimizer and protocol, and changes their defaults."""
    task, model, protocol = settings["task"], settings["model"], settings["protocol"]
    names = {"task": task["name"], "model": model["name"], "protocol": protocol["name"]}
    found = default_leaves(task["name"], model["name"], protocol["name"], protocol["version"])
    default = found or {}
    chosen = {name: settings[name] for name in PARTS}  # type: ignore[literal-required]
    changed = {
        key: value for key, value in leaves(chosen) if key in default and value != default[key]
    }
    names["opt"] = settings["opt"]["name"]
    return [*(f"{key}={name}" for key, name in names.items()), *_words(changed)]


def _words(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={override_value(value)}" for key, value in values.items()]
