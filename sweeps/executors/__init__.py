"""Executors: what trains the groups of a sweep, here or elsewhere (configs/executor)."""

import math
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from runner import config as configuration
from sweeps.executors.base import Executor, cancelled_by_signals
from tasks.errors import UserError
from tasks.format import did_you_mean

__all__ = ["Executor", "cancelled_by_signals", "places", "settings", "start"]

EXECUTORS = configuration.CONFIGS / "executor"


def settings(words: Iterable[str]) -> DictConfig:
    """Return what words such as ``executor=ray executor.cpus=2`` describe; with none, `local`.

    Raises:
        UserError: for an unknown executor or key, a wrong type, an impossible value.
    """
    given = dict(word.split("=", 1) for word in words)
    name = given.pop("executor", "local")
    names = sorted(path.stem for path in EXECUTORS.glob("*.yaml"))
    if name not in names:
        near = did_you_mean(name, names)
        raise UserError(f"there is no executor={name}: {near}")
    defaults = OmegaConf.load(EXECUTORS / f"{name}.yaml")
    assert isinstance(defaults, DictConfig)
    chosen = defaults.copy()
    keys = [str(key) for key in defaults if key != "_target_"]
    for word, text in given.items():
        key = word.removeprefix("executor.")
        if key not in keys:
            raise UserError(f"executor={name} has no key {key}: {did_you_mean(key, keys)}")
        try:
            chosen[key] = OmegaConf.from_dotlist([f"{key}={text}"])[key]
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(f"{word}={text} cannot be read") from error
    for key in keys:
        configuration.check_value(f"executor.{key}", chosen[key], defaults[key])
        if chosen[key] in (math.inf, -math.inf):
            raise UserError(f"executor.{key}={chosen[key]}: must be finite")
    return chosen


def places(chosen: DictConfig) -> tuple[int, int]:
    """Return with how many CPU threads a group trains, and how many do at once.

    Nothing is started: of a cluster whose size is not known here, one.
    """
    return _engine(chosen).places(chosen)


def start(chosen: DictConfig, runs_dir: Path) -> Executor:
    """Return the executor with these settings, for runs below `runs_dir`.

    Raises:
        UserError: if its package is not installed, or its cluster cannot be had.
    """
    return Executor(_engine(chosen)(chosen, runs_dir), chosen.retries)


def _engine(chosen: DictConfig) -> Any:
    module, _, engine = chosen["_target_"].rpartition(".")
    try:
        return getattr(import_module(module), engine)
    except ModuleNotFoundError as error:
        extra = module.rpartition(".")[2]
        raise UserError(
            f"executor={extra} needs the package {error.name}, which is not installed: "
            f"pip install -c constraints.txt -e '.[{extra}]'"
        ) from error
