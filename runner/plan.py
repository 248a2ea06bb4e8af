"""A sweep as an explicit list of runs: first those that tune, then those that are reported."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner import config as configuration
from runner.record import RunFolder
from tasks.errors import UserError

SWEEPS = configuration.CONFIGS / "sweep"


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
    def done(self) -> bool:
        """Whether there is a record."""
        return self.folder.record.exists()


@dataclass(frozen=True)
class Cell:
    """A task with an optimizer, composed once; settings and seeds vary within it."""

    config: DictConfig
    settings: Mapping[str, Any]
    grid: Mapping[str, list[Any]]
    seeds: list[int]

    @property
    def name(self) -> tuple[str, str]:
        """The problem's id and the optimizer's name, as in the table of choices."""
        return configuration.problem_id(self.settings), self.settings["opt"]["name"]

    def run(self, changes: Mapping[str, Any], seed: int) -> PlannedRun:
        """Return the cell's run with these settings of the optimizer, on this seed."""
        # As in a composed configuration: a whole number where a fraction may stand is one.
        changes = {
            key: float(value) if isinstance(self.settings["opt"].get(key), float) else value
            for key, value in changes.items()
        }
        settings = {**self.settings, "opt": {**self.settings["opt"], **changes}, "seed": seed}
        identity = configuration.run_id(settings)
        words = [settings["task"]["name"], settings["opt"]["name"]]
        words += [f"{key}={value:g}" for key, value in changes.items()]
        return PlannedRun(
            identity,
            configuration.problem_id(settings),
            " ".join([*words, f"seed {seed}"]),
            self.config,
            {**{f"opt.{key}": value for key, value in changes.items()}, "seed": seed},
            RunFolder(configuration.runs_dir(self.config), settings, identity),
        )


@dataclass(frozen=True)
class Sweep:
    """What a yaml of configs/sweep describes."""

    cells: list[Cell]
    tuning_seed: int

    def tuning(self) -> list[PlannedRun]:
        """Return every point of every grid, on the seed that is for tuning."""
        return [
            cell.run(point, self.tuning_seed) for cell in self.cells for point in _points(cell.grid)
        ]

    def reporting(
        self, choices: Mapping[tuple[str, str], list[Mapping[str, Any]]]
    ) -> list[PlannedRun]:
        """Return each cell's chosen settings on the seeds that are reported."""
        return [
            cell.run(chosen, seed)
            for cell in self.cells
            for chosen in _distinct(choices.get(cell.name, [{}]))
            for seed in cell.seeds
        ]


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
    except (OmegaConfBaseException, OSError) as error:
        raise UserError(f"sweep={name} cannot be read: {error}") from error
    _check_keys(name, sweep, {"tuning_seed", "parts"})
    cells = []
    for part in sweep["parts"]:
        _check_keys(name, part, {"tasks", "optimizers", "seeds", "overrides", "grids"})
        for task, opt in product(part["tasks"], part["optimizers"]):
            config = configuration.load(
                [f"task={task}", f"opt={opt}", *part.get("overrides", []), *overrides]
            )
            own: Any = OmegaConf.to_container(config.opt.grid)
            grid = part.get("grids", {}).get(opt, own)
            cells.append(Cell(config, configuration.settings_of(config), grid, part["seeds"]))
    return Sweep(cells, sweep["tuning_seed"])


def _points(grid: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return every combination; of no keys at all, the one that changes nothing."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _distinct(choices: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Drop repetitions: the default may be the best."""
    distinct: list[Mapping[str, Any]] = []
    for choice in choices:
        if choice not in distinct:
            distinct.append(choice)
    return distinct


def _check_keys(name: str, mapping: Mapping[str, Any], valid: set[str]) -> None:
    for key in mapping:
        if key not in valid:
            near = configuration.did_you_mean(key, sorted(valid))
            raise UserError(f"sweep={name} has no key {key}: {near}")
    missing = valid - set(mapping) - {"overrides", "grids"}
    if missing:
        raise UserError(f"sweep={name} needs {', '.join(sorted(missing))}")
