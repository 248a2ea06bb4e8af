"""One run: idempotent, alone on its folder, and honest when something goes wrong."""

import errno
import json
import os
import shutil
import sys

import pytest
import torch
from conftest import LONG_ONLY, QUIET, only_record

from dog import PolynomialDecayAverager
from runner import checkpoint, config, metrics, train
from runner import run as running
from runner.errors import Busy, Crash
from runner.record import RunFolder, write_json
from runner.training_state import TrainingState
from tasks.convex import Probe
from tasks.errors import NotFinite, UserError
from tasks.vision import ImageClassification


@pytest.fixture
def made_up(tmp_path):
    def load(*overrides):
        return config.load([*QUIET, f"runs_dir={tmp_path}", *overrides])

    return load


def folder_of(loaded):
    return RunFolder(loaded.execution.runs, loaded.spec.task.name, loaded.spec.run_id)


def test_record_holds_what_a_reader_needs_to_trust_it(made_up):
    record = running.run(made_up("task=cifar", "opt=sgd", "opt.lr=0.1")).plain()
    assert record["opt_changed"] == {"lr": 0.1} and not record["opt_default"]
    assert record["grid"]["lr"] and record["opt_label"] == "SGD"
    assert record["opt_role"] == "tuned"
    assert set(record["fingerprints"]) == {"train", "validation", "test", "weights"}
    assert len(record["code"]["commit"]) == 40 and record["packages"]["torch"]
    assert record["hardware"]["cpu"] and record["hardware"]["device"] == "cpu"
    assert record["results"]["train_examples"] == 64  # of 96, as config.yaml's synthetic has it
    measured = record["measured"]
    assert measured["seconds"] > measured["train_seconds"] > 0
    assert measured["examples_per_second"] > 0 and measured["peak_memory_bytes"] > 1e6
    for iterate in ("last", "averaged"):
        bits = bytes.fromhex(record["results"]["test_correct"][iterate])
        right = sum(byte.bit_count() for byte in bits)
        assert right / 64 == record["results"]["test"][iterate]


def test_metrics_hold_loss_step_size_and_both_iterates(made_up):
    loaded = made_up("task=cifar", "opt=dog", "log_every=1")
    running.run(loaded)
    lines = [json.loads(line) for line in folder_of(loaded).metrics.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert {"eta", "rbar", "G", "gradient_norm", "distance"} <= set(steps[0])
    (validation,) = [line for line in lines if "validation_last" in line]
    assert validation["step"] == 4 and "validation_averaged" in validation


def test_best_checkpoint_by_validation_is_what_is_tested(made_up):
    # A constant rate that is far too high: the first evaluations are the best.
    words = ["task=probe_cifar", "opt=sgd", "opt.lr=3000", "opt.schedule=constant"]
    words += ["train.steps=12", "train.eval_every=1"]
    loaded = made_up(*words, "train.checkpoint=best")
    results = running.run(loaded).plain()["results"]
    lines = [json.loads(line) for line in folder_of(loaded).metrics.read_text().splitlines()]
    for iterate in ("last", "averaged"):
        key = f"validation_{iterate}"
        scores = {line["step"]: line[key] for line in lines if key in line}
        best = max(scores, key=lambda step: (scores[step], -step))
        assert list(scores) == list(range(1, 13))
        assert results["checkpoint_steps"][iterate] == best
        assert results["validation"][iterate] == scores[best]
    final = running.run(made_up(*words)).plain()["results"]
    assert results["checkpoint_steps"]["last"] < 12 and "checkpoint_steps" not in final
    assert results["validation"]["last"] > final["validation"]["last"]


def test_bad_data_in_a_process_that_prepares_batches_is_one_line(made_up, monkeypatch):
    def damaged(*_):
        raise UserError("image 3 is damaged: give a whole copy")

    monkeypatch.setattr(ImageClassification, "batch", damaged)
    with pytest.raises(UserError) as refusal:
        running.run(made_up("task=cifar", "workers=2"))
    assert str(refusal.value) == "image 3 is damaged: give a whole copy"


def test_finished_run_is_not_repeated(made_up, monkeypatch):
    first = running.run(made_up("task=cifar")).plain()
    monkeypatch.setattr(running, "_train", lambda *_: pytest.fail("trained again"))
    assert (
        running.run(made_up("task=cifar", "device=cpu", "threads=1", "debug=true")).plain() == first
    )


def test_finished_run_answers_at_once_from_the_command_line(finish, tmp_path):
    assert finish("task=probe_cifar")[0] == 0
    before = only_record(tmp_path)
    status, output, _ = finish("task=probe_cifar", "device=cpu")
    assert status == 0 and "accuracy" in output and only_record(tmp_path) == before


def test_second_process_on_a_run_says_so(made_up, finish):
    loaded = made_up("task=probe_cifar")
    folder = folder_of(loaded)
    folder.make()
    with folder.lock:
        with pytest.raises(Busy, match="another process"):
            running.run(loaded)
        status, _, errors = finish("task=probe_cifar")
        assert status == 3 and errors.count("\n") == 1
    assert running.run(loaded).status == "finished"


def test_diverged_run_is_a_result_scored_as_the_majority_class(made_up):
    record = running.run(made_up("task=cifar", "opt=sgd", "opt.lr=1e30", "train.steps=40")).plain()
    assert record["status"] == "diverged" and record["results"]["steps"] < 40
    test = record["results"]["test"]
    assert test["last"] == test["averaged"] == test["majority"]


def strict(path):
    """Read JSON as everyone else does: NaN and Infinity are none."""

    def refuse(constant):
        raise ValueError(constant)

    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [json.loads(line, parse_constant=refuse) for line in lines]


@pytest.mark.parametrize(
    "words",
    [
        ["task=cifar", "opt.lr=1e20"],  # finite weights, whose outputs are not
        ["task=cifar", "opt.lr=1e38"],
        ["task=logistic_wine", "opt.lr=1e200"],
        ["task=movies", "opt.lr=1e30"],
        ["task=stsb", "model=roberta_base", "protocol=paper", "opt.lr=1e30"],
        ["task=squad", "model=roberta_base", "protocol=paper", "opt.lr=1e30"],
    ],
    ids=str,
)
def test_run_that_its_last_step_breaks_has_diverged(made_up, words):
    loaded = made_up(*words, "opt=sgd", "opt.warmup=0", "train.steps=1")
    record = running.run(loaded).plain()
    assert record["status"] == "diverged"
    for split in ("validation", "test"):
        scores = record["results"][split]
        assert scores["last"] == scores["averaged"] == scores["majority"]
    assert strict(folder_of(loaded).record) == [record]
    assert running.run(loaded).plain() == record


@pytest.mark.parametrize("task", ["cola", "stsb", "squad"])
def test_writer_whose_outputs_are_no_numbers_has_no_answer(made_up, task):
    built = running.build_task(made_up(f"task={task}", "model=t5_base", "protocol=paper"))
    network = built.network().eval()
    inputs, _ = built.batch("test", torch.arange(2))
    assert len(built.predict(network, inputs)) == 2
    for p in network.parameters():
        torch.nn.init.constant_(p, float("nan"))
    with pytest.raises(NotFinite):
        built.predict(network, inputs)


def lose(monkeypatch, *lost):
    """Let the losses of these steps be no numbers, in the forward and the backward pass."""
    whole, calls = ImageClassification.loss, []

    def loss(self, outputs, targets):
        calls.append(1)
        return whole(self, outputs, targets) * (float("nan") if len(calls) in lost else 1.0)

    monkeypatch.setattr(ImageClassification, "loss", loss)


def test_loss_that_is_skipped_is_no_divergence_however_often_is_logged(made_up, monkeypatch):
    results = []
    for log_every in (10, 4, 1):
        with monkeypatch.context() as patch:
            lose(patch, 4, 10, 24)  # logged, looked at, and the last
            words = ["task=cifar", "opt=dog", f"log_every={log_every}", "train.steps=24"]
            loaded = made_up(*words, f"runs_dir={folder_of(made_up()).path}/{log_every}")
            record = running.run(loaded).plain()
        assert record["status"] == "finished" and record["results"]["steps"] == 24
        assert record["results"]["train_loss"] is None
        lines = {line["step"]: line for line in strict(folder_of(loaded).metrics)}
        assert lines[24]["loss"] is None
        results.append(record["results"])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("log_every", [7, 10])
def test_loss_that_stays_lost_is_divergence(made_up, monkeypatch, log_every):
    lose(monkeypatch, *range(12, 99))
    words = ["task=cifar", "opt=dog", "train.steps=60", f"log_every={log_every}"]
    record = running.run(made_up(*words)).plain()
    assert record["status"] == "diverged" and record["results"]["train_loss"] is None
    assert record["results"]["steps"] == 30  # not 20, when ten in a row had not been lost


def test_lost_losses_are_counted_across_a_stop(made_up, monkeypatch):
    loaded = made_up("task=cifar", "opt=dog", "train.steps=60", "checkpoint_seconds=0.0001")
    lose(monkeypatch, *range(11, 99))
    save = checkpoint.save

    def killed(path, content):
        save(path, content)
        if content["step"] == 15:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        patch.setattr(train, "SAVING_SHARE", 1e6)  # after every step, whatever it costs
        with pytest.raises(KeyboardInterrupt):
            running.run(loaded)
    record = running.run(loaded).plain()
    assert record["measured"]["sessions"] == 2
    assert record["status"] == "diverged" and record["results"]["steps"] == 20


def test_best_checkpoint_is_what_counts_of_a_run_that_diverges_later(made_up, monkeypatch):
    words = ["task=probe_cifar", "opt=sgd", "train.steps=30", "train.eval_every=5"]
    loaded = made_up(*words, "train.checkpoint=best")
    whole, calls = Probe.loss, []

    def loss(self, outputs, targets):
        calls.append(1)
        return whole(self, outputs, targets) * (float("nan") if len(calls) >= 8 else 1.0)

    monkeypatch.setattr(Probe, "loss", loss)
    record = running.run(loaded).plain()
    results = record["results"]
    assert record["status"] == "diverged" and results["checkpoint_steps"]["last"] == 5
    line = next(line for line in strict(folder_of(loaded).metrics) if "validation_last" in line)
    assert results["validation"]["last"] == line["validation_last"]
    assert results["test"]["last"] != results["test"]["majority"]


def test_score_that_is_no_number_is_never_the_best():
    network = torch.nn.Linear(1, 1)
    averager = PolynomialDecayAverager(network)
    training = TrainingState(network, torch.optim.SGD(network.parameters(), 1.0), averager)
    training.keep_if_best("last", float("nan"))
    assert not training.best
    for step, gain in enumerate([-2.0, float("nan"), -1.0, -1.0]):
        training.step = step
        training.keep_if_best("last", gain)
    assert training.best["last"].step == 2


def test_crash_leaves_a_failure_and_a_log_and_can_be_tried_again(made_up, monkeypatch):
    def fail(self, split, indices, generator=None):
        raise RuntimeError("no such\nbatch")

    loaded = made_up("task=cifar")
    with monkeypatch.context() as patch:
        patch.setattr(ImageClassification, "batch", fail)
        with pytest.raises(Crash, match="RuntimeError: no such batch"):
            running.run(loaded)
    folder = folder_of(loaded)
    failure = json.loads(folder.failure.read_text())
    assert failure["settings"]["task"]["name"] == "cifar" and not folder.record.exists()
    assert "Traceback" in folder.log.read_text()
    assert running.run(loaded).status == "finished"
    assert not folder.failure.exists()


def test_run_for_which_a_gpu_has_too_little_memory_says_what_needs_less(made_up, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ImageClassification, "batch", fail)
    with pytest.raises(Crash, match=r"OutOfMemoryError: CUDA out of memory .*eval_batch_size="):
        running.run(made_up("task=cifar"))


def test_full_disk_is_said_and_a_later_run_recovers(made_up, monkeypatch):
    def no_space(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    loaded = made_up("task=cifar")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "replaced_atomically", no_space)
        with pytest.raises(UserError, match=r"disk .* is full"):
            running.run(loaded)
    folder = folder_of(loaded)
    assert not folder.record.exists() and not folder.failure.exists()
    assert running.run(loaded).status == "finished"


def test_full_disk_is_said_where_not_even_a_crash_can_be_written_down(made_up, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ImageClassification, "batch", lambda *_: 1 / 0)
    monkeypatch.setattr(running, "write_json", no_space)
    with pytest.raises(UserError, match=r"disk .* is full"):
        running.run(made_up("task=cifar"))


@pytest.mark.parametrize("written", [40, 200])
def test_full_disk_amid_a_line_of_metrics_is_said_and_a_later_run_recovers(
    made_up, monkeypatch, written
):
    """A file that takes so many bytes and no more, as the operating system would say it."""
    loaded = made_up("task=cifar", "log_every=1")
    folder = folder_of(loaded)

    class Full:
        def __init__(self, file):
            self.file, self.left = file, written

        def __call__(self, line):
            text = (json.dumps(line) + "\n").encode()
            self.file.write(text[: self.left])
            self.file.flush()
            self.left -= len(text)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "MetricsLog", Full)
        with pytest.raises(UserError, match=r"disk .* is full"):
            running.run(loaded)
    assert folder.metrics.stat().st_size == written and not folder.record.exists()
    assert running.run(loaded).status == "finished"
    assert [json.loads(line) for line in folder.metrics.read_text().splitlines()]


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_damaged_checkpoint_is_put_aside_and_the_run_begins_anew(made_up, caplog, keep):
    loaded = made_up("task=cifar")
    folder = folder_of(loaded)
    folder.make()
    checkpoint.save(folder.checkpoint, {"step": 3})
    whole = folder.checkpoint.read_bytes()
    damaged = whole[: int(len(whole) * keep) if isinstance(keep, float) else keep]
    folder.checkpoint.write_bytes(damaged)
    record = running.run(loaded).plain()
    assert record["status"] == "finished" and record["measured"]["sessions"] == 1
    assert [m for m in caplog.messages if "checkpoint.pt is damaged" in m and "begins anew" in m]
    assert folder.path.joinpath("checkpoint.pt.damaged").read_bytes() == damaged


DAMAGED = [b"", b'{"run_id": "x"', b"[]", b"{}", b"null", bytes(4096), b"\xff\xfe", b'"status"']
WRONG = [{"results": 5}, {"status": "running"}, {"settings": []}, {"run_id": None}]


@pytest.mark.parametrize("content", [*DAMAGED, *WRONG], ids=lambda content: str(content)[:20])
def test_damaged_record_is_put_aside_and_the_run_begins_anew(made_up, caplog, content):
    loaded = made_up("task=probe_cifar")
    folder = folder_of(loaded)
    if isinstance(content, dict):
        content = json.dumps(running.run(loaded).plain() | content).encode()
    folder.make()
    folder.record.write_bytes(content)
    assert folder.read_record() is None and folder.record.read_bytes() == content
    assert running.run(loaded) == folder.read_record()
    assert [m for m in caplog.messages if "record.json is damaged" in m and "begins anew" in m]
    assert folder.path.joinpath("record.json.damaged").read_bytes() == content


def test_damaged_record_costs_one_line_on_the_command_line(finish, made_up):
    loaded = made_up("task=probe_cifar")
    folder = folder_of(loaded)
    folder.make()
    folder.record.write_text("{")
    status, output, errors = finish("task=probe_cifar")
    assert status == 0 and "finished" in output
    assert errors.count("\n") == 1 and "record.json is damaged" in errors


def test_folder_in_place_of_the_checkpoint_is_said_in_one_line(finish, made_up):
    folder = folder_of(made_up("task=probe_cifar"))
    folder.checkpoint.mkdir(parents=True)
    status, _, errors = finish("task=probe_cifar")
    assert status == 2 and not folder.log.exists()
    said = f"error: cannot read {folder.checkpoint} (Is a directory): move it away, and"
    assert errors.startswith(said) and errors.count("\n") == 1


def test_what_killed_writers_left_is_removed_by_the_next_owner(made_up):
    loaded = made_up("task=probe_cifar")
    folder = folder_of(loaded)
    folder.make()
    for name in (".record.json.0a1b2c", ".checkpoint.pt.x_y", ".failure.json.00"):
        (folder.path / name).write_text("half")
    running.run(loaded)
    assert {path.name for path in folder.path.iterdir()} == {"record.json", "metrics.jsonl"}


def test_run_whose_folder_is_removed_stops_before_it_writes(made_up, monkeypatch):
    loaded = made_up("task=cifar", "checkpoint_seconds=0.0001")
    folder = folder_of(loaded)
    whole = ImageClassification.loss

    def loss(self, *arguments):
        shutil.rmtree(folder.path)
        folder.make()
        folder.lock.path.touch()  # of another process that trains it anew
        return whole(self, *arguments)

    monkeypatch.setattr(ImageClassification, "loss", loss)
    with pytest.raises(Busy, match="was removed"):
        running.run(loaded)
    assert [path.name for path in folder.path.iterdir()] == ["lock"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function):
    path = tmp_path / "record.json"
    write_json(path, {"old": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError):
        write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_as_readable_as_any_file(tmp_path):
    (tmp_path / "any").write_text("")
    write_json(tmp_path / "record.json", {})
    assert (tmp_path / "record.json").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_unwritable_folder_is_said(made_up, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot use the folder .*runs_dir="):
        running.run(made_up("task=cifar", f"runs_dir={tmp_path}/file"))


def test_missing_gpu_is_said(made_up, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device=cuda"):
        running.run(made_up("device=cuda"))


def test_absent_wandb_is_an_error_only_where_it_is_wanted(made_up, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        running.run(made_up("task=cifar", "wandb.mode=offline"))
    assert running.run(made_up("task=cifar")).status == "finished"


class FakeRun:
    def __init__(self):
        self.logged, self.summary, self.finished = [], {}, None

    def log(self, numbers, step):
        self.logged.append((step, numbers))

    def finish(self, exit_code=0):
        self.finished = exit_code


@pytest.fixture
def fake_wandb(monkeypatch):
    import wandb

    calls, mirror = {}, FakeRun()
    monkeypatch.setattr(wandb, "init", lambda **arguments: calls.update(arguments) or mirror)
    return calls, mirror


@pytest.mark.parametrize(("opt", "name"), [("dog", "eta"), ("adam", "lr")])
def test_wandb_mirrors_the_run_under_its_id(made_up, fake_wandb, opt, name):
    calls, mirror = fake_wandb
    record = running.run(
        made_up("task=cifar", "wandb.mode=offline", f"opt={opt}", "log_every=4")
    ).plain()
    assert calls["id"] == record["run_id"] and calls["resume"] == "allow"
    assert [step for step, numbers in mirror.logged if name in numbers] == [1, 2, 3, 4, 5, 7, 8]
    assert mirror.summary["test_averaged"] == record["results"]["test"]["averaged"]
    assert mirror.finished == 0


def test_wandb_is_finished_when_the_run_crashes(made_up, fake_wandb, monkeypatch):
    _, mirror = fake_wandb
    monkeypatch.setattr(ImageClassification, "batch", lambda *_: 1 / 0)
    with pytest.raises(Crash):
        running.run(made_up("task=cifar", "wandb.mode=offline"))
    assert mirror.finished == 1


def test_multirun_goes_through_hydra(finish, tmp_path):
    status, output, errors = finish("task=probe_cifar", "-m", "opt=dog,ldog", "seed=0,1")
    assert status == 0, errors
    assert output.count("finished after 8 steps") == 4
    assert len(list(tmp_path.glob("*/*/record.json"))) == 4


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=LONG_ONLY)])
def test_multirun_goes_through_other_launchers(finish, tmp_path, launcher):
    words = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path}/.multirun"]
    # One job, of what imports least: each starts Python anew.
    status, _, errors = finish("task=divergence_example", "-m", *words)
    assert status == 0, errors
    assert len(list(tmp_path.glob("divergence_example/*/record.json"))) == 1


def test_trouble_with_the_step_size_is_in_the_record_and_shown(made_up, fake_wandb):
    _, mirror = fake_wandb
    words = ["task=cifar", "opt=dog", "opt.init_eta=2e3", "wandb.mode=offline"]
    record = running.run(made_up(*words))
    sentences = record.results.trouble
    assert "divide init_eta by 100" in sentences[0]
    assert f"trouble: {sentences[0]}" in running.show(record)
    assert mirror.summary["trouble"] == "; ".join(sentences)
    assert running.run(made_up("task=cifar", "opt=adam")).results.trouble == []
