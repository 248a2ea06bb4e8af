"""Whole sweeps under faults: nothing that is finished is lost or repeated, nothing half-done read.

What a sweep of replicas comes to undisturbed is the reference of all these tests.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

# For how long processes are killed at random.
KILL_SECONDS = float(os.environ.get("DOG_BENCH_KILL_SECONDS", "20"))

PART = {
    "tasks": ["logistic_wine", "logistic_breast_cancer"],
    "optimizers": ["dog", "sgd"],
    "seeds": [0, 1],
    "overrides": ["protocol=smoke", "train.steps=400"],
    "grids": {"sgd": {"lr": [0.1, 1.0, 1e38]}},  # the last one diverges
}
# A run each by itself, besides the replicas.
SINGLE = {**PART, "tasks": ["logistic_wine"], "optimizers": ["dog"], "grids": {}}
SINGLE["overrides"] = [*PART["overrides"], "task.replicas=false"]
SWEEP = {"parts": [PART, SINGLE]}

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(600 + 10 * KILL_SECONDS)]


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

    def start(self, *words, **environment):
        """Give the sweep's command; return the driver."""
        command = [sys.executable, "scripts/sweep.py", str(self.folder / "sweep.yaml"), "jobs=2"]
        command += ["wandb.mode=disabled", "checkpoint_seconds=0.2", f"runs_dir={self.runs}"]
        driver = subprocess.Popen(
            [*command, *words], cwd=ROOT, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )  # fmt: skip
        self.sessions.append(driver.pid)
        return driver

    def finish(self, *words, **environment):
        """Give the command and wait for its end; return status, output and errors."""
        driver = self.start(*words, **environment)
        output, errors = driver.communicate()
        return driver.returncode, output, errors

    def stop_when(self, condition, signum=signal.SIGTERM):
        """Give the command, and send the driver a signal as soon as it is time."""
        driver = self.start()
        while not condition():
            assert driver.poll() is None, driver.communicate()
            time.sleep(0.01)
        driver.send_signal(signum)
        return driver

    def files(self, name):
        """The files of that name, by run."""
        return {path.parent.name: path for path in sorted(self.runs.glob(f"*/*/{name}"))}

    def look(self):
        """See that no record that was there has been written again."""
        for name, path in self.files("record.json").items():
            facts = path.stat()
            written = facts.st_ino, facts.st_mtime_ns
            assert self.first_seen.setdefault(name, written) == written, f"{name} was trained again"
        assert len(self.files("record.json")) == len(self.first_seen), "a record was lost"

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
        return [pid for pid in self.processes() if b"spawn_main" in command_of(pid)]

    def wait_for_the_end(self):
        """Wait until no process is left."""
        deadline = time.monotonic() + 60
        while self.processes():
            assert time.monotonic() < deadline, "processes are left"
            time.sleep(0.1)


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def content(folder):
    """A run's record and metrics, without what differs between two equal runs; and its losses."""
    record = json.loads((folder / "record.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # A batch's mean loss is summed in another order if the run was trained partly alone.
    losses = [line.pop("loss") for line in lines if "loss" in line]
    losses.append(record["results"].pop("train_loss"))
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
    expected = {"record.json", "metrics.jsonl", "log.txt", "owner"}  # who was killed has its name
    for folder in results.runs.glob("*/*"):
        if folder.parent.name != ".owners":
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
    assert not results.files("owner") and not list(results.runs.glob(".owners/*"))
    return results


def test_sweep_that_is_killed_at_random_moments_ends_as_an_undisturbed_one(
    reference, tmp_path, record_property
):
    chance, kills = random.Random(5), Counter()
    over = time.monotonic() + KILL_SECONDS
    for number in count(1):
        results = Results(tmp_path / str(number))
        while not sweep_under_fire(results, over, chance, kills):
            pass
        results.look()
        assert_equal(results, reference)
        if time.monotonic() > over:
            break
    record_property("kills", dict(kills))
    print(f"{number} sweeps, {sum(kills.values())} kills: {dict(kills)}")
    assert kills


def sweep_under_fire(results, over, chance, kills):
    """Give the command, kill now and then until it is `over`; return whether it came to its end."""
    # A worker may die as often as it likes here: what is asked for is the whole sweep.
    driver = results.start("executor.retries=1000")
    while driver.poll() is None:
        due = time.monotonic() + chance.choice([chance.uniform(0, 2), chance.uniform(2, 12)])
        while driver.poll() is None and time.monotonic() < due:
            results.look()
            time.sleep(0.02)
        if driver.poll() is None and time.monotonic() < over:
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
    assert results.workers()  # the next driver meets them
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
        time.sleep(0.02)
    (first, errors), (second, others) = (driver.communicate() for driver in drivers)
    assert [driver.returncode for driver in drivers] == [0, 0], errors + others
    assert first == second and "instance-tuned" in first
    assert_equal(results, reference)
    for path in results.files("record.json").values():
        assert json.loads(path.read_text())["measured"]["sessions"] == 1
    assert not results.files("owner")


# Give the command in a file system of so many bytes, with more and more of them until it ends well.
FILL = """
set -e
mount -t tmpfs -o size="$1" none "$2"
trap 'umount "$2"' EXIT
size=$1 status=1 number=0
while [ $status != 0 ] && [ $number -lt 12 ]; do
    number=$((number + 1))
    cp "$3/sweep.yaml" "$2" || true
    status=0
    "$4" scripts/sweep.py "$3/sweep.yaml" jobs=2 wandb.mode=disabled \
        checkpoint_seconds=0.2 runs_dir="$2/runs" 2> "$3/errors$number" || status=$?
    mkdir "$3/$number" && cp -a "$2/." "$3/$number"
    echo $status
    size=$((size * 2)) && mount -o remount,size=$size "$2"
done
"""


def test_full_disk_ends_the_sweep_with_one_line_and_more_room_lets_it_go_on(reference, tmp_path):
    disk, copies = tmp_path / "disk", Results(tmp_path / "copies")
    disk.mkdir()
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FILL, "fill"]
    if subprocess.run([*words[:4], "mount", "-t", "tmpfs", "none", disk], check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    done = subprocess.run(
        [*words, str(48 * 1024), disk, copies.folder, sys.executable], cwd=ROOT, text=True,
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    *refused, last = done.stdout.split()
    assert last == "0" and refused, (done.stdout, done.stderr)
    for number, status in enumerate(refused, 1):
        errors = (copies.folder / f"errors{number}").read_text()
        assert status == "2" and "Traceback" not in errors, errors
        assert len([line for line in errors.splitlines() if "is full: free" in line]) == 1, errors
