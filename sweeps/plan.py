"""A sweep as an explicit list of runs: first those that tune, then those that are reported."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from runner import TUNING_SEED
from runner import config as configuration
from runner.identity import optimizer_of, problem_id, run_id
from runner.record import RunFolder
from tasks.errors import UserError

SWEEPS = configuration.CONFIGS / "sweep"
# Keys of a part whose values are lists of settings by optimizer and key, and all that may lack.
BY_OPTIMIZER = ("grids", "vary")
OPTIONAL = ("overrides", *BY_OPTIMIZER)
# Of runs that train together: as few as a second process is worth, as many as one takes.
FEWEST, LARGEST = 8, 128


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep, not necessarily done."""

    run_id: str
    problem_id: str
    label: str  # for people: probe_cifar sgd lr=0.1 seed 100
    base: DictConfig  # the cell's configuration
    changes: Mapping[str, Any]  # what this run has otherwise
    folder: RunFolder

    @property
    def config(self) -> DictConfig:
        """The run's configuration (made when it is needed: a sweep may have thousands)."""
        return configuration.with_changes(self.base, self.changes)

    @property
    def task(self) -> str:
        """The task's name."""
        return self.folder.path.parent.name

    @property
    def optimizer(self) -> str:
        """The optimizer's name."""
        return optimizer_of(self.task, self.run_id)

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        return int(self.base.train.steps)

    @property
    def done(self) -> bool:
        """Whether there is a record."""
        return self.folder.read_record() is not None


@dataclass(frozen=True)
class Cell:
    """A task with an optimizer, composed once; settings and seeds vary within it."""

    config: DictConfig
    settings: Mapping[str, Any]
    grid: Mapping[str, list[Any]]
    vary: Mapping[str, list[Any]]  # by key: values to report one at a time, never to tune on
    seeds: list[int]

    @cached_property
    def name(self) -> tuple[str, str]:
        """The problem's id and the optimizer's name, as in the table of choices."""
        return problem_id(self.settings), self.settings["opt"]["name"]

    @cached_property
    def sources(self) -> Mapping[str, str | None]:
        """What the data and the weights would be read from now."""
        return configuration.sources_of(self.config, self.settings)

    @cached_property
    def runs_dir(self) -> Path:
        """The folder of all runs."""
        return configuration.runs_dir(self.config)

    def run(self, changes: Mapping[str, Any], seed: int) -> PlannedRun:
        """Return the cell's run with these settings of the optimizer, on this seed."""
        changes = {
            key: configuration.as_in_ids(f"opt.{key}", value, self.settings["opt"].get(key))
            for key, value in changes.items()
        }
        settings = {**self.settings, "opt": {**self.settings["opt"], **changes}, "seed": seed}
        identity = run_id(settings)
        words = [settings["task"]["name"], settings["opt"]["name"]]
        words += [f"{key}={_shown(value)}" for key, value in changes.items()]
        return PlannedRun(
            identity,
            self.name[0],  # optimizer and seed are no part of the problem
            " ".join([*words, f"seed {seed}"]),
            self.config,
            {**{f"opt.{key}": value for key, value in changes.items()}, "seed": seed},
            RunFolder(self.runs_dir, settings, identity, self.sources),
        )


@dataclass(frozen=True)
class Sweep:
    """What a yaml of configs/sweep describes."""

    cells: list[Cell]

    def tuning(self) -> list[PlannedRun]:
        """Return every point of every grid, on the seed that is for tuning."""
        runs = [cell.run(point, TUNING_SEED) for cell in self.cells for point in points(cell.grid)]
        return list({run.run_id: run for run in runs}.values())

    def reporting(
        self, choices: Mapping[tuple[str, str], list[Mapping[str, Any]]]
    ) -> list[PlannedRun]:
        """Return each cell's chosen settings, and those it varies, on the seeds reported."""
        runs: dict[str, PlannedRun] = {}
        for cell in self.cells:
            for changes in [*choices.get(cell.name, [{}]), *_alone(cell.vary)]:
                for seed in cell.seeds:
                    run = cell.run(changes, seed)
                    # Once each: the default may be the best, and among the values varied.
                    runs.setdefault(run.run_id, run)
        return list(runs.values())


def load(name: str, overrides: Iterable[str] = ()) -> Sweep:
    """Read a sweep (of configs/sweep, or a path) and compose its cells for the given overrides.

    Raises:
        UserError: for an unknown sweep, a key that sweeps do not have, or any bad setting.
    """
    names = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
    path = Path(name) if name.endswith(".yaml") else SWEEPS / f"{name}.yaml"
    if not path.exists():
        near = configuration.did_you_mean(name, names)
        raise UserError(f"there is no sweep={name}: {near} (or give the path of a yaml)")
    try:
        sweep: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, OSError, YAMLError) as error:
        raise UserError(f"sweep={name} cannot be read: {error}") from error
    if not isinstance(sweep, dict) or not sweep.get("parts"):
        raise UserError(f"sweep={name} needs parts: see configs/sweep/demo.yaml")
    _check_keys(name, sweep, {"parts"})
    cells = []
    for part in sweep["parts"]:
        _check_part(name, part)
        for task, opt in product(part["tasks"], part["optimizers"]):
            config = configuration.load(
                [f"task={task}", f"opt={opt}", *part.get("overrides", []), *overrides]
            )
            own: Any = OmegaConf.to_container(config.opt.grid)
            grid = part.get("grids", {}).get(opt, own)
            vary = part.get("vary", {}).get(opt, {})
            for point in [*points(grid), *_alone(vary)]:
                configuration.check_opt(config, point)
            settings = configuration.settings_of(config)
            cells.append(Cell(config, settings, grid, vary, part["seeds"]))
    return Sweep(cells)


def grouped(
    runs: Iterable[PlannedRun], slots: int, largest: int = LARGEST
) -> list[tuple[PlannedRun, ...]]:
    """Return the runs in groups, each for one worker at a time, of which there are so many.

    Runs of a small task make a group if they differ in optimizer and seed alone: they train
    together, as replicas. Others are by themselves.
    """
    groups: list[tuple[PlannedRun, ...]] = []
    replicas: dict[str, list[PlannedRun]] = {}
    replica_keys: dict[int, str] = {}  # by cell
    for run in runs:
        if largest > 1 and run.base.task.get("replicas"):
            if id(run.base) not in replica_keys:
                replica_keys[id(run.base)] = configuration.replica_key(run.base)
            replicas.setdefault(replica_keys[id(run.base)], []).append(run)
        else:
            groups.append((run,))
    for together in replicas.values():
        number = max(min(slots, len(together) // FEWEST), math.ceil(len(together) / largest), 1)
        # Neighbours have the same seed and so the same batches; where a seed is divided, each
        # part has every optimizer.
        places: dict[int, int] = {}
        keys = {}
        for run in together:
            seed = run.changes["seed"]
            places[seed] = places.get(seed, -1) + 1
            keys[run.run_id] = (seed, places[seed] % number)
        together.sort(key=lambda run: keys[run.run_id])
        bounds = [len(together) * i // number for i in range(number + 1)]
        groups += [tuple(together[low:high]) for low, high in pairwise(bounds)]
    return groups


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def points(grid: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return every combination; of no keys at all, the one that changes nothing."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _alone(vary: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return each value of each key, the other keys as they are by default."""
    return [{key: value} for key, values in vary.items() for value in values]


def _check_part(name: str, part: Any) -> None:
    """Refuse what would otherwise be left out in silence."""
    if not isinstance(part, dict):
        raise UserError(f"sweep={name}: each of its parts must have tasks, optimizers and seeds")
    _check_keys(name, part, {"tasks", "optimizers", "seeds", *OPTIONAL})
    for key in set(part) - set(BY_OPTIMIZER):
        if not isinstance(part[key], list):
            raise UserError(f"sweep={name}: {key} must be a list")
    if not all(type(seed) is int and 0 <= seed < TUNING_SEED for seed in part["seeds"]):
        raise UserError(f"sweep={name}: seeds must be whole numbers from 0 to {TUNING_SEED - 1}")
    for key in BY_OPTIMIZER:
        _check_by_optimizer(f"sweep={name}: {key}", part.get(key, {}), part["optimizers"])


def _check_by_optimizer(what: str, settings: Any, optimizers: list[str]) -> None:
    if not isinstance(settings, dict):
        raise UserError(f"{what} must name optimizers")
    for opt, lists in settings.items():
        if opt not in optimizers:
            near = configuration.did_you_mean(opt, optimizers)
            raise UserError(f"{what} has {opt}, which is no optimizer here: {near}")
        if not isinstance(lists, dict) or not all(isinstance(v, list) for v in lists.values()):
            raise UserError(f"{what} of {opt} must be lists of values by key")


def _check_keys(name: str, mapping: Mapping[str, Any], valid: set[str]) -> None:
    for key in mapping:
        if key not in valid:
            near = configuration.did_you_mean(key, sorted(valid))
            raise UserError(f"sweep={name} has no key {key}: {near}")
    missing = valid - set(mapping) - set(OPTIONAL)
    if missing:
        raise UserError(f"sweep={name} needs {', '.join(sorted(missing))}")
