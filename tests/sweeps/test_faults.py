"""Whole sweeps under faults: nothing that is finished is lost or repeated, nothing half-done read.

What a sweep of replicas comes to undisturbed is the reference of all these tests.
"""

import errno
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
import warm
from conftest import LONG
from omegaconf import OmegaConf

from runner.lock import RunLock
from sweeps import cost, plan, status
from sweeps.worker import work

# For how long processes are killed at random.
KILL_SECONDS = 60 if LONG else 5
FEWEST_KILLS = 3

PART = {
    "tasks": ["logistic_wine", "logistic_breast_cancer"],
    "optimizers": ["dog", "sgd"],
    "seeds": [0, 1],
    "overrides": ["protocol=smoke", "train.steps=100"],
    "grids": {"sgd": {"lr": [0.1, 1.0, 1e38]}},  # the last one diverges
}
# Of this problem there is one run in each stage, which trains alone.
SINGLE = {**PART, "tasks": ["logistic_wine"], "optimizers": ["dog"], "seeds": [0], "grids": {}}
SINGLE["overrides"] = [*PART["overrides"], "train.batch_size=16"]
SWEEP = {"parts": [PART, SINGLE]}
# The sweep's command, without figures: to draw them takes longer than to train.
COMMAND = """
import runpy, sys
from analysis import figures
figures.write_figures = lambda *_: {}
sys.argv[0] = "scripts/sweep.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
WORDS = ["jobs=2", "wandb.mode=disabled", "checkpoint_seconds=0.05"]

pytestmark = pytest.mark.timeout(600 + 10 * KILL_SECONDS)


class Results:
    """A folder of results, and the sweep that fills it."""

    def __init__(self, folder, sweep=SWEEP):
        self.folder, self.runs = folder, folder / "runs"
        self.sessions = []  # of processes: each driver begins one
        self.first_seen = {}
        self.write(sweep)

    def write(self, sweep):
        """Write the sweep's yaml, anew if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(sweep), self.folder / "sweep.yaml")

    def start(self, *words):
        """Give the sweep's command; return the driver."""
        command = ["-c", COMMAND, self.folder / "sweep.yaml", *WORDS, f"runs_dir={self.runs}"]
        driver = warm.Process([*command, *words], start_new_session=True)
        self.sessions.append(driver.pid)
        return driver

    def finish(self, *words):
        """Give the command and wait for its end; return status, output and errors."""
        driver = self.start(*words)
        output, errors = driver.communicate()
        return driver.returncode, output, errors

    def stop_when(self, condition, signum=signal.SIGTERM):
        """Give the command, and send the driver a signal as soon as it is time."""
        driver = self.start()
        while driver.poll() is None and not condition():
            time.sleep(0.01)
        driver.send_signal(signum)
        return driver

    def files(self, name):
        """The files of that name, by run."""
        return {path.parent.name: path for path in sorted(self.runs.glob(f"*/*/{name}"))}

    def written(self):
        """How many bytes of metrics there are."""
        return sum(path.stat().st_size for path in self.files("metrics.jsonl").values())

    def look(self):
        """See that no record that was there is gone, or has been written again."""
        found = self.files("record.json")
        assert found.keys() >= self.first_seen.keys(), "a record was lost"
        for name, path in found.items():
            facts = path.stat()
            written = facts.st_ino, facts.st_mtime_ns
            assert self.first_seen.setdefault(name, written) == written, f"{name} was trained again"

    def processes(self):
        """The processes of all these sweeps that are there still."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) in self.sessions and state != "Z":
                    found.append(int(stat.parent.name))
        return found

    def workers(self):
        """Those of them that train."""
        return [pid for pid in self.processes() if warm.is_worker(pid)]

    def wait_for_the_end(self):
        """Wait until no process is left."""
        deadline = time.monotonic() + 60
        while self.processes():
            assert time.monotonic() < deadline, "processes are left"
            time.sleep(0.1)


def content(folder):
    """A run's record and metrics, without what differs between two equal runs; and its losses."""
    record = json.loads((folder / "record.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # A batch's mean loss is summed in another order if the run was trained partly alone.
    losses = [line.pop("loss") for line in lines if "loss" in line]
    losses.append(record["results"].pop("train_loss"))
    losses = [math.nan if loss is None else loss for loss in losses]  # JSON knows no nan
    for name in ("measured", "code"):
        record.pop(name)
    return record, lines, losses


def assert_equal(results, reference, names=None):
    """All runs, or those named, have the reference's records and nothing else is left of them."""
    its = reference.files("record.json")
    ours = results.files("record.json")
    assert sorted(ours) == sorted(names or its)
    for name in ours:
        record, lines, losses = content(ours[name].parent)
        its_record, its_lines, its_losses = content(its[name].parent)
        assert record == its_record and lines == its_lines, name
        assert losses == pytest.approx(its_losses, rel=1e-6, nan_ok=True), name
    assert_tidy(results)


def assert_tidy(results):
    """Nothing half-done is left: no checkpoints, no partial files, no failures, no processes."""
    results.wait_for_the_end()
    expected = {"record.json", "metrics.jsonl", "log.txt", "lock"}  # of who was killed
    for folder in results.runs.glob("*/*"):
        left = {path.name for path in folder.iterdir()} - expected
        assert not {name for name in left if not name.endswith(".damaged")}, folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The sweep, undisturbed."""
    results = Results(tmp_path_factory.mktemp("reference"))
    status, output, errors = results.finish()
    assert status == 0, errors
    assert output.count("instance-tuned") and len(results.files("record.json")) >= 17
    assert_tidy(results)
    assert not results.files("lock")
    return results


def test_sweep_that_is_killed_at_random_moments_ends_as_an_undisturbed_one(reference, tmp_path):
    chance, kills = random.Random(5), Counter()
    over = time.monotonic() + KILL_SECONDS
    for number in count(1):
        results = Results(tmp_path / str(number))
        while not sweep_under_fire(results, over, chance, kills):
            pass
        results.look()
        assert_equal(results, reference)
        if time.monotonic() > over and kills.total() >= FEWEST_KILLS:
            break
    print(f"{number} sweeps, {kills.total()} kills: {dict(kills)}")


def sweep_under_fire(results, over, chance, kills):
    """Give the command, kill now and then until it is `over`; return whether it came to its end."""
    # A worker may die as often as it likes here: what is asked for is the whole sweep.
    driver = results.start("executor.retries=1000")
    while driver.poll() is None:
        # Some moments come by the clock, others by progress, however slow the machine is.
        moment = time.monotonic() + chance.uniform(0, 3)
        size = results.written() + chance.choice([0, chance.randrange(20_000)])
        while driver.poll() is None and (time.monotonic() < moment or results.written() < size):
            results.look()
            time.sleep(0.05)
        if driver.poll() is None and (time.monotonic() < over or kills.total() < FEWEST_KILLS):
            strike(driver, results, chance, kills)
    _, errors = driver.communicate()
    assert driver.returncode in (0, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT), errors
    return driver.returncode == 0


def strike(driver, results, chance, kills):
    """Kill one of the sweep's processes, or all."""
    workers = results.workers()
    victims = ["driver", "driver", "all", *("worker" for _ in workers)]
    victim = chance.choice(victims)
    signum = signal.SIGKILL
    if victim == "driver":
        signum = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    elif victim == "worker":
        signum = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    pids = {"driver": [driver.pid], "all": results.processes()}.get(victim)
    for pid in pids or [chance.choice(workers)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
    kills[f"{victim} {signum.name}"] += 1


def test_driver_that_is_killed_is_succeeded_at_once(reference, tmp_path):
    results = Results(tmp_path)
    driver = results.stop_when(lambda: results.files("checkpoint.pt"), signal.SIGKILL)
    driver.communicate()
    results.look()
    status, _, errors = results.finish()
    assert status == 0, errors
    results.look()
    assert_equal(results, reference)


def test_two_drivers_at_once_train_each_run_once_and_print_the_same(reference, tmp_path):
    results = Results(tmp_path)
    drivers = [results.start() for _ in range(2)]
    while any(driver.poll() is None for driver in drivers):
        results.look()
        time.sleep(0.1)
    (first, errors), (second, others) = (driver.communicate() for driver in drivers)
    assert [driver.returncode for driver in drivers] == [0, 0], errors + others
    assert first == second and "instance-tuned" in first
    assert_equal(results, reference)
    for record in results.files("record.json").values():
        assert sessions(record) == 1
    assert not results.files("lock")


# Give the command in a file system of so many bytes, with more and more of them until it ends well.
FILL = """
import ctypes, os, shutil, subprocess, sys
from pathlib import Path
import warm
size, disk, copies, command = int(sys.argv[1]), *map(Path, sys.argv[2:4]), sys.argv[4]
ids = {"setgroups": "deny", "uid_map": f"0 {os.getuid()} 1", "gid_map": f"0 {os.getgid()} 1"}
assert ctypes.CDLL(None).unshare(0x10000000 | 0x20000) == 0  # users and mounts of its own
for name, content in ids.items():
    Path(f"/proc/self/{name}").write_text(content)
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
for number in range(1, 7):
    shutil.copy(copies / "sweep.yaml", disk)
    driver = os.fork()
    if not driver:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(copies / f"errors{number}", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv[1:] = [copies / "sweep.yaml", *sys.argv[5:], f"runs_dir={disk}/runs"]
        sys.argv = list(map(str, sys.argv))
        warm._run_and_exit(lambda: exec(command, {"__name__": "__main__"}))
    status = os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1])
    shutil.copytree(disk, copies / str(number), symlinks=True)
    print(status, flush=True)
    if not status:
        break
    size *= 4
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
"""


def test_full_disk_ends_the_sweep_with_one_line_and_more_room_lets_it_go_on(reference, tmp_path):
    disk, copies = tmp_path / "disk", Results(tmp_path / "copies")
    disk.mkdir()
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "mount", "-t", "tmpfs", "none", disk], check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    done = warm.run(["-c", FILL, 100 * 1024, disk, copies.folder, COMMAND, *WORDS])
    *refused, last = done.stdout.split()
    assert last == "0" and refused, (done.stdout, done.stderr)
    for number, ended in enumerate(refused, 1):
        errors = (copies.folder / f"errors{number}").read_text()
        assert ended == "2" and "Traceback" not in errors, errors
        (error,) = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert "free some space" in error
    stages = [Results(copies.folder / str(number + 1)) for number in range(len(refused) + 1)]
    assert_equal(stages[-1], reference)
    its = stages[-1].files("record.json")
    for stage in stages:
        for name, path in stage.files("record.json").items():
            assert path.read_bytes() == its[name].read_bytes()  # not trained again


def replicas(folder):
    """A group of the sweep, to be trained in this process."""
    results = Results(folder)
    words = ["wandb.mode=disabled", "progress=false", "checkpoint_seconds=0.05"]
    planned = plan.load(f"{folder}/sweep.yaml", [*words, f"runs_dir={results.runs}"]).tuning()
    return results, tuple(run for run in planned if run.problem_id == planned[0].problem_id)


@pytest.mark.parametrize("room", [0, 1, 9, "no log"])
def test_every_run_of_a_group_tells_of_a_full_disk(reference, tmp_path, monkeypatch, room):
    results, group = replicas(tmp_path)
    calls, whole = count(), Path.open

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fsync(_):
        return next(calls) < room or no_space()

    def opened(path, *arguments, **options):
        return no_space() if path.name == "log.txt" else whole(path, *arguments, **options)

    with monkeypatch.context() as patch:
        if room == "no log":
            patch.setattr(Path, "open", opened)
        else:
            patch.setattr(os, "fsync", fsync)
        outcomes = work(group, 1)
    assert sorted(outcome.run.run_id for outcome in outcomes) == sorted(r.run_id for r in group)
    assert {outcome.status for outcome in outcomes} == {"full"}
    assert all("is full: free some space" in outcome.detail for outcome in outcomes)
    assert not results.files("record.json") and not list(tmp_path.glob("runs/*/*/.*"))
    assert {outcome.status for outcome in work(group, 1)} == {"finished", "diverged"}
    assert_equal(results, reference, [run.run_id for run in group])


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """A sweep that was stopped: what tunes has its records, what is reported is on its way."""
    while True:  # until the signal comes in time
        results = Results(tmp_path_factory.mktemp("half"))
        driver = results.stop_when(
            lambda here=results: len(here.files("record.json")) >= 9 and here.files("checkpoint.pt")
        )
        _, errors = driver.communicate()
        assert driver.returncode in (0, 130), errors
        results.wait_for_the_end()
        results.look()
        if len(results.files("checkpoint.pt")) > 1:
            break
    # Some that were killed hold locks; this one always, whenever the signals came.
    begun, *_ = results.files("checkpoint.pt").values()
    begun.with_name("lock").write_text("number 1 on elsewhere")
    return results


def copied(results, folder):
    """The same half of a sweep, to go on with."""
    shutil.copytree(results.folder, folder, dirs_exist_ok=True)
    copy = Results(folder)
    copy.look()
    return copy


def test_damaged_files_of_odd_times_cost_a_line_each_and_the_sweep_goes_on(
    reference, half_done, tmp_path
):
    results = copied(half_done, tmp_path)
    shutil.rmtree(results.runs.parent / "archive", ignore_errors=True)  # it would answer for them
    damages = [lambda whole: whole[:-100], lambda _: b"", lambda whole: bytes(len(whole)), flipped]
    damaged = []
    for name in ("record.json", "checkpoint.pt"):
        paths = list(results.files(name).values())
        # Of those that train together and of the one that does not.
        for path, damage in zip(paths[::2], damages * len(paths), strict=False):
            path.write_bytes(damage(path.read_bytes()))
            damaged.append(path)
            results.first_seen.pop(path.parent.name, None)
    ahead = list(results.files("checkpoint.pt").values())[1]
    os.truncate(ahead.with_name("metrics.jsonl"), 100)
    hours = random.Random(1)
    for path in [*results.runs.glob("*/*/*"), *results.runs.glob("*/*")]:
        moment = time.time() + 3600 * hours.choice([-5, 5])
        os.utime(path, (moment, moment), follow_symlinks=False)
    ended, _, errors = results.finish()
    assert ended == 0 and "Traceback" not in errors, errors
    for path in damaged:
        (line,) = complaints(path)
        assert f"{path.name} is damaged" in line
        assert path.with_name(f"{path.name}.damaged").exists()
    (line,) = complaints(ahead)
    assert "checkpoint.pt goes further than metrics.jsonl does" in line
    assert_equal(results, reference)


def complaints(path):
    """What the log beside a file says, but for where a run goes on."""
    lines = path.with_name("log.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("going on from step")]


def flipped(whole):
    """One byte in the middle is another."""
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]


@pytest.mark.parametrize("hours", [-5, 5])
def test_status_of_files_from_hours_ahead_or_behind_has_no_negative_times(
    half_done, tmp_path, hours
):
    results = copied(half_done, tmp_path)
    moment = time.time() + 3600 * hours
    for number, path in enumerate(sorted(results.runs.glob("*/*/*"))):
        if number % 2:
            os.utime(path, (moment, moment), follow_symlinks=False)
    going_on = next(iter(results.files("checkpoint.pt").values())).parent
    sweep = plan.load(f"{tmp_path}/sweep.yaml", [f"runs_dir={results.runs}"])
    stages = {"tuning": sweep.tuning(), "reporting": sweep.reporting({})}
    with RunLock(going_on / "lock"):
        texts = [status.of_folder(results.runs)]
        estimator = cost.runtime_estimator(sweep, cost.known(results.runs), "a cpu")
        texts.append(status.of_plan(stages, results.runs, estimator))
    for text in texts:
        assert "running" in text and not re.search(r"(?<![\d.e])-\d", text), text


def test_sweep_that_is_edited_half_way_trains_only_what_is_new(reference, half_done, tmp_path):
    results = copied(half_done, tmp_path)
    begun = set(results.files("checkpoint.pt"))
    grids = {"sgd": {"lr": [1.0, 3.0, 1e38]}, "adam": {"lr": [0.01]}}
    new = {"optimizers": ["dog", "sgd", "adam"], "seeds": [1, 2], "grids": grids}
    results.write({"parts": [{**PART, **new}]})
    ended, output, errors = results.finish()
    assert ended == 0, errors
    results.look()  # what was finished was not trained again
    assert "| Adam " in output
    sweep = plan.load(f"{tmp_path}/sweep.yaml", [f"runs_dir={results.runs}"])
    names = {run.run_id for run in [*sweep.tuning(), *sweep.reporting({})]}
    ours, its = results.files("record.json"), reference.files("record.json")
    assert names <= set(ours)
    # The seed that is gone, and the run by itself: begun, and left as they were.
    assert set(results.files("checkpoint.pt")) == begun - set(ours) != set()
    shared = set(ours) & set(its)
    went_on = [name for name in shared if sessions(ours[name]) == 2]
    assert went_on and set(went_on) <= begun
    for name in shared:
        assert content(ours[name].parent)[:2] == content(its[name].parent)[:2]


def sessions(record):
    """How often a run was started."""
    return json.loads(record.read_text())["measured"]["sessions"]
