"""A run killed at any moment goes on from its last checkpoint and ends in the same record."""

import json
import random
import shutil
import signal
import time

import pytest
from conftest import QUIET, only_record, stop_at

from runner import config
from runner.errors import Stopped
from runner.run import run
from runner.single_run import SingleRun

# Long enough to be hit in mid-flight; a checkpoint after every step.
LONG = ["train.steps=40", "train.eval_every=10", "checkpoint_seconds=0.0001"]
CASES = [
    ["task=cifar", "opt=dog", "model.batch_norm=train"],
    ["task=movies", "opt=adam"],
    ["task=probe_cifar", "opt=ldog"],
    # f never falls, so that the first evaluation stays the best and comes before the kill.
    ["task=divergence_example", "opt=dog", "train.checkpoint=best"],
]


def wait_for_steps(folder, count, process):
    """Wait until a run has logged so many lines."""
    while process.poll() is None:
        logs = list(folder.glob("*/*/metrics.jsonl"))
        if logs and logs[0].read_text().count("\n") >= count:
            return
        time.sleep(0.005)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_killed_run_ends_in_the_same_record_bit_for_bit(case, command, finish, tmp_path):
    options = [*case, *LONG, "log_every=1"]
    undisturbed = tmp_path / "undisturbed"
    assert finish(*options, f"runs_dir={undisturbed}")[0] == 0

    disturbed = tmp_path / "disturbed"
    kills = 2 if "task=probe_cifar" in case else 1  # the second of a run that has gone on
    while kills:
        process = command(*options, f"runs_dir={disturbed}")
        wait_for_steps(disturbed, random.Random(kills).randrange(5, 30), process)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        kills -= 1
        if list(disturbed.glob("*/*/record.json")):  # the machine was busy and the kill too late
            shutil.rmtree(disturbed)
            kills = 1
    assert finish(*options, f"runs_dir={disturbed}")[0] == 0

    assert only_record(disturbed) == only_record(undisturbed)
    best = only_record(undisturbed)[0]["results"].get("checkpoint_steps", {})
    assert best.get("last") == (10 if "train.checkpoint=best" in case else None)
    (record,) = disturbed.glob("*/*/record.json")
    assert json.loads(record.read_text())["measured"]["sessions"] > 1
    assert not (record.parent / "checkpoint.pt").exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_the_state_and_says_how_to_go_on(signum, command, finish, tmp_path):
    options = ["task=probe_cifar", "train.steps=20000", "checkpoint_seconds=1000"]
    process = command(*options)
    wait_for_steps(tmp_path, 3, process)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert "the same command goes on from there" in errors and "Traceback" not in errors
    (checkpoint,) = tmp_path.glob("*/*/checkpoint.pt")
    assert not list(tmp_path.glob("*/*/record.json"))
    assert checkpoint.stat().st_size > 0


def made_up(tmp_path, *overrides):
    return config.load([*QUIET, f"runs_dir={tmp_path}", *overrides])


def test_resuming_does_not_depend_on_how_batches_are_prepared(tmp_path):
    records = []
    for workers in (0, 1):
        folder = tmp_path / str(workers)
        run(made_up(folder, "task=cifar", f"workers={workers}"))
        records.append(only_record(folder))
    assert records[0] == records[1]


def test_intervals_that_are_not_scientific_leave_the_result_alone(tmp_path):
    results = []
    for i, override in enumerate(["checkpoint_seconds=0.0001", "log_every=1", "eval_batch_size=7"]):
        record = run(made_up(tmp_path / str(i), "task=movies", override)).plain()
        results.append((record["run_id"], record["results"]))
    assert results[0] == results[1] == results[2]


def test_checkpoint_of_other_data_or_weights_is_not_gone_on_from(tmp_path, monkeypatch, caplog):
    words = [*QUIET, "task=movies", "train.steps=6", "log_every=1", f"runs_dir={tmp_path}"]
    loaded = config.load(words)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, 3)
        run(loaded)
    now = {"weights": "me/net@another commit"}
    monkeypatch.setattr(config, "sources_of", lambda _: now)
    record = run(loaded)
    assert record.measured.sessions == 1 and record.sources == now
    assert "is of other data or weights" in caplog.text


def test_checkpoint_of_another_run_is_put_aside(tmp_path, monkeypatch, caplog):
    def asked(folder, *words):
        words = ["task=mnist_scratch", "opt=sgd", "train.steps=20", *QUIET, *words]
        return config.load([*words, f"runs_dir={tmp_path / folder}"])

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, 10)
        run(asked("moved", "opt.lr=1.0"))
    wanted = asked("moved", "opt.lr=0.01", "seed=1")
    (stopped,) = (tmp_path / "moved").glob("*/*")
    stopped.rename(stopped.with_name(wanted.spec.run_id))
    assert run(wanted).results == run(asked("afresh", "opt.lr=0.01", "seed=1")).results
    assert f"is that of another run, {stopped.name}" in caplog.text


def test_record_names_what_differed_between_the_sessions_of_its_run(tmp_path, monkeypatch):
    """Its last bits are those of neither; `make verify` took them for the last session's."""
    words = [*QUIET, "task=movies", "train.steps=6", "log_every=1", f"runs_dir={tmp_path}"]
    for step, threads in ((2, 2), (4, 1), (5, 1)):
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            stop_at(patch, step)
            run(config.load([*words, f"threads={threads}"]))
    record = run(config.load([*words, "threads=1"]))
    assert record.measured.sessions == 4 and record.measured.threads == 1
    assert record.numerics["threads"] == "2, then 1"
    alone = run(config.load([*words, "threads=1", f"runs_dir={tmp_path}/alone"])).numerics
    assert alone == {**record.numerics, "threads": 1}


def test_checkpoint_is_of_the_data_that_were_read_whatever_is_fetched_meanwhile(
    tmp_path, monkeypatch
):
    words = [*QUIET, "task=movies", "train.steps=6", "log_every=1", f"runs_dir={tmp_path}"]
    loaded, now = config.load(words), {"data": "me/data@a commit"}
    log = SingleRun.log

    def fetched_meanwhile(self):
        now["data"] = "me/data@another commit"
        log(self)

    monkeypatch.setattr(config, "sources_of", lambda _: dict(now))
    monkeypatch.setattr(SingleRun, "log", fetched_meanwhile)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, 3)
        run(loaded)
    record = run(loaded)
    assert record.measured.sessions == 1 and record.sources == now
