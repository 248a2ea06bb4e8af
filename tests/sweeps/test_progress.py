"""Progress: what is shown of runs that end and of runs that train."""

import io
import time
from dataclasses import replace

import pytest
from conftest import QUIET

from analysis import records
from runner.cli import BestEffortStream
from sweeps import plan, progress
from sweeps.estimate import RunEstimate, RuntimeEstimator
from sweeps.progress import Progress, last_step
from sweeps.worker import Outcome


@pytest.fixture
def runs(tmp_path):
    """Runs of two tasks, of 8 steps each, none begun."""
    sweep = tmp_path / "small.yaml"
    sweep.write_text(
        "parts: [{tasks: [probe_cifar, cifar], optimizers: [sgd], seeds: [0],"
        " grids: {sgd: {lr: [0.1, 1.0, 10.0]}}}]"
    )
    return plan.load(str(sweep), [*QUIET, f"runs_dir={tmp_path}/runs"]).tuning()


def ended(run, score=0.7, status="finished", seconds=2.0):
    return Outcome(run, status, seconds, score)


class Known(RuntimeEstimator):
    """Estimates runs by their ids."""

    def __init__(self, seconds):
        super().__init__(records.empty(), "a cpu")
        self._seconds = seconds

    def estimate(self, run):
        seconds = self._seconds.get(run.run_id)
        return None if seconds is None else RunEstimate(seconds, "made up")


def started(runs, seconds=None, stream=None, later=()):
    """The progress of a stage whose runs are expected to take so long, one at a time."""
    estimator = Known(seconds or {})
    return Progress("tuning", runs, estimator, 1, later, stream or io.StringIO())


def at_step(run, step):
    """The run as it is after so many steps; what follows is half-written."""
    run.folder.make()
    lines = [f'{{"step": {done}, "loss": 0.5}}\n' for done in range(1, step + 1)]
    run.folder.metrics.write_text("".join(lines) + '{"step": 99')


def test_runs_that_end_together_are_a_line_for_each_task(runs):
    probe, cifar = runs[:3], runs[3:]
    outcomes = [ended(probe[0]), ended(cifar[0]), ended(probe[1], 0.712), ended(probe[2], 0.6)]
    assert list(progress.lines(outcomes)) == [
        "finished  cifar sgd lr=0.1 seed 100: validation accuracy 0.700 (2.0 s)",
        "finished  probe_cifar: 3 runs (6.0 s), best validation accuracy 0.712: sgd lr=1 seed 100",
    ]


def test_of_an_error_the_lowest_is_the_best(runs):
    def of_an_error(run):
        spec = run.config.spec
        spec = spec.replaced(task=spec.task.replaced(higher_is_better=False))
        return replace(run, config=replace(run.config, spec=spec))

    first, second = map(of_an_error, runs[:2])
    (line,) = progress.lines([ended(first, 1e-5), ended(second, 0.2)])
    assert "best validation accuracy 1e-05: sgd lr=0.1" in line


def test_each_failure_is_a_line_at_once_and_diverged_runs_have_no_best(runs):
    stream = io.StringIO()
    with started(runs, stream=stream) as shown:
        shown.report(Outcome(runs[0], "failed", 1.0, detail="boom"))
        shown.report(Outcome(runs[1], "failed", 1.0, detail="bang"))
        assert stream.getvalue().count("failed ") == 2
        shown.report(ended(runs[3], status="diverged"))
        shown.report(ended(runs[4], status="diverged"))
    assert stream.getvalue().splitlines()[2:] == ["diverged  cifar: 2 runs (4.0 s)"]
    assert (shown.done, shown.failed) == (2, 2)


def shown_after(monkeypatch, seconds, *progress):
    """What is said of the stage so many seconds later."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)
    return [each.state() for each in progress]


def test_runs_whose_locks_are_held_are_running(runs):
    shown = started(runs)
    for run in (runs[0], runs[1], runs[3]):
        run.folder.make()
    with runs[0].folder.lock, runs[3].folder.lock:
        runs[1].folder.lock.path.write_text("number 1 on this")  # of a process that is no more
        shown.refresh()
    assert shown.state().startswith("2 running, 0 failed")
    for run in runs[1:]:
        shown.report(ended(run))
    assert shown.state().startswith("1 running, ")


def test_time_left_gets_less_until_it_is_unknown(runs, monkeypatch):
    taken = {run.run_id: 60.0 for run in runs}
    shown = started(runs[:2], taken), started(runs[:2], taken, later=runs[3:])
    stage, whole = shown_after(monkeypatch, 30.0, *shown)
    assert stage == "0 running, 0 failed, time left: 90 s"
    assert whole.endswith("time left: 90 s (of the sweep: 4.5 min)")
    stage, whole = shown_after(monkeypatch, 100.0, *shown)
    assert stage.endswith("time left: unknown") and whole.endswith("(of the sweep: 2.8 min)")


def test_of_a_sweep_that_is_started_again_the_rest_of_its_runs_is_left(runs, monkeypatch):
    at_step(runs[0], 6)
    shown = started(runs[:3], {run.run_id: 80.0 for run in runs})
    assert shown_after(monkeypatch, 0.0, shown)[0].endswith("time left: 3.0 min")  # of 240 s
    # The rest of a run is no measure of how long runs take.
    shown.report(ended(runs[0], seconds=20.0))
    assert shown_after(monkeypatch, 0.0, shown)[0].endswith("time left: 2.7 min")
    shown.report(ended(runs[1], seconds=160.0))
    assert shown_after(monkeypatch, 0.0, shown)[0].endswith("time left: 2.7 min")


def test_what_failed_or_diverged_or_others_did_is_no_measure(runs, monkeypatch):
    shown = started(runs[:4])
    shown.report(ended(runs[0], status="failed"))
    shown.report(ended(runs[1], status="diverged"))
    shown.report(ended(runs[2], seconds=0.0))
    assert shown_after(monkeypatch, 0.0, shown) == ["0 running, 1 failed, time left: unknown"]


def test_last_step_is_that_of_the_last_whole_line(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    assert last_step(metrics) is None
    for text, step in (("", None), ('{"st', None), ('{"step": 3}\n', 3), ('{"step": 3}\n{"s', 3)):
        metrics.write_text(text)
        assert last_step(metrics) == step
    for odd in ("null", "[]", '{"step": null}', '{"loss": 1}'):
        metrics.write_text(f'{{"step": 3}}\n{odd}\n')
        assert last_step(metrics) == 3
    metrics.write_text('{"step": 12, "validation_last": 0.5}\n' * 1000)
    assert last_step(metrics) == 12


def test_where_nobody_watches_a_line_comes_now_and_then(runs, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.1)
    monkeypatch.setattr(progress, "TOGETHER", 0.05)
    stream = io.StringIO()
    with started(runs, stream=stream) as shown:
        shown.report(ended(runs[0]))
        deadline = time.monotonic() + 20
        while "runs, " not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    line = stream.getvalue().splitlines()[-1]
    # The two others of the same task take as long; of the other task nothing is known.
    assert line.startswith("tuning: 1 of 6 runs, 0 running, 0 failed, time left: at least ")


def test_on_a_terminal_a_bar_is_drawn_again(runs):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with started(runs, stream=stream) as shown:
        shown.report(ended(runs[0]))
        shown.refresh()
    assert "tuning:  17%|" in stream.getvalue() and "| 1/6 [" in stream.getvalue()
    assert "0 running, 0 failed, time left: at least 4." in stream.getvalue()


def test_an_error_is_one_line_without_what_a_terminal_obeys(runs):
    text = progress.line(Outcome(runs[0], "failed", 2.0, detail="\x1b[31m0.7\nrm\r\x07"))
    assert text.isprintable() and "[31m0.7 rm" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stream_that_fails_ends_nothing(runs, terminal, monkeypatch):
    class Broken(io.StringIO):
        def isatty(self):
            return terminal

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with started(runs, stream=BestEffortStream(Broken())) as shown:
        shown.report(ended(runs[0]))
        shown.report(ended(runs[1], status="failed"))
        shown.refresh()
    assert (shown.done, shown.failed) == (1, 1)


def test_what_was_done_at_the_start_is_not_counted_twice(runs, monkeypatch):
    # By another driver, since the runs were handed to the executor.
    monkeypatch.setattr(plan.PlannedRun, "done", property(lambda run: run is runs[0]))
    with started(runs) as shown:
        for run in runs:
            shown.report(ended(run))
    assert shown.done == shown.total == 6


def test_a_stage_that_is_done_says_nothing(runs):
    stream = io.StringIO()
    with started([], stream=stream):
        pass
    assert stream.getvalue() == ""
