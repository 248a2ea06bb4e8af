"""What a sweep will cost, from what earlier runs have cost: runs, time, downloads and disk."""

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import choice, records
from analysis.choice import OF_TASK, ROWS, Chosen
from runner import config as configuration
from runner.archive import archive_beside
from runner.downloads import from_elsewhere, sources
from sweeps import executors, operations
from sweeps.estimate import RuntimeEstimator, TimeLeft
from sweeps.executors.specs import ExecutorSpec
from sweeps.plan import PlannedRun, Sweep, points
from tasks.data.sources import is_fetched
from tasks.data.specs import Archive

COMMITTED = configuration.ROOT / "results" / "archive"
# How many folders of earlier runs of a problem are looked at, and what a file's size is rounded to.
_FOLDERS, _BLOCK = 20, 4096
# While an archive is unpacked its client may keep so many copies more.
_COPIES = 2


@dataclass(frozen=True)
class CostLine:
    """The runs of one task with one optimizer."""

    task: str
    optimizer: str
    runs: int
    to_do: list[PlannedRun]
    time: TimeLeft  # if one trains after another
    basis: tuple[str, ...]  # the earlier runs that say so


@dataclass(frozen=True)
class SweepStage:
    """The runs of a stage, by task and optimizer."""

    name: str
    lines: list[CostLine]
    least: int  # how many runs it has at least, whatever tuning will find
    most: int

    @property
    def runs(self) -> int:
        """How many runs it has, as far as they are known."""
        return sum(line.runs for line in self.lines)

    @property
    def to_do(self) -> list[PlannedRun]:
        """Those that have no record."""
        return [run for line in self.lines for run in line.to_do]


@dataclass(frozen=True)
class Disk:
    """A file system that the sweep writes to."""

    folder: Path
    needed: int  # bytes, as far as they are known
    free: int


@dataclass(frozen=True)
class CostEstimate:
    """What a sweep will cost."""

    estimator: RuntimeEstimator
    slots: int  # how many runs, or groups of replicas, train at the same time
    stages: list[SweepStage]
    archived: int  # how many runs are done by the archive's word, without a folder of their own
    without_model: int  # how many are done that have not kept what export= asks for
    time: TimeLeft
    archives: list[Archive]  # to be fetched
    elsewhere: list[str]  # to be fetched where the size is not told before
    run_bytes: int  # of the folders of the runs to do that have an estimate
    unknown_bytes: int  # how many of those runs have none
    checkpoint_bytes: int | None  # of a run in training; None: unknown
    disks: list[Disk]
    # Of the runs without an estimate, at least and at most (`operations.gpu_seconds`).
    gpu_hours: tuple[float, float] = (0.0, 0.0)

    @property
    def to_do(self) -> int:
        """How many runs have no record."""
        return sum(len(stage.to_do) for stage in self.stages)

    @property
    def in_the_end(self) -> tuple[int, int]:
        """How many runs are to do at least and at most, whatever tuning will find."""
        done = [(stage, stage.runs - len(stage.to_do)) for stage in self.stages]
        least = sum(max(0, stage.least - number) for stage, number in done)
        return least, sum(max(0, stage.most - number) for stage, number in done)


def estimate_cost(
    sweep: Sweep,
    choices: Chosen,
    frame: pd.DataFrame,
    processor: str,
    slots: int,
    timed: float | None = None,
) -> CostEstimate:
    """Estimate the cost of what is not done of a sweep, its second stage as `choices` has it.

    Args:
        sweep: the sweep.
        choices: the settings to report, by problem and optimizer (`chosen`).
        frame: the records of earlier runs (`known`).
        processor: where it will run (`this_processor`).
        slots: how many runs, or groups of replicas, will train at the same time.
        timed: the seconds of a run of which no earlier run tells.
    """
    estimator = runtime_estimator(sweep, frame, processor, timed)
    tuning, reporting = sweep.tuning(), sweep.reporting(choices)
    tried = {run.run_id for run in tuning if run.done}
    least, most = reporting, reporting
    if len(tried) < len(tuning):
        least, most = _bounds(sweep, chosen_for_good(sweep, frame, tried))
    stages = [
        _stage("tuning", tuning, estimator, len(tuning), len(tuning)),
        _stage("reporting", reporting, estimator, len(least), max(len(most), len(reporting))),
    ]
    to_do = [run for stage in stages for run in stage.to_do]
    data_dir = sweep.cells[0].config.execution.data
    training = list({run.problem_id: run.config for run in to_do}.values())
    archives = [archive for archive in sources(training) if not is_fetched(archive, data_dir)]
    run_bytes, unknown_bytes = _bytes(to_do, frame)
    checkpoint = max((_size(run.folder.checkpoint) for run in to_do), default=0) or None
    checkpoints = min(slots, len(to_do)) * (checkpoint or 0)
    fetching = sum(archive.bytes for archive in archives)
    fetching += _COPIES * max((archive.bytes for archive in archives), default=0)
    return CostEstimate(
        estimator=estimator,
        slots=slots,
        stages=stages,
        archived=sum(run.archived for run in (*tuning, *reporting)),
        without_model=sum(run.lacks_model for run in (*tuning, *reporting)),
        time=estimator.time_left(to_do, slots),
        archives=archives,
        elsewhere=from_elsewhere(training, data_dir),
        run_bytes=run_bytes,
        unknown_bytes=unknown_bytes,
        checkpoint_bytes=checkpoint,
        disks=_disks([(sweep.runs_dir, run_bytes + checkpoints), (data_dir, fetching)]),
        gpu_hours=(_gpu_hours(tuning, least, estimator), _gpu_hours(tuning, most, estimator)),
    )


def runtime_estimator(
    sweep: Sweep, frame: pd.DataFrame, processor: str, timed: float | None = None
) -> RuntimeEstimator:
    """Return the estimator that knows these runs, and those that come with the code.

    A run tells of its own task alone: others of the code's, which are thousands, are not parsed.
    """
    tasks = {cell.config.spec.task.name for cell in sweep.cells}
    return RuntimeEstimator(_with_committed(frame, tasks), processor, timed)


def this_processor(sweep: Sweep, chosen: ExecutorSpec | None = None) -> str:
    """Return what this machine would train a sweep on, by an executor, as records name it."""
    return executors.processor(chosen, sweep.cells[0].config.execution.device)


def known(runs_dir: Path) -> pd.DataFrame:
    """The records of all runs known beside a folder of runs; without rows if there are none."""
    return records.gather(runs_dir, archive_beside(runs_dir))


def chosen(sweep: Sweep, frame: pd.DataFrame) -> Chosen:
    """The settings that a sweep reports, of `known` runs its own: by problem and optimizer."""
    return choice.settings_to_report(frame, (run.run_id for run in sweep.tuning()))


def chosen_for_good(sweep: Sweep, frame: pd.DataFrame, tried: Collection[str]) -> Chosen:
    """Those of `chosen` that no further run can change: all points of their grid were `tried`.

    `tried` has run ids. What rests on several tasks is not among them.
    """
    tuning = sweep.tuning()
    open_yet = {(run.problem_id, run.optimizer) for run in tuning if run.run_id not in tried}
    settings = choice.settings_to_report(frame, (run.run_id for run in tuning), OF_TASK)
    return {name: found for name, found in settings.items() if name not in open_yet}


def _bounds(sweep: Sweep, settled: Chosen) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """The runs reported if nothing but the defaults is chosen besides, and if all rows differ."""
    widest: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for cell in sweep.cells:
        settings = widest.setdefault(cell.name, {})  # which two parts may share
        for point in [{}, *points(cell.grid)]:
            if len(settings) < len(ROWS):
                settings.setdefault(cell.run(point, 0).run_id, point)
    choices = {name: list(settings.values()) for name, settings in widest.items()}
    return sweep.reporting(settled), sweep.reporting(choices)


def _gpu_hours(
    tuning: Iterable[PlannedRun], reporting: Iterable[PlannedRun], estimator: RuntimeEstimator
) -> float:
    """The hours of the runs to do without an estimate on a GPU, by their operations."""
    seconds: dict[str, float] = {}  # by problem
    total = 0.0
    for run in {run.run_id: run for run in (*tuning, *reporting)}.values():
        if estimator.estimate(run) is None and not run.done:
            if run.problem_id not in seconds:
                seconds[run.problem_id] = operations.gpu_seconds(run.config.spec) or 0.0
            total += seconds[run.problem_id]
    return total / 3600


def _stage(
    name: str, runs: Iterable[PlannedRun], estimator: RuntimeEstimator, least: int, most: int
) -> SweepStage:
    groups: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault((run.task, run.optimizer), []).append(run)
    lines = []
    for (task, optimizer), group in groups.items():
        missing = [run for run in group if not run.done]
        found = (estimate for estimate in map(estimator.estimate, missing) if estimate)
        basis = tuple(dict.fromkeys(estimate.basis for estimate in found))
        time = estimator.time_left(missing, 1)
        lines.append(CostLine(task, optimizer, len(group), missing, time, basis))
    return SweepStage(name, lines, least, most)


def _with_committed(frame: pd.DataFrame, tasks: Iterable[str]) -> pd.DataFrame:
    """The records, and those of some tasks that come with the code."""
    committed = records.of_archive(COMMITTED, tasks)
    committed = committed[~committed["run_id"].isin(set(frame["run_id"]))]
    frames = [found for found in (frame, committed) if len(found)]
    return pd.concat(frames, ignore_index=True) if frames else frame


def _bytes(to_do: Sequence[PlannedRun], frame: pd.DataFrame) -> tuple[int, int]:
    """What the folders of these runs will take, and for how many of them that is unknown."""
    ids = {problem: part["run_id"] for problem, part in frame.groupby("problem_id")}
    each: dict[str, float | None] = {}
    total, unknown = 0.0, 0
    for run in to_do:
        if run.problem_id not in each:
            run_ids = ids.get(run.problem_id, ())
            folders = (run.folder.path.with_name(run_id) for run_id in run_ids)
            finished = (folder for folder in folders if (folder / "record.json").exists())
            sizes = [_folder_size(folder) for folder in islice(finished, _FOLDERS)]
            each[run.problem_id] = sum(sizes) / len(sizes) if sizes else None
        expected = each[run.problem_id]
        unknown += expected is None
        total += expected or 0
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


def _disks(needs: Iterable[tuple[Path, int]]) -> list[Disk]:
    """The file systems of the folders, each once with all that it is to hold."""
    disks: dict[int, Disk] = {}
    for folder, needed in needs:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        device = there.stat().st_dev
        first = disks.get(device, Disk(folder, 0, shutil.disk_usage(there).free))
        disks[device] = Disk(first.folder, first.needed + needed, first.free)
    return list(disks.values())
