"""The archive: whole records in a few committed files, from which any clone goes on."""

import gzip
import json
import random
import shutil
from pathlib import Path

import made_up_records as made_up
import pandas as pd
import pytest
from omegaconf import OmegaConf

from analysis import curves, records
from runner import SCHEMA, config
from runner import run as running
from runner.archive import Archive, archive_beside, open_archive
from runner.identity import run_id
from runner.record import RunFolder
from runner.run_record import RunRecord
from scripts import merge as merge_script
from scripts import verify as verify_script
from sweeps import cost, cost_text, packing, plan, status
from sweeps import verify as verifying
from sweeps.packing import merge, pack, write_archive
from sweeps.verify import Verdict, compared, composed, spread, verify
from sweeps.worker import work
from tasks.errors import UserError

# Small, real and without data: an archive takes no made-up problem.
PART = {
    "tasks": ["divergence_example"],
    "optimizers": ["dog", "sgd"],
    "seeds": [0, 1],
    "overrides": ["protocol=smoke", "train.steps=30", "task.dimension=50"],
    "grids": {"sgd": {"lr": [0.01, 0.1]}},
}
WORDS = ["wandb.mode=disabled", "progress=false"]


def some(*seeds, **choices):
    return [RunRecord.of(made_up.record(0.5 + seed / 7, seed=seed, **choices)) for seed in seeds]


def folders(runs_dir):
    return map(Path, records.run_folders(runs_dir))


def with_lines(path, *lines):
    """Add lines to an archive's file."""
    content = gzip.decompress(path.read_bytes()) if path.exists() else b""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content + b"".join(line + b"\n" for line in lines)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a small sweep was run and packed; its yaml is beside the runs."""
    folder = tmp_path_factory.mktemp("sweep")
    OmegaConf.save(OmegaConf.create({"parts": [PART]}), folder / "small.yaml")
    sweep = load(folder, folder)
    tuning = sweep.tuning()
    assert [outcome.status for outcome in work(tuple(tuning), 1)] == ["finished"] * 3
    reporting = sweep.reporting(chosen(sweep, folder))
    work(tuple(reporting), 1)
    runs = [run.folder.path for run in (*tuning, *reporting)]
    pack("small", runs, folder / "archive")
    return folder


def load(folder, where):
    return plan.load(str(folder / "small.yaml"), [*WORDS, f"runs_dir={where}/runs"])


def chosen(sweep, where):
    return cost.chosen(sweep, cost.known(where / "runs"))


@pytest.fixture
def clone(trained, tmp_path):
    """What a fresh clone has: the archive, and no runs."""
    shutil.copytree(trained / "archive", tmp_path / "archive")
    return tmp_path


def test_a_fresh_clone_has_nothing_to_do(trained, clone):
    sweep = load(trained, clone)
    runs = [*sweep.tuning(), *sweep.reporting(chosen(sweep, clone))]
    assert len(runs) >= 7 and all(run.done for run in runs)
    choices = chosen(sweep, clone)
    frame = cost.known(clone / "runs")
    expected = cost.estimate_cost(sweep, choices, frame, "a cpu", slots=1)
    assert (expected.to_do, expected.archived) == (0, len(runs))
    assert f"archived: {len(runs)} of the runs done" in cost_text.short(expected)
    own = cost.estimate_cost(load(trained, trained), choices, frame, "a cpu", slots=1)
    assert own.archived == 0 and "archived" not in cost_text.short(own)
    assert [outcome.status for outcome in work(tuple(runs), 1)] == ["finished"] * len(runs)
    estimator = cost.runtime_estimator(sweep, frame, "a cpu")
    shown = status.of_plan({"tuning": sweep.tuning()}, clone / "runs", estimator)
    assert "tuning: 3 of 3 runs done" in shown and "time left: none" in shown
    assert not list(clone.glob("runs/*/*/record.json"))


def test_status_of_a_folder_counts_archived_runs_once(trained, clone):
    whole = status.of_folder(trained / "runs")
    assert status.of_folder(clone / "runs") == whole
    (counts,) = [line.split() for line in whole.splitlines() if " dog " in line]
    assert counts == ["divergence_example", "dog", "3", "0", "0", "0", "0"]


def test_tables_of_a_clone_are_made_from_the_same_frame(trained, clone):
    frames = []
    for folder in (trained, clone):
        frame = records.collect(folder / "runs", folder / "records.csv")
        frames.append(frame)
        curves.collect(folder / "runs", folder / "curves.csv", frame)
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    for name in ("records.csv", "curves.csv"):
        assert (trained / name).read_bytes() == (clone / name).read_bytes()
    assert set(pd.read_csv(clone / "curves.csv")["run_id"].str.split("-").str[1]) == {"dog"}


def test_an_archived_run_is_answered_and_not_trained(trained, clone, monkeypatch, caplog):
    run = load(trained, clone).tuning()[0]
    monkeypatch.setattr(running, "_train", None)
    with caplog.at_level("INFO"):
        record = running.run(run.config)
    assert f"stored in {archive_beside(clone / 'runs')}; to train it again" in caplog.text
    assert record == open_archive(archive_beside(trained / "runs")).get(run.run_id)
    assert f"{run.run_id}: finished after 30 steps" in running.show(record)
    assert not run.folder.path.exists()


def test_an_archived_run_of_other_sources_is_not_the_answer(tmp_path):
    for name, score, source in (("a", 0.5, "sha256 old"), ("b", 0.6, "sha256 new")):
        made = made_up.record(score) | {"sources": {"data": source}}
        write_archive(tmp_path / "archive" / f"{name}.jsonl.gz", [RunRecord.of(made)])

    def answer(source):
        sources = {"data": source}
        task = made["settings"]["task"]["name"]
        record = RunFolder(tmp_path / "runs", task, made["run_id"], sources).result()
        return record and record.results.test.last

    assert (answer("sha256 old"), answer(None), answer("sha256 newest")) == (0.5, 0.5, None)
    assert answer("sha256 new") == 0.6  # whatever an earlier file has


def test_a_record_comes_back_whole(tmp_path):
    made = made_up.record(1 / 3, 0.1 + 0.2, seed=3) | {"a_newer_key": [1, None]}
    made["results"] |= {"train_loss": None, "test_correct": {"last": "ff00"}, "facts": {"x": None}}
    folder = made_up.write_with_curve(tmp_path / "runs", made, {1: 0.1, 2: 0.2})
    pack("all", [folder.parent / folder.name], tmp_path / "archive")
    (record,) = Archive(tmp_path / "archive")
    curve = record.plain().pop("curve")
    assert {k: v for k, v in record.plain().items() if k != "curve"} == made
    assert curve == curves.thinned((folder / "metrics.jsonl").read_bytes())
    assert [line["step"] for line in curve] == [1, 1, 2] and curve[2]["eta"] == 0.2


def test_the_bytes_depend_on_the_records_alone(tmp_path):
    made = some(*range(20))
    write_archive(tmp_path / "a.jsonl.gz", made)
    random.Random(0).shuffle(made)
    write_archive(tmp_path / "b.jsonl.gz", made)
    first = (tmp_path / "a.jsonl.gz").read_bytes()
    assert first == (tmp_path / "b.jsonl.gz").read_bytes()
    lines = gzip.decompress(first).splitlines()
    assert lines == sorted(lines) and len(lines) == 20
    assert not write_archive(tmp_path / "a.jsonl.gz", made)  # nothing is new
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl.gz", "b.jsonl.gz"]


def test_a_curve_is_about_a_hundred_lines_that_give_the_same_figures():
    steps = [1, 2, 3, 5, 7, *range(10, 20_001, 10)]
    lines = [{"step": step, "loss": 1 / step, "eta": step / 3, "rbar": 0.1} for step in steps]
    lines += [{"step": step, "validation_last": 0.5} for step in range(100, 20_001, 100)]
    lines.sort(key=lambda line: line["step"])
    metrics = "".join(json.dumps(line) + "\n" for line in lines).encode()
    thin = curves.thinned(metrics)
    assert 80 < len(thin) <= 100 and {thin[0]["step"], thin[-1]["step"]} == {1, 20_000}
    assert list(curves._of_archive(thin)) == list(curves._of_metrics(metrics))


def test_packing_again_replaces_what_is_made_anew_and_keeps_the_rest(tmp_path):
    archive = tmp_path / "archive"
    write_archive(archive / "all.jsonl.gz", some(0, 1))
    again = made_up.record(0.9, seed=1)
    folder = made_up.write(tmp_path / "runs", again).parent
    unfinished = made_up.write(tmp_path / "runs", made_up.failure(seed=2)).parent
    synthetic = made_up.record(0.9, seed=3)
    synthetic["settings"]["task"]["synthetic"] = True
    synthetic["run_id"] = run_id(synthetic["settings"])
    made = made_up.write(tmp_path / "runs", synthetic).parent
    pack("all", [folder, unfinished, made], archive)
    scores = {record.settings["seed"]: record.results.test.last for record in Archive(archive)}
    assert scores == {0: 0.5, 1: 0.9}
    # A run is in one file: another sweep that has it, too, leaves it where it is.
    assert pack("other", [folder], archive) == []
    assert [path.name for path in archive.iterdir()] == ["all.jsonl.gz"]


BAD_LINES = {
    "Unterminated string": b'{"run_id": "half',
    "is not valid JSON": json.dumps(made_up.record(0.5) | {"x": float("nan")}).encode(),
    f"has schema 1 and not {SCHEMA}": json.dumps(made_up.record(0.5) | {"schema": 1}).encode(),
    "its settings are those of": json.dumps(
        made_up.record(0.5) | {"run_id": "cifar-sgd-0000000000"}
    ).encode(),
    "the record: ": b"[]",
    "results.validation.last": json.dumps(made_up.record(0.5)).replace("0.5", "null").encode(),
    "line 1 column 42": b'{"run_id":"cifar-sgd-0123456789","code": ',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_line_that_cannot_be_used_is_named_and_left_out(tmp_path, caplog, reason):
    path = tmp_path / "all.jsonl.gz"
    write_archive(path, some(1, 2))
    with_lines(path, BAD_LINES[reason])
    assert [record.settings["seed"] for record in Archive(tmp_path)] in ([1, 2], [2, 1])
    (message,) = caplog.messages
    assert message.startswith(f"{path}, line 3 is left out: ") and reason in message


def test_a_file_that_is_no_archive_is_named_and_left_out(tmp_path, caplog):
    write_archive(tmp_path / "b.jsonl.gz", some(1))
    (tmp_path / "a.jsonl.gz").write_bytes((tmp_path / "b.jsonl.gz").read_bytes()[:-20])
    (tmp_path / "c.jsonl.gz").write_text("<<<<<<< HEAD")
    assert len(list(Archive(tmp_path))) == 1
    assert ["a.jsonl.gz is left out" in caplog.messages[0], "c.jsonl.gz" in caplog.messages[1]]
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("damage", ["line", "end"])
def test_packing_keeps_a_damaged_file_as_it_was(tmp_path, damage):
    path, runs = tmp_path / "archive" / "all.jsonl.gz", tmp_path / "runs"
    write_archive(path, some(1, 2))
    if damage == "line":  # such as one of a newer version
        with_lines(path, json.dumps(made_up.record(0.5) | {"schema": SCHEMA + 1}).encode())
    else:
        path.write_bytes(path.read_bytes()[:-20])
    before = path.read_bytes()
    (new,) = some(3)
    made_up.write(runs, new.plain())
    for told in (2, 0):  # once
        assert len(pack("all", folders(runs), path.parent)) == told
    assert new.run_id in Archive(path.parent)
    assert path.with_name("all.jsonl.gz.damaged").read_bytes() == before
    assert len(list(path.parent.iterdir())) == 2


def test_a_file_that_is_laid_beside_the_others_is_read_too(tmp_path, caplog):
    write_archive(tmp_path / "a.jsonl.gz", some(0, 1))
    assert len(list(open_archive(tmp_path))) == 2
    other = RunRecord.of(made_up.record(0.9, seed=1))
    write_archive(tmp_path / "b.jsonl.gz", [other, *some(2)])
    scores = {one.settings["seed"]: one.results.test.last for one in open_archive(tmp_path)}
    assert scores == {0: 0.5, 1: 0.5 + 1 / 7, 2: 0.5 + 2 / 7}
    assert len(caplog.messages) == 1 and other.run_id in caplog.messages[0]


def test_merging_takes_what_is_new_and_names_conflicts(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write_archive(ours / "a.jsonl.gz", some(0, 1, 2))
    elsewhere = RunRecord.of(made_up.record(0.5 + 2 / 7, seed=2, numerics={"threads": 8}))
    conflicting = RunRecord.of(made_up.record(0.9, seed=1))
    write_archive(theirs / "b.jsonl.gz", [*some(0, 3), conflicting, elsewhere])
    told = merge(theirs, ours)
    assert len(told) == 3 and "1 new runs" in told[2]
    for record, reason in ((conflicting, "score 0.9"), (elsewhere, "other numerics")):
        (line,) = [line for line in told if record.run_id in line]
        assert line.startswith("conflict in b.jsonl.gz: ") and reason in line
        assert line.endswith("ours is kept")
    scores = {one.settings["seed"]: one.results.test.last for one in Archive(ours)}
    assert scores == {seed: 0.5 + seed / 7 for seed in range(4)}
    before = {path: path.read_bytes() for path in ours.iterdir()}
    merge(theirs / "b.jsonl.gz", ours)
    assert {path: path.read_bytes() for path in ours.iterdir()} == before


def test_a_file_that_cannot_be_read_is_not_merged_as_one_without_news(tmp_path):
    damaged = tmp_path / "theirs.jsonl.gz"
    damaged.write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"theirs\.jsonl\.gz holds no run that can be read"):
        merge(damaged, tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_a_folder_of_runs_is_merged_too_and_anything_else_is_refused(tmp_path, monkeypatch, capsys):
    made_up.write(tmp_path / "elsewhere", made_up.record(0.5))
    words = ["merge.py", str(tmp_path / "elsewhere"), "--archive", str(tmp_path / "archive")]
    monkeypatch.setattr("sys.argv", words)
    merge_script.main()
    assert "1 new runs" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "archive").iterdir()] == ["merged.jsonl.gz"]
    # Neither what is not there, nor the folder above one of runs or of archives.
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="no folder of runs"):
            merge(folder, tmp_path / "archive")


def test_archived_runs_are_trained_again_and_agree_to_the_last_digit(trained, monkeypatch, capsys):
    words = ["verify.py", "--number", "2", "--draw", "3", "--archive", str(trained / "archive")]
    monkeypatch.setattr("sys.argv", words)
    assert verify_script.main() == 0
    output = capsys.readouterr().out
    assert output.count("equal to the last digit") == 2 and "2 of 2 agree" in output
    verify_script.main()
    assert capsys.readouterr().out == output  # the same draw


@pytest.mark.parametrize(("same", "agrees"), [(True, False), (False, True)])
def test_a_forged_score_disagrees_where_the_last_digit_counts(trained, same, agrees):
    whole = list(Archive(trained / "archive"))
    content = whole[0].plain()
    content["results"]["test"]["last"] *= 1 + 1e-9
    if not same:
        content["numerics"]["torch"] = "1.0"
    (verdict,) = (
        verify([RunRecord.of(content)], whole, [])
        if same
        else [compared(RunRecord.of(content), whole[0], 0.0)]
    )
    assert verdict.agrees is agrees


def test_forged_answers_disagree_where_the_last_digit_counts_though_scores_are_equal(trained):
    whole = next(iter(Archive(trained / "archive")))
    content = whole.plain()
    content["results"]["test_correct"]["last"] = "00" * 4
    forged = RunRecord.of(content)
    assert compared(forged, whole, None).reason == "equal scores, and other test_correct"
    content["numerics"]["torch"] = "1.0"
    assert compared(RunRecord.of(content), whole, None).agrees


def test_spread_is_that_of_the_other_seeds_as_a_forged_score_would_widen_it():
    forged = RunRecord.of(made_up.record(0.99, seed=0))
    runs = some(1, 2, 3)
    assert spread(forged, [forged, *runs]) == pytest.approx(2 / 7)
    assert spread(forged, [forged, *runs[:1]]) is None
    assert spread(forged, [forged, *runs[:2]]) == pytest.approx(1 / 7)


def test_a_run_of_a_gpu_is_not_drawn_where_there_is_none(trained, tmp_path, monkeypatch, capsys):
    of_cpu = next(iter(Archive(trained / "archive"))).plain()
    of_gpu = of_cpu | {"settings": of_cpu["settings"] | {"seed": 7}}
    of_gpu |= {"hardware": {"device": "cuda"}, "run_id": run_id(of_gpu["settings"])}
    records = [RunRecord.of(content) for content in (of_cpu, of_gpu)]
    monkeypatch.setattr(verifying, "verify", lambda drawn, *_: map(agreeing, drawn))

    def agreeing(record):
        return Verdict(record.run_id, True, "equal")

    write_archive(tmp_path / "both.jsonl.gz", records)
    assert verifying.report(tmp_path, 5, 0, []) == 0
    assert "1 of 1 archived runs" in (output := capsys.readouterr().out)
    assert "left out: 1 of a GPU" in output and of_gpu["run_id"] not in output
    monkeypatch.setattr(verifying, "has_gpu", lambda: True)
    verifying.report(tmp_path, 5, 0, [])
    assert "2 of 2 agree" in (output := capsys.readouterr().out) and "left out" not in output
    verifying.report(tmp_path, 5, 0, ["device=cpu"])
    assert "left out: 1 of a GPU" in capsys.readouterr().out
    monkeypatch.undo()
    write_archive(tmp_path / "both.jsonl.gz", records[1:])
    with pytest.raises(UserError, match="of a GPU, and none is used here"):
        verifying.report(tmp_path, 5, 0, [])


def test_a_run_of_a_gpu_agrees_within_the_spread_as_its_last_digits_may_change_every_time():
    def run(score, device):
        return RunRecord.of(made_up.record(score) | {"hardware": {"device": device}})

    for device, agrees in (("cpu", False), ("cuda", True)):
        assert compared(run(0.5, device), run(0.5 + 1e-6, device), 0.01).agrees is agrees
    assert compared(run(0.5, "cuda"), run(0.6, "cuda"), 0.01).agrees is False


def test_number_of_runs_to_verify_is_above_0(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["verify.py", "--number", "-1"])
    with pytest.raises(SystemExit, match="2"):
        verify_script.main()
    assert "argument --number: must be above 0" in capsys.readouterr().err


def test_runs_of_other_means_agree_within_the_spread_of_their_seeds():
    runs = some(0, 1, 2, 3)  # 1/7 apart
    assert spread(runs[0], runs) == pytest.approx(2 / 7)
    assert spread(some(5, changed={"lr": 0.1})[0], [*runs[1:], *some(5, changed={"lr": 0.1})]) == (
        pytest.approx(2 / 7)  # the optimizer's other settings, where its own have one seed
    )
    assert spread(runs[0], runs[:1]) is None
    far = RunRecord.of(made_up.record(0.9, seed=0, numerics={"threads": 8}))
    near = RunRecord.of(made_up.record(0.6, seed=0, numerics={"threads": 8}))
    assert compared(runs[0], near, 2 / 7).agrees is True
    assert compared(runs[0], far, 2 / 7).agrees is False
    assert compared(runs[0], far, None).agrees is None
    other = RunRecord.of(made_up.record(0.5, seed=0, data="other examples"))
    assert "other data" in compared(runs[0], other, 1.0).reason


def test_what_this_version_cannot_compose_is_said(trained):
    record = next(iter(Archive(trained / "archive")))
    content = record.plain()
    content["settings"]["task"]["version"] = 99
    content["run_id"] = run_id(content["settings"])
    (verdict,) = verify([RunRecord.of(content)], [], [])
    assert verdict == Verdict(content["run_id"], None, verdict.reason)
    assert "this version cannot compose it: task.version is not to be changed" in verdict.reason


def test_every_committed_run_can_be_composed_and_is_of_one_file():
    committed = config.ROOT / "results" / "archive"
    by_file = [
        {record.run_id: record for record in packing.read_archive(path)[0]}
        for path in sorted(committed.glob("*.jsonl.gz"))
    ]
    whole = {run_id: one for records in by_file for run_id, one in records.items()}
    assert len(whole) == sum(map(len, by_file)) > 0
    for record in random.Random(0).sample(list(whole.values()), 5):
        assert composed(record, WORDS).spec.run_id == record.run_id


def test_the_committed_tables_are_those_of_the_committed_archive(tmp_path):
    results = config.ROOT / "results"
    shutil.copytree(results / "archive", tmp_path / "archive")
    frame = records.collect(tmp_path / "runs", tmp_path / "records.csv")
    curves.collect(tmp_path / "runs", tmp_path / "curves.csv", frame)
    for name in ("records.csv", "curves.csv"):
        assert (tmp_path / name).read_bytes() == (results / name).read_bytes()
