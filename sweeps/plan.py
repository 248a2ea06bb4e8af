"""A sweep as an explicit list of runs: first those that tune, then those that are reported."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, model_validator
from yaml import YAMLError

from runner import TUNING_SEED, identity
from runner import config as configuration
from runner import overrides as typed
from runner.config import Config
from runner.record import RunFolder
from tasks.data.blocks import Spec
from tasks.errors import UserError
from tasks.format import did_you_mean

if TYPE_CHECKING:  # with pandas
    from analysis.choice import Chosen
    from runner.specs import RunSpec

SWEEPS = configuration.CONFIGS / "sweep"
# The keys of a run that a part has a list of.
LISTED = {"task": "tasks", "opt": "optimizers", "seed": "seeds"}
# How many runs a group of replicas has: at least, to be worth a second process, and at most.
FEWEST, LARGEST = 8, 128


class PartSpec(Spec):
    """Tasks × optimizers of a sweep, each optimizer over a grid."""

    tasks: list[str] = Field(description="their names")
    optimizers: list[str] = Field(description="their names")
    seeds: list[Annotated[int, Field(ge=0, lt=TUNING_SEED)]] = Field(
        description="the chosen settings are run again on these, and these are reported"
    )
    overrides: list[str] = Field([], description="hold for every run of the part")
    grids: dict[str, dict[str, list[Any]]] = Field(
        {}, description="in place of the optimizers' own, of the same keys"
    )
    vary: dict[str, dict[str, list[Any]]] = Field(
        {}, description="by optimizer and key: values to report one at a time, never to tune on"
    )

    @model_validator(mode="after")
    def _check_optimizers(self) -> Self:
        for key in ("grids", "vary"):
            for opt in getattr(self, key):
                if opt not in self.optimizers:
                    near = did_you_mean(opt, self.optimizers)
                    raise ValueError(f"{key} has {opt}, which is no optimizer here: {near}")
        return self


class SweepSpec(Spec):
    """A yaml of configs/sweep."""

    parts: list[PartSpec] = Field(min_length=1)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep, not necessarily done."""

    config: Config
    label: str  # for people: probe_cifar sgd lr=0.1 seed 100
    folder: RunFolder

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.config.spec.run_id

    @property
    def problem_id(self) -> str:
        """The problem's id."""
        return self.config.spec.problem_id

    @property
    def task(self) -> str:
        """The task's name."""
        return self.config.spec.task.name

    @property
    def optimizer(self) -> str:
        """The optimizer's name."""
        return self.config.spec.opt.name

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        return self.config.spec.train.steps

    @property
    def done(self) -> bool:
        """Whether there is a record."""
        return self.folder.read_record() is not None

    @property
    def archived(self) -> bool:
        """Whether its record is the archive's."""
        return not self.folder.record.exists() and self.done

    @property
    def lacks_model(self) -> bool:
        """Whether it is done, and the weights that export= asks for were not kept."""
        weights = self.config.execution.export
        if weights is None or self.folder.model(weights).is_dir():
            return False
        record = self.folder.read_record()
        return record is not None and record.status == "finished"


@dataclass(frozen=True)
class Cell:
    """A task with an optimizer, composed once; settings and seeds vary within it."""

    config: Config
    grid: Mapping[str, list[Any]]
    vary: Mapping[str, list[Any]]
    seeds: list[int]

    @cached_property
    def name(self) -> tuple[str, str]:
        """The problem's id and the optimizer's name, as in the table of choices."""
        return self.config.spec.problem_id, self.config.spec.opt.name

    @cached_property
    def sources(self) -> Mapping[str, str | None]:
        """What the data and the weights would be read from now."""
        return configuration.sources_of(self.config)

    @cached_property
    def runs_dir(self) -> Path:
        """The folder of all runs."""
        return self.config.execution.runs

    @cached_property
    def _runs(self) -> dict[str, PlannedRun]:
        """The runs that were asked for, by changes and seed: others ask for them again."""
        return {}

    def run(self, changes: Mapping[str, Any], seed: int) -> PlannedRun:
        """Return the cell's run with these settings of the optimizer, on this seed.

        Raises:
            UserError: for a setting that the optimizer does not have, or an impossible value.
        """
        key = repr((sorted(changes.items()), seed))
        if key not in self._runs:
            self._runs[key] = self._planned(changes, seed)
        return self._runs[key]

    def _planned(self, changes: Mapping[str, Any], seed: int) -> PlannedRun:
        config = self.config.changed(changes, seed)
        spec, opt = config.spec, config.spec.opt.plain()
        words = [spec.task.name, spec.opt.name]
        words += [f"{key}={_text_of(opt[key])}" for key in changes]
        label = " ".join([*words, f"seed {seed}"])
        folder = RunFolder(self.runs_dir, spec.task.name, spec.run_id, self.sources)
        return PlannedRun(config, label, folder)


@dataclass(frozen=True)
class Sweep:
    """What a yaml of configs/sweep describes."""

    by_part: list[list[Cell]]

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells of all parts."""
        return [cell for cells in self.by_part for cell in cells]

    @property
    def runs_dir(self) -> Path:
        """The folder of all runs."""
        return self.cells[0].runs_dir

    @property
    def parts(self) -> list["Sweep"]:
        """Each part as a sweep of its own."""
        return [Sweep([cells]) for cells in self.by_part]

    def tuning(self) -> list[PlannedRun]:
        """Return every point of every grid, on the seed that is for tuning."""
        runs = [cell.run(point, TUNING_SEED) for cell in self.cells for point in points(cell.grid)]
        return list({run.run_id: run for run in runs}.values())

    def reporting(self, choices: "Chosen") -> list[PlannedRun]:
        """Return each cell's chosen settings, and those it varies, on the seeds reported."""
        runs: dict[str, PlannedRun] = {}
        for cell in self.cells:
            for changes in [*choices.get(cell.name, [{}]), *_one_at_a_time(cell.vary)]:
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
        near = did_you_mean(name, names)
        raise UserError(f"there is no sweep={name}: {near} (or give the path of a yaml)")
    try:
        sweep: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, OSError, YAMLError) as error:
        raise UserError(f"sweep={name} cannot be read: {error}") from error
    try:
        spec = SweepSpec.parse(sweep)
    except UserError as error:
        raise UserError(f"sweep={name}: {error} (see configs/sweep/demo.yaml)") from error
    return sweep_of(spec, overrides)


def sweep_of(spec: SweepSpec, overrides: Iterable[str] = ()) -> Sweep:
    """Compose the cells of a sweep for the given overrides.

    Raises:
        UserError: for any bad setting.
    """
    overrides, by_part = list(overrides), []
    for part in spec.parts:
        _check_overrides([*part.overrides, *overrides])
        cells = []
        for task, opt in product(part.tasks, part.optimizers):
            words = [f"task={task}", f"opt={opt}", *part.overrides, *overrides]
            config = configuration.with_local_copies(configuration.load(words))
            grid = part.grids.get(opt, config.spec.opt.grid)
            vary = part.vary.get(opt, {})
            for point in [*points(grid), *_one_at_a_time(vary)]:
                config.changed(point, TUNING_SEED)  # what cannot be run is said before any run
            _check_grid(config.spec, grid)
            cells.append(Cell(config, grid, vary, part.seeds))
        by_part.append(cells)
    sweep = Sweep(by_part)
    if len({cell.config.execution.runs for cell in sweep.cells}) > 1:
        raise UserError("all parts of a sweep have one runs_dir: take it out of their overrides")
    _check_copies(sweep.cells)
    return sweep


def _check_overrides(words: Iterable[str]) -> None:
    """Refuse what a part lists: it would hold for all of them, or for none."""
    for override in typed.parse(map(typed.quoted, words)):
        if override.key_or_group in LISTED:
            raise UserError(
                f"{override.input_line}: a sweep's {LISTED[override.key_or_group]} are those that "
                "its yaml lists: change them there, or in a copy"
            )


def _check_grid(spec: "RunSpec", grid: Mapping[str, list[Any]]) -> None:
    """Refuse to tune in vain: settings are chosen among runs that change the yaml's grid alone."""
    if not grid:
        return
    changed = configuration.opt_changes(spec).keys() | grid.keys()
    if others := sorted(changed - spec.opt.grid.keys()):
        name, tuned = spec.opt.name, " and ".join(spec.opt.grid) or "nothing"
        raise UserError(
            f"opt={name}: its yaml's grid tunes {tuned}, and no setting would be chosen among runs "
            f"that change {' and '.join(others)}, too: copy configs/opt/{name}.yaml under a new "
            "name, and change its values or its grid there"
        )


def _check_copies(cells: Iterable[Cell]) -> None:
    """Refuse to tune a problem on several data sets, or with several networks' weights, at once."""
    first: dict[tuple[str, str], tuple[str, str | None]] = {}
    for cell in cells:
        spec = cell.config.spec
        for kind, digest in spec.local_copies.items():
            block = identity.blocks(spec)[kind]
            known, path = first.setdefault((spec.problem_id, kind), (digest, block.path))
            if digest != known:
                raise UserError(
                    f"task={spec.task.name}: {block.path_key} is {path} and {block.path}, and one "
                    "sweep tunes on one of them: make two sweeps, each with a runs_dir of its own"
                )


def grouped(
    runs: Iterable[PlannedRun], slots: int, largest: int = LARGEST
) -> list[tuple[PlannedRun, ...]]:
    """Return the runs in groups, each for one worker at a time, of which there are so many.

    Runs of a small task make a group if they differ in optimizer and seed alone: they train
    together, as replicas. Others are by themselves.
    """
    groups: list[tuple[PlannedRun, ...]] = []
    replicas: dict[str, list[PlannedRun]] = {}
    for run in runs:
        spec = run.config.spec
        if largest > 1 and spec.task.replicas and spec.opt.can_train_in_group:
            replicas.setdefault(configuration.replica_key(run.config), []).append(run)
        else:
            groups.append((run,))
    for together in replicas.values():
        number = max(min(slots, len(together) // FEWEST), math.ceil(len(together) / largest), 1)
        # Neighbours have the same seed and so the same batches; where a seed is divided, each
        # part has every optimizer.
        counts: dict[int, int] = {}
        keys = {}
        for run in together:
            seed = run.config.spec.seed
            counts[seed] = counts.get(seed, -1) + 1
            keys[run.run_id] = (seed, counts[seed] % number)
        together.sort(key=lambda run: keys[run.run_id])
        bounds = [len(together) * i // number for i in range(number + 1)]
        groups += [tuple(together[low:high]) for low, high in pairwise(bounds)]
    return groups


def _text_of(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def points(grid: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return every combination; of no keys at all, the one that changes nothing."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _one_at_a_time(vary: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return each value of each key, the other keys as they are by default."""
    return [{key: value} for key, values in vary.items() for value in values]
