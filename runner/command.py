"""The words of the command line that trains a recorded run again."""

from functools import cache
from typing import Any

from runner import config as configuration
from runner.identity import leaves
from runner.run_record import RunDescription, RunRecord
from tasks.errors import UserError
from tasks.format import override_value

# What tells problems apart. An optimizer's changes are in the record.
PARTS = ("task", "model", "train")


def words_of(run: RunDescription) -> list[str]:
    """Return what chooses a run's yamls, changes their defaults, and sets its seed and threads.

    Of yamls that this version does not have it is their names alone.
    """
    settings: dict[str, Any] = {**run.settings}
    names = {group: f"{group}={settings[group]['name']}" for group in configuration.GROUPS}
    default = _defaults(names["task"], names["model"], names["protocol"])
    changed = {
        key: value
        for key, value in leaves({part: settings[part] for part in PARTS})
        if default and value != default.get(key)
    }
    changed |= leaves({"opt": run.opt_changed})
    changed["seed"] = settings["seed"]
    if isinstance(run, RunRecord) and run.measured.threads:
        changed["threads"] = run.measured.threads
    return [*names.values(), *(f"{key}={override_value(v)}" for key, v in changed.items())]


@cache
def _defaults(*names: str) -> dict[str, Any]:
    """Return the settings that these yamls give, by dotted key; {} if there are no such yamls."""
    try:
        return dict(leaves(configuration.load(names).spec.settings))
    except UserError:
        return {}
