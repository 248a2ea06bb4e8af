"""Progress: what is shown of runs that end and of runs that train."""

import io
import time
from dataclasses import replace

import pytest
from conftest import QUIET

from runner.cli import BestEffortStream
from sweeps import plan, progress
from sweeps.progress import Progress, Watch, last_step
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
    with Progress("tuning", runs, stream) as shown:
        shown.tell(Outcome(runs[0], "failed", 1.0, detail="boom"))
        shown.tell(Outcome(runs[1], "failed", 1.0, detail="bang"))
        assert stream.getvalue().count("failed ") == 2
        shown.tell(ended(runs[3], status="diverged"))
        shown.tell(ended(runs[4], status="diverged"))
    assert stream.getvalue().splitlines()[2:] == ["diverged  cifar: 2 runs (4.0 s)"]
    assert (shown.done, shown.failed) == (2, 2)


def test_runs_whose_metrics_grow_are_running(runs):
    at_step(runs[0], 4)  # by a session before this one
    watch = Watch(runs)
    watch.look()
    assert watch.steps == {} and watch.reached() == []
    at_step(runs[0], 6)
    at_step(runs[1], 2)
    at_step(runs[3], 7)
    watch.look()
    assert watch.reached() == ["cifar step 7/8", "probe_cifar step 2/8"]
    watch.tell(ended(runs[1]))
    assert watch.reached() == ["cifar step 7/8", "probe_cifar step 6/8"]


def test_time_left_counts_parts_of_runs(runs):
    at_step(runs[0], 4)
    watch = Watch(runs[:3])  # half a run and two are to do
    assert watch.left(10.0) is None
    at_step(runs[0], 8)
    at_step(runs[1], 4)
    watch.look()
    assert watch.left(10.0) == pytest.approx(15.0)  # one is done of two and a half
    watch.tell(ended(runs[0]))
    watch.tell(ended(runs[1]))
    assert watch.left(15.0) == pytest.approx(10.0)  # one and a half
    watch.tell(ended(runs[2]))
    assert watch.left(20.0) == 0.0


def test_time_left_corrects_the_estimate_as_runs_come_in(runs):
    """A machine that is busy takes ten times what was estimated, for what comes later as well."""
    expected = {run.run_id: seconds for run, seconds in zip(runs, (1.0, 1.0, 8.0), strict=False)}
    watch = Watch(runs[:3], lambda run: expected[run.run_id])
    assert watch.left(0.0, later=20.0) is None
    watch.tell(ended(runs[0]))
    assert watch.left(10.0) == pytest.approx(90.0)
    assert watch.left(10.0, later=20.0) == pytest.approx(290.0)
    at_step(runs[2], 4)
    watch.look()
    assert watch.left(50.0) == pytest.approx(50.0)  # five seconds' worth are done, of ten


def test_time_left_of_the_sweep_is_said_where_there_are_estimates(runs):
    for estimate, said in ((lambda run: 2.0, True), (lambda run: None, False)):
        stream = io.StringIO()
        with Progress("tuning", runs, stream, estimate, later=100.0) as shown:
            shown.tell(ended(runs[0]))
            shown._began -= 10.0
            assert ("of the sweep)" in shown.state()) == said


def test_what_failed_is_no_work_done_and_none_to_do(runs):
    watch = Watch(runs[:4])
    watch.tell(ended(runs[0], status="failed"))
    assert watch.left(10.0) is None
    watch.tell(ended(runs[1]))
    assert watch.left(10.0) == pytest.approx(20.0)  # one of three


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
    monkeypatch.setattr(progress, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(progress, "TOGETHER", 0.05)
    stream = io.StringIO()
    with Progress("tuning", runs, stream) as shown:
        shown.tell(ended(runs[0]))
        at_step(runs[1], 4)
        deadline = time.monotonic() + 20
        while "step 4/8" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    line = stream.getvalue().splitlines()[-1]
    assert line.startswith("tuning: 1 of 6 runs, 1 running, 0 failed, about ")
    assert line.endswith(" left, probe_cifar step 4/8")


def test_on_a_terminal_a_bar_is_drawn_again(runs):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress("reporting", runs, stream) as shown:
        shown.tell(ended(runs[0]))
        shown.refresh()
    assert "reporting:  17%|" in stream.getvalue() and "| 1/6 [" in stream.getvalue()
    assert "0 running, 0 failed, about" in stream.getvalue()


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
    with Progress("tuning", runs, BestEffortStream(Broken())) as shown:
        shown.tell(ended(runs[0]))
        shown.tell(ended(runs[1], status="failed"))
        shown.refresh()
    assert (shown.done, shown.failed) == (1, 1)


def test_what_was_done_at_the_start_is_not_counted_twice(runs, monkeypatch):
    # By another driver, since the runs were handed to the executor.
    monkeypatch.setattr(plan.PlannedRun, "done", property(lambda run: run is runs[0]))
    with Progress("tuning", runs, io.StringIO()) as shown:
        for run in runs:
            shown.tell(ended(run))
    assert shown.done == shown.total == 6


def test_a_stage_that_is_done_says_nothing(runs):
    stream = io.StringIO()
    with Progress("tuning", [], stream):
        pass
    assert stream.getvalue() == ""
