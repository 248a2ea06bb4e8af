"""records.csv holds every run once, exactly, whichever machine made it."""

import json
import math
import os
import random
import threading
import time
from pathlib import Path

import made_up_records as made_up
import pandas as pd
import pytest

from analysis import records
from runner import identity
from runner.record import write_json
from sweeps import packing
from tasks.errors import UserError


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def pack(runs_dir):
    """Put what is in a folder of runs into the archive beside it."""
    packing.pack("all", map(Path, records.run_folders(runs_dir)), runs_dir.with_name("archive"))


@pytest.fixture
def csv(tmp_path):
    return tmp_path / "records.csv"


def test_one_row_a_run_with_the_declared_columns_and_types(runs, csv):
    made_up.write(runs, made_up.record((0.8, 0.82), (0.79, 0.81), seed=3, changed={"lr": 0.1}))
    made_up.write(runs, made_up.record(0.7, opt="dog"))
    frame = records.collect(runs, csv)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == records.COLUMNS
    row = frame[frame["optimizer"] == "sgd"].iloc[0]
    assert (row.task, row.model, row.protocol, row.seed) == (
        "cifar",
        "efficientnet_lite0",
        "lite",
        3,
    )
    assert (row.validation_last, row.validation_averaged) == (0.8, 0.82)
    assert (row.test_last, row.test_averaged, row.test_examples) == (0.79, 0.81, 2000)
    assert (row.setting, row.learning_rate, row.opt_default) == ("lr=0.1", 0.1, False)
    assert (json.loads(row.overrides), json.loads(row.grid)) == ({"lr": 0.1}, made_up.GRIDS["sgd"])
    assert (row.seconds, row.device, row.gpu, row.code_commit) == (60.0, "cpu", "", "abc")
    assert row.problem_settings == "task.image_size=64; train.train_examples=5000"
    assert row.data_id == made_up.digest("the examples")
    assert row.numerics == "device=cpu; kernel=compiled; threads=2"
    dog = frame[frame["optimizer"] == "dog"].iloc[0]
    assert math.isnan(dog.learning_rate) and dog.c == 1.0 and math.isnan(row.c)
    assert row.replicas == 1  # of a record without


def test_the_archive_gives_the_same_bytes_as_the_runs(runs, csv, tmp_path):
    odd = made_up.record(0.1 + 0.2, 1 / 3, seed=0)
    odd["results"]["train_loss"] = 1e308
    odd["settings"]["model"]["name"] = "None"
    odd["code"] = {"version": "NA", "commit": "1e5", "modified": None}
    odd["hardware"]["cpu"] = 'a "cpu", with\na second line'
    odd["run_id"] = identity.run_id(odd["settings"])
    made_up.write(runs, odd)
    numbers = random.Random(0)
    for seed in range(40):
        some = numbers.random() / 10 ** numbers.randrange(9)
        made_up.write(runs, made_up.record(some, opt="dog", seed=seed, seconds=numbers.random()))
    frame = records.collect(runs, csv)
    written = csv.read_bytes()
    pack(runs)
    clone = records.collect(tmp_path / "none", csv)
    pd.testing.assert_frame_equal(clone, frame, check_exact=True)
    pd.testing.assert_frame_equal(records.of_archive(tmp_path / "archive"), frame, check_exact=True)
    assert csv.read_bytes() == written


def test_the_bytes_depend_on_the_runs_alone_and_are_written_once(tmp_path):
    some = [made_up.record(0.7 + seed / 7, seed=seed) for seed in (2, 0, 1)]
    for name, order in (("a", some), ("b", some[::-1])):
        for record in order:
            made_up.write(tmp_path / name, record)
        records.collect(tmp_path / name, tmp_path / f"{name}.csv")
    first = tmp_path / "a.csv"
    assert first.read_bytes() == (tmp_path / "b.csv").read_bytes()
    written = first.stat()
    records.collect(tmp_path / "a", first)
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == (written.st_mtime_ns, written.st_ino)
    assert not list(tmp_path.glob("*partial*"))


def test_rows_of_other_machines_are_kept_and_local_records_win(tmp_path, csv):
    elsewhere = [made_up.record(0.5, seed=seed) for seed in (0, 1)]
    for record in elsewhere:
        made_up.write(tmp_path / "elsewhere", record)
    pack(tmp_path / "elsewhere")
    made_up.write(tmp_path / "here", made_up.record(0.9, seed=1))
    made_up.write(tmp_path / "here", made_up.record(0.8, seed=2))
    frame = records.collect(tmp_path / "here", csv)
    assert dict(zip(frame["seed"], frame["test_last"], strict=True)) == {0: 0.5, 1: 0.9, 2: 0.8}


def test_a_crash_here_never_hides_a_result_from_elsewhere(tmp_path, csv):
    made_up.write(tmp_path / "elsewhere", made_up.record(0.5, seed=0))
    pack(tmp_path / "elsewhere")
    made_up.write(tmp_path / "here", made_up.failure(seed=0))
    assert records.collect(tmp_path / "here", csv)["status"].tolist() == ["finished"]


def test_the_record_counts_where_a_failure_lies_beside_it(runs, csv):
    made_up.write(runs, made_up.failure(seed=0))
    made_up.write(runs, made_up.record(0.5, seed=0))
    made_up.write(runs, made_up.failure(seed=1))
    (runs / "cifar" / "in-progress").mkdir()
    assert records.collect(runs, csv)["status"].tolist() == ["finished", "failed"]


def test_locks_and_what_is_half_written_are_no_runs(runs, csv, caplog):
    whole = made_up.write(runs, made_up.record(0.5, seed=0))
    (whole.parent / ".record.json.0a1b").write_text('{"run_id"')
    (whole.parent / "record.json.damaged").write_text("{")
    (whole.parent / "lock").touch()
    for folder in (".slurm", ".multirun"):
        (runs / folder / "run").mkdir(parents=True)
        (runs / folder / "run" / "record.json").write_text("{")
    partial = whole.parents[1] / "in-progress"
    partial.mkdir()
    (partial / ".record.json.0a1b").write_text(whole.read_text())
    assert records.collect(runs, csv)["seed"].tolist() == [0]
    assert not caplog.messages


def test_a_record_that_cannot_be_read_is_named_and_skipped(runs, csv, caplog):
    made_up.write(runs, made_up.record(0.5, seed=0))
    path = made_up.write(runs, made_up.record(0.6, seed=1))
    path.unlink()
    path.mkdir()
    assert records.collect(runs, csv)["seed"].tolist() == [0]
    assert len(caplog.messages) == 1 and str(path) in caplog.messages[0]


def test_thousands_are_collected_in_order_and_in_moments(runs, csv):
    number = int(os.environ.get("DOG_BENCH_RECORDS", "2000"))
    for index in range(number):
        task = ("cifar", "movies", "news")[index % 3]
        opt = ("dog", "sgd")[index % 2]
        made_up.write(runs, made_up.record(index / number, seed=index, task=task, opt=opt))
    folders = records.run_folders(runs)
    names = [f"{folder}/record.json" for folder in folders]
    assert [path for path, _ in records.read_files(folders, ("record.json",))] == names
    began = time.process_time()  # another job on this machine must not fail the test
    frame = records.collect(runs, csv)
    assert time.process_time() - began < 10 + number / 2000
    assert sorted(frame["test_last"]) == [index / number for index in range(number)]


def test_those_who_collect_at_once_while_runs_end_lose_nothing(runs, csv):
    made_up.write(runs, made_up.record(0.5, seed=0))
    records.collect(runs, csv)
    stop, failures = threading.Event(), []

    def collect_on_and_on():
        try:
            while not stop.is_set():
                records.collect(runs, csv)
                pd.read_csv(csv)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=collect_on_and_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(1, 40):
        record = made_up.record(0.5, seed=seed)
        folder = runs / "cifar" / record["run_id"]
        folder.mkdir(parents=True)
        write_json(folder / "record.json", record)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert records.collect(runs, csv)["seed"].tolist() == list(range(40))
    assert sorted(path.name for path in csv.parent.iterdir()) == ["records.csv", "runs"]


def break_off(path):
    path.write_text(path.read_text()[:300])


def without_seed(path):
    record = json.loads(path.read_text())
    del record["settings"]["seed"]
    path.write_text(json.dumps(record))


def of_another_schema(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))


def with_score(path, key, score):
    record = json.loads(path.read_text())
    record["results"]["test"][key] = "score"
    path.write_text(json.dumps(record).replace('"score"', score))


def without_score(path):
    with_score(path, "last", "null")


def with_infinite_score(path):
    with_score(path, "averaged", "1e999")  # valid JSON


def with_nan(path):
    record = json.loads(path.read_text())
    record["results"]["train_loss"] = math.nan
    path.write_text(json.dumps(record))


def of_another_run(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_id": "cifar-sgd-0000000000"}))


def of_unknown_status(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))


def a_list(path):
    path.write_text("[]")


def binary(path):
    path.write_bytes(b"\xff\xfe\x00")


DAMAGES = [break_off, without_seed, of_another_schema, without_score, of_unknown_status, a_list]
DAMAGES += [with_infinite_score, with_nan, of_another_run]


@pytest.mark.parametrize("damage", [*DAMAGES, binary])
def test_a_damaged_record_is_named_and_skipped(runs, csv, caplog, damage):
    damaged = made_up.write(runs, made_up.record(0.5, seed=0))
    made_up.write(runs, made_up.record(0.6, seed=1))
    damage(damaged)
    assert records.collect(runs, csv)["seed"].tolist() == [1]
    assert len(caplog.messages) == 1
    assert str(damaged) in caplog.messages[0]


def test_the_warning_says_why(runs, csv, caplog):
    for seed, damage in enumerate((with_nan, with_infinite_score, of_another_run)):
        damage(made_up.write(runs, made_up.record(0.5, seed=seed)))
    made_up.write(runs, made_up.record(0.5, seed=9))
    records.collect(runs, csv)
    text = "\n".join(caplog.messages)
    assert "NaN is not valid JSON" in text and "results.test.averaged: the score is inf" in text
    assert "it is of the run cifar-sgd-0000000000, not of cifar-sgd-" in text


def test_the_number_of_training_examples_is_that_of_those_there(runs, csv):
    made = made_up.record(0.5)
    made["results"]["train_examples"] = 36
    made_up.write(runs, made)
    row = records.collect(runs, csv).iloc[0]
    assert row.train_examples == 36 and "train.train_examples=5000" in row.problem_settings


def test_no_runs_at_all_says_what_to_do(runs, csv):
    with pytest.raises(UserError, match="make demo"):
        records.collect(runs, csv)
    assert not csv.exists()


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD\nrun_id\n", "run_id,status\nsgd-1,b\n"])
def test_the_csv_is_made_from_records_whatever_it_held(runs, csv, caplog, content):
    made_up.write(runs, made_up.record(0.5))
    records.collect(runs, csv)
    whole = csv.read_bytes()
    csv.write_text(content)
    records.collect(runs, csv)
    assert csv.read_bytes() == whole
    assert ("1 runs of" in caplog.text and "sgd-1" in caplog.text) == ("sgd-1" in content)


def test_a_folder_that_cannot_be_written_is_one_clear_line(runs, tmp_path):
    made_up.write(runs, made_up.record(0.5))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        records.write_if_changed(tmp_path / "file" / "records.csv", "text")


@pytest.mark.parametrize(
    ("optimizer", "changed", "grid", "text"),
    [
        ({"lr": 0.01, "weight_decay": 0.0}, {}, {"lr": [0.01]}, "lr=0.01"),
        ({"lr": 1}, {"lr": 1}, {"lr": [1.0]}, "lr=1"),
        ({"lr": 1.0}, {"lr": 1.0}, {"lr": [1.0]}, "lr=1"),
        (
            {"lr": 1e-5, "betas": [0.9, 0.99]},
            {"betas": [0.9, 0.99]},
            {"lr": []},
            "lr=1e-05 betas=[0.9,0.99]",
        ),
        ({"lr": 1.0, "reps_rel": 1e-4}, {}, {}, ""),
        ({"lr": 1.0, "reps_rel": 1e-6}, {"reps_rel": 1e-6}, {}, "reps_rel=1e-06"),
        ({"lr": 0.0031622776601683794}, {}, {"lr": []}, "lr=0.0031622776601683794"),
        ({"lr": 0.1, "nesterov": True}, {"nesterov": True}, {"lr": []}, "lr=0.1 nesterov=true"),
        (
            {"lr": 0.1, "schedule": {"name": "cosine", "warmup": 0.1}},
            {"schedule": {"warmup": 0.1}},
            {"lr": []},
            "lr=0.1 schedule.warmup=0.1",
        ),
    ],
)
def test_the_setting_names_the_grid_and_what_else_was_changed(optimizer, changed, grid, text):
    assert records.setting_text(optimizer, changed, grid) == text


def test_settings_that_differ_without_being_named_have_another_optimizer_id(runs, csv):
    old, new = made_up.record(0.5, seed=0), made_up.record(0.5, seed=1)
    relabelled = made_up.record(0.5, seed=2)
    new["settings"]["opt"]["nesterov"] = True
    relabelled["settings"]["opt"]["label"] = "SGD!"
    for record in (old, new, relabelled):
        made_up.write(runs, record)
    ids = records.collect(runs, csv).set_index("seed")["optimizer_id"]
    assert ids[0] == ids[2] != ids[1]


def test_a_new_setting_that_is_null_leaves_the_optimizer_what_it_was(runs, csv):
    """As it leaves runs their ids: else tables would drop the older of a row's runs."""
    old, new = made_up.record(0.5, seed=0), made_up.record(0.5, seed=1)
    new["settings"]["opt"]["s_init"] = None
    for record in (old, new):
        made_up.write(runs, record)
    ids = records.collect(runs, csv).set_index("seed")["optimizer_id"]
    assert ids[0] == ids[1]
