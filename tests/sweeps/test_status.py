"""Status: read off made-up folders in all states, with nothing written."""

import subprocess
import sys

import pytest
from made_up_records import collected, failure, record, record_of, write

from analysis import records
from runner.config import ROOT
from runner.record import write_json
from sweeps import plan, status
from sweeps.estimate import RuntimeEstimator
from sweeps.status import RunStatus

HOLD = """
import sys
from pathlib import Path
from runner.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """A function that has another process hold a lock until the test ends."""
    held = []

    def start(path):
        words = [sys.executable, "-c", HOLD, str(path)]
        held.append(
            subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert held[-1].stdout.readline() == b"held\n"

    yield start
    for process in held:
        process.communicate()


@pytest.fixture
def tree(tmp_path, hold):
    """A run in each state, and its folder of runs."""
    write(tmp_path, record(0.5, opt="dog"))
    write(tmp_path, record(0.1, opt="sgd", status="diverged"))
    stopped = tmp_path / "cifar" / "cifar-sgd-stopped"
    stopped.mkdir()
    (stopped / "lock").write_text("number 1 on this")  # of a process that is no more
    running = tmp_path / "cifar" / "cifar-sgd_momentum-running"
    running.mkdir()
    (running / "metrics.jsonl").write_text('{"step": 1190}\n{"step": 1200}\n{"step": 12')
    hold(running / "lock")
    failed = write(tmp_path, failure(opt="adam")).parent
    (failed / "log.txt").write_text("Traceback\n  one\n  two\n\nValueError: boom\n")
    (tmp_path / ".multirun").mkdir()  # Hydra's own
    return tmp_path


def test_each_state_is_told_by_task_and_optimizer(tree):
    lines = status.of_folder(tree).splitlines()
    assert lines[0].split() == ["task", "optimizer", *status.STATES]
    counts = {line.split()[1]: list(map(int, line.split()[2:])) for line in lines[1:5]}
    #                 finished, diverged, running, stopped, failed
    assert counts == {
        "adam": [0, 0, 0, 0, 1],
        "dog": [1, 0, 0, 0, 0],
        "sgd": [0, 1, 0, 1, 0],
        "sgd_momentum": [0, 0, 1, 0, 0],
    }
    assert lines[5] == "running cifar sgd_momentum: 1 run at step 1200"
    assert lines[6].startswith("failed  cifar-adam-") and lines[6].endswith(": boom")
    assert lines[7:] == ["      one", "      two", "    ValueError: boom"]


def test_nothing_is_written(tree):
    def files():
        return {path: path.lstat().st_mtime_ns for path in tree.rglob("*")}

    before = files()
    status.of_folder(tree)
    assert files() == before


def test_damaged_record_is_a_failure(tmp_path):
    path = write(tmp_path, record(0.5, opt="dog"))
    path.write_text('{"status": "fini')
    assert status.look(str(path.parent)).state == "failed"
    assert "record.json is damaged" in status.of_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"measured": None}, "failed"),
        ({"measured": {"started": "today", "finished": "3"}}, "finished"),
        ({"measured": {"started": "2025-01-01", "finished": "2025-01-02T00:00Z"}}, "finished"),
        ({"status": None}, "failed"),
        ({"status": "finishing"}, "failed"),
    ],
)
def test_odd_records_are_counted_too(tmp_path, change, state):
    made = record(0.5, opt="dog")
    if measured := change.get("measured"):
        change = {"measured": made["measured"] | measured}
    path = write(tmp_path, made | change)
    seen = status.look(str(path.parent))
    assert seen.state == state
    assert status.look_at_all([str(path.parent)])[0].state == state


def test_odd_files_stop_nothing(tmp_path):
    path = write(tmp_path, record(0.5, opt="dog"))
    path.unlink()
    (path.parent / "lock").touch()  # which nobody holds
    assert status.look(str(path.parent)).state == "stopped"
    path.mkdir()
    assert "record.json is damaged" in status.of_folder(tmp_path)


def test_many_records_are_told_by_what_says_that_they_are_done(tmp_path, monkeypatch):
    for seed, state in enumerate(status.SUCCESSES):
        made = record(0.5, status=state, opt="dog", seed=seed)
        write_json(write(tmp_path, made), made)
    expected = [status.look(folder).state for folder in status.records.run_folders(tmp_path)]
    assert set(expected) == set(status.SUCCESSES)
    monkeypatch.setattr(status, "look", None)
    seen = status.look_at_all(status.records.run_folders(tmp_path))
    assert [one.state for one in seen] == expected


def test_a_run_that_ends_while_it_is_looked_at_is_done(tmp_path, monkeypatch):
    made = record(0.5, opt="dog")
    path = write(tmp_path, made)
    path.unlink()
    monkeypatch.setattr(status, "held", lambda lock: write(tmp_path, made) is None)
    assert status.look(str(path.parent)).state == "finished"


def test_failures_beyond_five_are_counted(tmp_path):
    runs = [RunStatus("cifar", f"cifar-sgd-{n}", "failed", error="boom") for n in range(7)]
    lines = list(status.failures(runs, tmp_path))  # which have no logs
    assert len(lines) == 6 and lines[-1] == "and 2 more failed"


def test_running_runs_are_one_line_with_the_step_of_the_last():
    runs = [RunStatus("cifar", f"cifar-sgd-{n}", "running", step=100 + n) for n in range(3)]
    (line,) = status.running(runs, {f"cifar-sgd-{n}": 468 for n in range(3)})
    assert line == "running cifar sgd: 3 runs, the last at step 100/468"


def test_time_left_is_of_what_is_not_done_by_as_many_as_are_training(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "usable_cores", lambda: 3)
    (tmp_path / "sweep.yaml").write_text(
        "parts: [{tasks: [cifar], optimizers: [sgd], seeds: [0],"
        " grids: {sgd: {lr: [0.1, 0.2, 0.3, 0.4, 0.5]}}}]"
    )
    runs = plan.load(str(tmp_path / "sweep.yaml"), [f"runs_dir={tmp_path}/runs"]).tuning()
    estimator = RuntimeEstimator(collected(tmp_path, record_of(runs[0], 600)), "a cpu")

    def said(*others):
        seen = [RunStatus("cifar", run.run_id, "missing") for run in runs]
        seen[0] = RunStatus("cifar", runs[0].run_id, "finished")
        for place, one in enumerate(others, 1):
            seen[place] = RunStatus("cifar", runs[place].run_id, *one)
        return status.time_left(runs, seen, estimator)

    half, processes = runs[0].steps // 2, ["number 1 on here", "number 2 on here"]
    assert said() == "time left: 13 min for 4 runs, if 3 train at once"
    one_process = [("running", half, processes[0])] * 2
    assert said(*one_process) == "time left: 30 min for 4 runs, 1 at once"
    two = [("running", half, process) for process in processes]
    assert said(*two) == "time left: 15 min for 4 runs, 2 at once"
    assert said(("stopped", half), ("failed",)).startswith("time left: 12 min for 4 runs")
    assert said(*[("diverged",)] * 4) == "time left: none, all is done"
    unknown = RuntimeEstimator(records.empty(), "a cpu")
    seen = [RunStatus("cifar", run.run_id, "missing") for run in runs]
    assert status.time_left(runs, seen, unknown).startswith("time left: unknown for 5 runs")


def test_a_run_without_a_folder_is_missing(tmp_path):
    assert status.look(str(tmp_path / "cifar" / "cifar-sgd-1")).state == "missing"
