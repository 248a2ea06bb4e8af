"""Status: read off made-up folders in all states, with nothing written."""

import json
import os
import subprocess
import sys

import pytest
from made_up_records import failure, record, write

from runner.config import ROOT
from runner.record import write_json
from sweeps import status
from sweeps.status import Seen

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
    assert (seen.state, seen.seconds) == (state, 0.0)
    assert status.look_at_all([str(path.parent)])[0].state == state


def test_odd_files_stop_nothing(tmp_path):
    path = write(tmp_path, record(0.5, opt="dog"))
    path.unlink()
    (path.parent / "lock").touch()  # which nobody holds
    assert status.look(str(path.parent)).state == "stopped"
    path.mkdir()
    assert "record.json is damaged" in status.of_folder(tmp_path)


def test_many_records_are_told_by_what_says_that_they_are_done(tmp_path, monkeypatch):
    for seed, state in enumerate(status.DONE):
        made = record(0.5, status=state, opt="dog", seed=seed)
        write_json(write(tmp_path, made), made)
    expected = [status.look(folder).state for folder in status.records.run_folders(tmp_path)]
    assert set(expected) == set(status.DONE)
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
    runs = [Seen("cifar", f"cifar-sgd-{n}", "failed", error="boom") for n in range(7)]
    lines = list(status.failures(runs, tmp_path))  # which have no logs
    assert len(lines) == 6 and lines[-1] == "and 2 more failed"


def test_running_runs_are_one_line_with_the_step_of_the_last():
    runs = [Seen("cifar", f"cifar-sgd-{n}", "running", step=100 + n) for n in range(3)]
    (line,) = status.running(runs, {f"cifar-sgd-{n}": 468 for n in range(3)})
    assert line == "running cifar sgd: 3 runs, the last at step 100/468"


def done(at, seconds):
    return Seen("cifar", "cifar-sgd-0", "finished", at, seconds)


def running(at):
    return Seen("cifar", "cifar-sgd-1", "running", at)


def test_pace_of_runs_that_end_together_counts_from_when_they_began():
    # Two groups of replicas, each 100 s long, one after the other.
    pace = status.pace([*[done(1100, 100)] * 50, *[done(1200, 100)] * 50])
    assert pace == status.Pace(last_hour=100, session=100, session_seconds=200)
    assert pace.seconds_each == 2


def test_pace_is_that_of_the_session_and_of_its_last_hour():
    earlier = [done(1000, 60)]  # a day before the others
    # 3 hours with a run a minute, of a minute each.
    session = [done(90_000 + 60 * n, 60) for n in range(180)]
    pace = status.pace([*earlier, *session])
    assert (pace.last_hour, pace.session, pace.session_seconds) == (60, 180, 180 * 60)
    assert pace.seconds_each == 60


def test_pace_goes_on_while_a_run_trains_as_long_as_the_longest_and_not_for_ever():
    runs = [done(5000, 3000), done(6000, 900)]
    # Heard of 2,000 s after the last end: the session is that old, too.
    assert status.pace([*runs, running(8000)]) == status.Pace(2, 2, 6000)
    # A day later nothing of this session has ended yet.
    assert status.pace([*runs, running(92_400)]) is None
    assert status.pace([running(10)]) is None


def test_records_without_times_tell_no_pace():
    assert status.pace([done(100, 0), done(100, 0)]) is None


def test_clocks_of_other_machines_do_not_matter(tmp_path):
    # Its machine's clock is wrong by years; the file system's says when it ended.
    made = record(0.5, opt="dog")
    made["measured"] |= {
        "started": "1999-01-01T00:00:00+00:00",
        "finished": "1999-01-01T00:05:00+00:00",
    }
    path = write(tmp_path, made)
    os.utime(path, (5000, 5000))
    seen = status.look(str(path.parent))
    assert (seen.at, seen.seconds) == (5000, 300)


def test_time_left_is_by_the_pace_or_else_by_the_price():
    assert "about 20 s for 10 runs" in status.time_left(10, status.Pace(100, 100, 200.0), "")
    assert status.time_left(10, None, "unknown") == "time left: unknown, by the price"
    assert "none" in status.time_left(0, None, "")


def test_a_run_without_a_folder_is_missing(tmp_path):
    assert status.look(str(tmp_path / "cifar" / "cifar-sgd-1")).state == "missing"


def test_record_holds_what_the_status_reads(tmp_path):
    """The invented records have the runner's fields; this is where they would part."""
    measured = json.loads(write(tmp_path, record(0.5)).read_text())["measured"]
    assert {"started", "finished"} <= set(measured)
