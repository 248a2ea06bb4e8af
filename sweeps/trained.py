"""The runs of a comparison: trains them, and more seeds of those that its answer compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sweeps import cost, driver, executors, plan
from sweeps.design import Spent
from sweeps.executors.specs import ExecutorSpec
from sweeps.plan import PlannedRun, Sweep
from sweeps.worker import Outcome
from tasks.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.estimate import RuntimeEstimator


@dataclass(frozen=True)
class Trained:
    """What was trained of a comparison."""

    sweep: Sweep
    runs: list[PlannedRun]
    seeds: int  # of what the answer compares
    frame: "pd.DataFrame"  # their records
    unfinished: list[Outcome]
    estimator: "RuntimeEstimator"

    @property
    def problem_id(self) -> str:
        """The problem's id."""
        return self.sweep.cells[0].name[0]

    def run(self, optimizer: str, changes: Mapping[str, Any], seed: int) -> PlannedRun:
        """Return the run of an optimizer with these settings."""
        cell = next(cell for cell in self.sweep.cells if cell.name[1] == optimizer)
        return cell.run(changes, seed)

    def spent(self, start: float, slots: int) -> Spent:
        """Return what the runs have taken, if each took so long to start."""
        seconds = self.frame["seconds"] + start
        finished = seconds[self.frame["status"] == "finished"]
        each = finished.mean() if len(finished) else seconds.mean()
        return Spent(float(seconds.sum()), float(each), slots)


def train(sweep: Sweep, chosen: ExecutorSpec, seconds: float) -> Trained:
    """Train what is missing of a sweep, of which a run is expected to take so many seconds.

    Raises:
        UserError: if runs were stopped.
    """
    frame = cost.known(sweep.runs_dir)
    choices, processor = cost.chosen(sweep, frame), cost.this_processor(sweep, chosen)
    slots = executors.slots(chosen)
    estimate = cost.estimate_cost(sweep, choices, frame, processor, slots, seconds)
    planned = sweep.tuning()
    unfinished: list[Outcome] = []
    if estimate.to_do:
        with executors.running(chosen, sweep.runs_dir) as executor:
            unfinished = driver.train(sweep, executor, plan.LARGEST, estimate, planned)
    else:
        planned += sweep.reporting(choices)
    trained = Trained(
        sweep, planned, len(sweep.cells[0].seeds), frame, unfinished, estimate.estimator
    )
    return _with_records(trained)


def train_more_seeds(
    trained: Trained,
    settings: Sequence[tuple[str, Mapping[str, Any]]],
    seeds: int,
    chosen: ExecutorSpec,
) -> Trained:
    """Train these settings, each of an optimizer, up to so many seeds.

    Raises:
        UserError: if runs were stopped.
    """
    more = [
        trained.run(optimizer, changes, seed)
        for seed in range(trained.seeds, seeds)
        for optimizer, changes in settings
    ]
    unfinished = train_runs("more seeds", more, trained.estimator, chosen)
    return _with_records(
        replace(
            trained,
            runs=[*trained.runs, *more],
            seeds=seeds,
            unfinished=[*trained.unfinished, *unfinished],
        )
    )


def train_runs(
    stage: str, runs: list[PlannedRun], estimator: "RuntimeEstimator", chosen: ExecutorSpec
) -> list[Outcome]:
    """Train what is not done of these runs; return what has no record."""
    if all(run.done for run in runs):
        return []
    with executors.running(chosen, runs[0].config.execution.runs) as executor:
        return driver.run_stage(stage, runs, executor, plan.LARGEST, estimator)


def _with_records(trained: Trained) -> Trained:
    if any(outcome.status == "stopped" for outcome in trained.unfinished):
        raise UserError("some runs were stopped: give the same command again")
    frame = cost.known(trained.sweep.runs_dir)
    ids = {run.run_id for run in trained.runs}
    estimator = cost.runtime_estimator(trained.sweep, frame, trained.estimator.processor)
    return replace(trained, frame=frame[frame["run_id"].isin(ids)], estimator=estimator)
