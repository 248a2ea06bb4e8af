"""wandb mirrors runs; whatever it does, it neither ends a run nor makes it wait for long."""

import os
import subprocess
import sys
import threading

import pytest
from conftest import QUIET, ROOT

from runner import config, tracking
from runner.run import run
from sweeps.replicas import run_together


class FakeRun:
    """A wandb run; `trouble` says which call fails or hangs."""

    def __init__(self, do):
        self.do, self.logged = do, 0
        self.summary = self

    def log(self, numbers, step):
        self.logged += 1
        self.do("log")

    def update(self, summary):
        self.do("summary")

    def finish(self, exit_code):
        self.do("finish")


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """The configuration of a short run that is mirrored offline, unless overrides say otherwise."""
    monkeypatch.setattr(tracking, "_instead", {})
    words = [*QUIET, "task=logistic_wine", "train.steps=8", "wandb.mode=offline"]
    return lambda *overrides: config.load([*words, f"runs_dir={tmp_path}", *overrides])


@pytest.fixture
def fake(monkeypatch):
    """Put a wandb in place that does `trouble` at one call, and return all calls of init."""

    def install(bad_call=None, trouble=None):
        inits = []

        def do(name):
            if name == bad_call:
                trouble()

        def init(**arguments):
            inits.append(arguments)
            do("init")
            return FakeRun(do)

        monkeypatch.setattr("wandb.init", init)
        return inits

    return install


def broken():
    raise BrokenPipeError("Broken pipe")


@pytest.mark.parametrize("call", ["init", "log", "summary", "finish"])
def test_call_to_wandb_that_fails_costs_one_warning(call, made_up, fake, caplog):
    fake(call, broken)
    assert run(made_up()).status == "finished"
    (warning,) = [line for line in caplog.messages if "wandb" in line]
    assert "BrokenPipeError: Broken pipe" in warning and "goes on without it" in warning


@pytest.mark.parametrize("call", ["init", "log", "summary", "finish"])
def test_call_to_wandb_that_hangs_costs_one_warning(call, made_up, fake, caplog, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 0.2)
    for_ever = threading.Event()
    fake(call, for_ever.wait)
    assert run(made_up()).status == "finished"
    warnings = [line for line in caplog.messages if "wandb" in line]
    assert warnings == ["wandb does not answer: the run goes on without it"]
    # And the process has learned from it.
    inits = fake()
    run(made_up("seed=1"))
    assert not inits
    for_ever.set()


def test_wandb_that_fails_leaves_replicas_alone(made_up, fake, caplog):
    fake("log", broken)
    ends = dict(run_together([made_up(f"seed={seed}", "task=probe_cifar") for seed in range(2)]))
    assert {end.status for end in ends.values()} == {"finished"}
    assert len([line for line in caplog.messages if "wandb" in line]) == 2


def test_server_out_of_reach_is_said_and_the_run_is_mirrored_offline(made_up, monkeypatch, caplog):
    import wandb  # here: every worker of pytest imports all files of tests

    modes = []

    def init(mode, settings, **_):
        modes.append(mode)
        if mode == "online":
            assert settings.init_timeout <= 10
            raise wandb.errors.CommError("no such host\nConsider increasing the init_timeout")
        return FakeRun(lambda _: None)

    monkeypatch.setattr("wandb.init", init)
    for seed in range(2):
        assert run(made_up("wandb.mode=online", f"seed={seed}")).status == "finished"
    assert modes == ["online", "offline", "offline"]  # the second does not wait again
    (warning,) = [line for line in caplog.messages if "wandb" in line]
    assert "no such host" in warning and "goes on offline" in warning


def test_environment_says_what_the_configuration_leaves_open(made_up, fake, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "mirror"))
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_MODE", "online")
    inits = fake()
    run(made_up("wandb.mode=null", "seed=0"))
    run(made_up("wandb.mode=offline", "wandb.project=typed", "seed=1"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(made_up("wandb.mode=null", "seed=2"))
    told = [(one["mode"], one["project"], one["dir"]) for one in inits]
    folder = str(tmp_path / "mirror")
    assert told == [("online", "mine", folder), ("offline", "typed", folder)]


def test_runs_are_mirrored_offline_beside_their_records_by_default(made_up, fake, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    inits = fake()
    record = run(made_up("wandb.mode=null")).plain()
    (one,) = inits
    assert (one["mode"], one["project"], one["dir"].name) == (
        "offline",
        "dog-bench",
        record["run_id"],
    )


def test_absent_wandb_that_nobody_asked_for_is_done_without(made_up, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_MODE")
    assert run(made_up("wandb.mode=null")).status == "finished"
    assert run(made_up("wandb.mode=null", "seed=1")).status == "finished"
    assert len([line for line in caplog.messages if "wandb is not installed" in line]) == 1


def test_mirror_of_a_replica_gathers_nothing_that_the_record_tells(made_up, tmp_path):
    """What it would gather takes most of a second a run."""
    assert [end for _, end in run_together([made_up(f"seed={seed}") for seed in range(2)])]
    folders = list(tmp_path.glob("logistic_wine/*/wandb/offline-run-*"))
    assert len(folders) == 2
    for folder in folders:
        assert list(folder.glob("*.wandb"))
        assert not list(folder.glob("files/requirements.txt"))


STOPPED = """
import os, signal, subprocess, sys
from pathlib import Path
from runner import config, tracking
from runner.run import Job
words = ["task=cifar", "task.synthetic=true", "wandb.mode=offline", f"runs_dir={sys.argv[1]}"]
job = Job.of(config.load(words))
job.folder.make()
with tracking.tracker(job) as mirror:
    tracking.PATIENCE = 2.0  # now: on a busy machine wandb needs longer to begin
    children = set()
    # The kernel may leave some out while threads come and go; there are none if wandb was given up.
    while not children and not tracking._instead:
        files = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        children = {int(pid) for file in files for pid in file.read_text().split()}
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    for step in range(3000):
        mirror.log({"step": step, "loss": 1.0})
print("over")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds wandb's process in /proc")
def test_process_of_wandb_that_stands_still_does_not_keep_ours(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("WANDB_SERVICE", None)  # the process of an earlier test, which is no child
    process = subprocess.run(
        [sys.executable, "-c", STOPPED, str(tmp_path)],
        capture_output=True, text=True, timeout=300, env=environment, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (0, "over\n"), process.stderr
    assert "wandb does not answer" in process.stderr
