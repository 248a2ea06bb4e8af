"""Executors: what trains the groups of a sweep, here or elsewhere (configs/executor)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from runner import CONFIGS
from sweeps.executors.base import Executor, cancelled_by_signals
from sweeps.executors.specs import SPECS, ExecutorSpec, LocalSpec
from tasks.errors import UserError
from tasks.format import did_you_mean

__all__ = ["Executor", "processor", "running", "settings", "slots", "start"]

EXECUTORS = CONFIGS / "executor"


def settings(words: Iterable[str]) -> ExecutorSpec:
    """Return what words such as ``executor=ray executor.cpus=2`` describe; with none, `local`.

    Raises:
        UserError: for an unknown executor or key, a wrong type, an impossible value.
    """
    given = dict(word.split("=", 1) for word in words)
    name = given.pop("executor", "local")
    if name not in SPECS:
        raise UserError(f"there is no executor={name}: {did_you_mean(name, sorted(SPECS))}")
    chosen: Any = OmegaConf.to_container(OmegaConf.load(EXECUTORS / f"{name}.yaml"))
    keys = [key for key in SPECS[name].yaml_keys() if key != "_target_"]
    for word, text in given.items():
        key = word.removeprefix("executor.")
        if key not in keys:
            raise UserError(f"executor={name} has no key {key}: {did_you_mean(key, keys)}")
        try:
            typed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={text}"]))
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(f"{word}={text} cannot be read") from error
        chosen[key] = typed[key]
    return SPECS[name].parse(chosen, "executor")


def slots(chosen: ExecutorSpec) -> int:
    """Return how many groups can be in training at once, as far as the settings say.

    Nothing is started: of a cluster whose size is not known here, one.
    """
    number: int = _engine(chosen).slots_of(chosen)
    return number


def processor(chosen: ExecutorSpec | None, device: str) -> str:
    """Return the name, as records have it, of what trains runs with this `device` here."""
    from runner import environment

    without_gpus = isinstance(chosen, LocalSpec) and chosen.gpus == 0
    return environment.processor("cpu" if without_gpus else device)


def start(chosen: ExecutorSpec, runs_dir: Path) -> Executor:
    """Return the executor with these settings, for runs below `runs_dir`.

    Raises:
        UserError: if its package is not installed, or its cluster cannot be had.
    """
    return Executor(_engine(chosen)(chosen, runs_dir), chosen.retries)


@contextmanager
def running(chosen: ExecutorSpec, runs_dir: Path) -> Iterator[Executor]:
    """Start an executor, have SIGINT and SIGTERM cancel its work, and close it at the end.

    Raises:
        UserError: as :func:`start`.
        KeyboardInterrupt: at the end, if a signal came.
    """
    with start(chosen, runs_dir) as executor, cancelled_by_signals(executor):
        yield executor


def _engine(chosen: ExecutorSpec) -> Any:
    module, _, engine = chosen.target.rpartition(".")
    try:
        return getattr(import_module(module), engine)
    except ModuleNotFoundError as error:
        extra = module.rpartition(".")[2]
        raise UserError(
            f"executor={extra} needs the package {error.name}, which is not installed: "
            f"pip install -c constraints.txt -e '.[{extra}]'"
        ) from error
