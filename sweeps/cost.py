"""What a sweep will cost, from what earlier runs have cost: runs, time, downloads and disk."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import choice, records
from analysis.choice import ROWS
from runner import config as configuration
from runner.archive import archive_beside
from runner.cores import usable_cores
from runner.downloads import from_elsewhere, sources
from sweeps import operations
from sweeps.plan import LARGEST, PlannedRun, Sweep, points
from tasks.data.sources import is_fetched
from tasks.data.specs import Archive

COMMITTED = configuration.ROOT / "results" / "archive"
# What an example's time depends on besides task and model, as in the column problem_settings.
_EXAMPLE = ("train.image_size=", "train.max_tokens=", "train.precision=")
# How many folders of earlier runs of a problem are looked at, and what a file's size is rounded to.
_FOLDERS, _BLOCK = 20, 4096
# While an archive is unpacked its client may keep so many copies more.
_COPIES = 2


@dataclass(frozen=True)
class Machine:
    """Where the sweep will run."""

    processor: str  # as records name it
    threads: int  # CPU threads of a run
    slots: int  # how many runs, or groups of runs, are in training at once
    replicas: int = LARGEST  # how many runs of a small task may train together


@dataclass(frozen=True)
class Line:
    """The runs of one task with one optimizer."""

    task: str
    optimizer: str
    runs: int
    to_do: int
    seconds: float  # of those to do that have an estimate
    unknown: int  # how many of those to do have none
    basis: tuple[str, ...]  # the earlier runs that say so


@dataclass(frozen=True)
class Stage:
    """The runs of a stage, by task and optimizer."""

    name: str
    lines: list[Line]
    least: int  # how many runs it has at least, whatever tuning will find
    most: int

    @property
    def runs(self) -> int:
        """How many runs it has, as far as they are known."""
        return sum(line.runs for line in self.lines)

    @property
    def to_do(self) -> int:
        """How many of them have no record."""
        return sum(line.to_do for line in self.lines)


@dataclass(frozen=True)
class Place:
    """A file system that the sweep writes to."""

    folder: Path
    needed: int  # bytes, as far as they are known
    free: int


@dataclass(frozen=True)
class Price:
    """What a sweep will cost."""

    machine: Machine
    stages: list[Stage]
    archives: list[Archive]  # to be fetched
    elsewhere: list[str]  # to be fetched where the size is not told before
    run_bytes: int  # of the folders of the runs to do that have an estimate
    unknown_bytes: int  # how many of those runs have none
    checkpoint_bytes: int | None  # of a run in training; None: unknown
    places: list[Place]
    estimate: Callable[[PlannedRun], float | None]  # the seconds of one run, where they are known
    # Of the runs without an estimate, at least and at most (`operations.gpu_seconds`).
    gpu_hours: tuple[float, float] = (0.0, 0.0)

    @property
    def to_do(self) -> int:
        """How many runs have no record."""
        return sum(stage.to_do for stage in self.stages)

    @property
    def in_the_end(self) -> tuple[int, int]:
        """How many runs are to do at least and at most, whatever tuning will find."""
        done = [(stage, stage.runs - stage.to_do) for stage in self.stages]
        least = sum(max(0, stage.least - number) for stage, number in done)
        return least, sum(max(0, stage.most - number) for stage, number in done)

    @property
    def unknown(self) -> int:
        """How many of them have no estimate of their time."""
        return sum(line.unknown for stage in self.stages for line in stage.lines)

    @property
    def seconds(self) -> float:
        """The time of the others, as many at once as the machine has slots."""
        times = (line.seconds for stage in self.stages for line in stage.lines)
        return sum(times) / self.machine.slots


class Earlier:
    """What runs took so far: the median of those most like a run is its estimate.

    Runs of the same processor come before others, among them those with as many threads, together
    with others or not as the run will be; and then those of the same problem and optimizer before
    those of the same problem, before those of the same task and model on examples of the same size,
    whose time is scaled by the number of examples (steps × batch size). A run that diverged ended
    early and tells nothing.
    """

    def __init__(self, frame: pd.DataFrame, machine: Machine) -> None:
        done = frame[(frame["status"] == "finished") & (frame["seconds"] > 0)]
        examples = (done["steps"] * done["batch_size"]).astype("float64")
        done = done.assign(
            example=[_example(text) for text in done["problem_settings"]],
            seconds_an_example=done["seconds"] / examples,
        )
        same = done["gpu"].mask(done["gpu"] == "", done["cpu"]) == machine.processor
        threads = same & (done["threads"] == machine.threads).fillna(False).astype(bool)
        replicas = (done["replicas"] > 1).fillna(False).astype(bool)
        elsewhere = _Medians(done[~same])
        self._replicas = machine.replicas
        self._medians = {
            together: {
                "this processor": _Medians(done[alike]),
                "this processor, other threads or replicas": _Medians(done[same & ~alike]),
                "another processor": elsewhere,
            }
            for together, alike in ((True, threads & replicas), (False, threads & ~replicas))
        }
        self._found: dict[tuple[str, str], tuple[float, str] | None] = {}

    def estimate(self, run: PlannedRun) -> tuple[float, str] | None:
        """Return the seconds that a run will take and what says so; None if nothing does."""
        key = (run.problem_id, run.optimizer)
        if key not in self._found:
            self._found[key] = next(self._estimates(run), None)
        return self._found[key]

    def seconds(self, run: PlannedRun) -> float | None:
        """Return the seconds of :meth:`estimate` alone."""
        found = self.estimate(run)
        return None if found is None else found[0]

    def _estimates(self, run: PlannedRun) -> Iterator[tuple[float, str]]:
        """Yield the estimates that there are, the best first."""
        spec = run.config.spec
        examples = spec.train.steps * spec.train.batch_size
        kind = (run.task, spec.model.name, _example(records.problem_text(spec.settings)))
        together = self._replicas > 1 and run.config.spec.task.replicas
        for where, median in self._medians[together].items():
            if (run.problem_id, run.optimizer) in median.own:
                yield median.own[run.problem_id, run.optimizer], f"same runs, {where}"
            if run.problem_id in median.problem:
                yield median.problem[run.problem_id], f"other optimizers, {where}"
            if kind in median.example:
                yield median.example[kind] * examples, f"other protocols, by steps, {where}"


class _Medians:
    """The median times of some runs, by what they have in common."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self.own = _median(runs, ["problem_id", "optimizer"], "seconds")
        self.problem = _median(runs, "problem_id", "seconds")
        self.example = _median(runs, ["task", "model", "example"], "seconds_an_example")


def _median(runs: pd.DataFrame, by: str | list[str], column: str) -> dict[Any, float]:
    return runs.groupby(by)[column].median().dropna().to_dict()


def price(
    sweep: Sweep,
    choices: Mapping[tuple[str, str], list[Mapping[str, Any]]],
    frame: pd.DataFrame,
    machine: Machine,
) -> Price:
    """Price what is not done of a sweep, its second stage as `choices` has it.

    `frame` has the records of earlier runs (`known`); `choices` are the settings to report by
    problem and optimizer (`chosen`).
    """
    configs = [cell.config for cell in sweep.cells]
    earlier = Earlier(_with_committed(frame), machine)
    tuning, reporting = sweep.tuning(), sweep.reporting(choices)
    tuned = all(run.done for run in tuning)
    least, most = (reporting, reporting) if tuned else _bounds(sweep)
    stages = [
        _stage("tuning", tuning, earlier, len(tuning), len(tuning)),
        _stage("reporting", reporting, earlier, len(least), max(len(most), len(reporting))),
    ]
    to_do = [run for run in [*tuning, *reporting] if not run.done]
    data_dir = configs[0].execution.data
    training = list({run.problem_id: run.config for run in to_do}.values())
    archives = [one for one in sources(training) if not is_fetched(one, data_dir)]
    run_bytes, unknown_bytes = _bytes(to_do, frame)
    checkpoint = max((_size(run.folder.checkpoint) for run in to_do), default=0) or None
    checkpoints = min(machine.slots, len(to_do)) * (checkpoint or 0)
    fetching = sum(one.bytes for one in archives)
    fetching += _COPIES * max((one.bytes for one in archives), default=0)
    runs_dir = configs[0].execution.runs
    return Price(
        machine=machine,
        stages=stages,
        archives=archives,
        elsewhere=from_elsewhere(training, data_dir),
        run_bytes=run_bytes,
        unknown_bytes=unknown_bytes,
        checkpoint_bytes=checkpoint,
        estimate=earlier.seconds,
        places=_places([(runs_dir, run_bytes + checkpoints), (data_dir, fetching)]),
        gpu_hours=(_gpu_hours(tuning, least, earlier), _gpu_hours(tuning, most, earlier)),
    )


def this_machine(sweep: Sweep, *places: int) -> Machine:
    """This machine: its `places` are the rest of `Machine`, by default a run on each core."""
    from runner import environment

    processor = environment.processor(sweep.cells[0].config.execution.device)
    return Machine(processor, *(places or (1, usable_cores())))


def known(runs_dir: Path) -> pd.DataFrame:
    """The records of all runs known beside a folder of runs; without rows if there are none."""
    return records.gather(runs_dir, archive_beside(runs_dir))


def chosen(sweep: Sweep, frame: pd.DataFrame) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """The settings that a sweep reports, of `known` runs its own: by problem and optimizer."""
    return choice.settings_to_report(frame, (run.run_id for run in sweep.tuning()))


def _bounds(sweep: Sweep) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """The runs reported if nothing but the defaults is chosen, and if all rows differ."""
    widest: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for cell in sweep.cells:
        settings = widest.setdefault(cell.name, {})  # which two parts may share
        for point in [{}, *points(cell.grid)]:
            if len(settings) < len(ROWS):
                settings.setdefault(cell.run(point, 0).run_id, point)
    choices = {name: list(settings.values()) for name, settings in widest.items()}
    return sweep.reporting({}), sweep.reporting(choices)


def _gpu_hours(
    tuning: Iterable[PlannedRun], reporting: Iterable[PlannedRun], earlier: Earlier
) -> float:
    """The hours of the runs to do without an estimate on a GPU, by their operations."""
    seconds: dict[str, float] = {}  # by problem
    total = 0.0
    for run in {run.run_id: run for run in (*tuning, *reporting)}.values():
        if earlier.estimate(run) is None and not run.done:
            if run.problem_id not in seconds:
                seconds[run.problem_id] = operations.gpu_seconds(run.config.spec) or 0.0
            total += seconds[run.problem_id]
    return total / 3600


def _stage(name: str, runs: Iterable[PlannedRun], earlier: Earlier, least: int, most: int) -> Stage:
    groups: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault((run.task, run.optimizer), []).append(run)
    lines = []
    for (task, optimizer), some in groups.items():
        missing = [run for run in some if not run.done]
        found = [one for one in map(earlier.estimate, missing) if one]
        seconds = sum(one[0] for one in found)
        basis = tuple(dict.fromkeys(one[1] for one in found))
        unknown = len(missing) - len(found)
        lines.append(Line(task, optimizer, len(some), len(missing), seconds, unknown, basis))
    return Stage(name, lines, least, most)


def _with_committed(frame: pd.DataFrame) -> pd.DataFrame:
    """The records, and those that come with the code."""
    committed = records.of_archive(COMMITTED)
    committed = committed[~committed["run_id"].isin(set(frame["run_id"]))]
    parts = [part for part in (frame, committed) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else frame


def _example(problem_settings: str) -> str:
    """The settings on which the time of an example depends."""
    return "; ".join(part for part in problem_settings.split("; ") if part.startswith(_EXAMPLE))


def _bytes(to_do: Sequence[PlannedRun], frame: pd.DataFrame) -> tuple[int, int]:
    """What the folders of these runs will take, and for how many of them that is unknown."""
    ids = {problem: part["run_id"] for problem, part in frame.groupby("problem_id")}
    each: dict[str, float | None] = {}
    total, unknown = 0.0, 0
    for run in to_do:
        if run.problem_id not in each:
            folders = (run.folder.path.with_name(one) for one in ids.get(run.problem_id, ()))
            finished = (folder for folder in folders if (folder / "record.json").exists())
            sizes = [_folder_size(folder) for folder in islice(finished, _FOLDERS)]
            each[run.problem_id] = sum(sizes) / len(sizes) if sizes else None
        own = each[run.problem_id]
        unknown += own is None
        total += own or 0
    return round(total), unknown


def _folder_size(folder: Path) -> int:
    """The bytes of a folder and of what stays in it, in whole blocks."""
    stays = [path for path in folder.rglob("*") if not path.name.endswith((".pt", ".damaged"))]
    return sum(-(-_size(path) // _BLOCK) * _BLOCK for path in (folder, *stays))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _places(needs: Iterable[tuple[Path, int]]) -> list[Place]:
    """The file systems of the folders, each once with all that it is to hold."""
    places: dict[int, Place] = {}
    for folder, needed in needs:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        device = there.stat().st_dev
        first = places.get(device, Place(folder, 0, shutil.disk_usage(there).free))
        places[device] = Place(first.folder, first.needed + needed, first.free)
    return list(places.values())
