"""curves.csv holds a few points of each run with telemetry, whichever machine made it."""

import json
import math
import shutil
from pathlib import Path

import made_up_records as made_up
import pandas as pd
import pytest

from analysis import curves, records
from sweeps import packing


@pytest.fixture
def collect(tmp_path):
    def now(runs="runs"):
        frame = records.collect(tmp_path / runs, tmp_path / "records.csv")
        return curves.collect(tmp_path / runs, tmp_path / "curves.csv", frame)

    return now


def logged(steps, every=10):
    early = [step for step in (1, 2, 3, 5, 7) if step < steps]
    return [*early, *range(every, steps, every), steps]


def test_points_are_spaced_by_their_logarithm_and_end_with_the_last_step(tmp_path, collect):
    dog = made_up.record(0.8, opt="dog")
    made_up.write_with_curve(tmp_path / "runs", dog, {t: t / 3 for t in logged(468)})
    points = collect()
    wanted = [1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 300, 468]
    assert points["step"].tolist() == wanted
    assert points["eta"].tolist() == [float(f"{t / 3:.6g}") for t in wanted]
    assert points["rbar"].iloc[-1] == 1560 and points["loss"].iloc[2] == 0.333333
    assert set(points["run_id"]) == {dog["run_id"]}
    assert len(curves.MARKS) <= 35


def test_where_a_mark_was_not_logged_the_next_step_is_taken(tmp_path, collect):
    run = made_up.record(0.8, opt="dog")
    made_up.write_with_curve(tmp_path / "runs", run, dict.fromkeys(logged(100, every=40), 1.0))
    assert collect()["step"].tolist() == [1, 2, 3, 5, 7, 40, 80, 100]


def test_only_runs_with_a_result_and_telemetry_have_curves(tmp_path, collect):
    runs = tmp_path / "runs"
    diverged = made_up.record(0.1, opt="dog", seed=1, status="diverged")
    folder = made_up.write_with_curve(runs, diverged, {1: 0.1, 2: 5.0})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "loss": None, "eta": 7.0, "rbar": 1.0}) + "\n")
    sgd = made_up.write(runs, made_up.record(0.7, opt="sgd"))
    (sgd.parent / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0, "lr": 0.1}\n')
    synthetic = made_up.record(0.9, opt="dog", seed=3)
    synthetic["settings"]["task"]["synthetic"] = True
    made_up.write_with_curve(runs, synthetic, {1: 0.1})
    made_up.write(runs, made_up.record(0.9, opt="dog", seed=4))  # its metrics are elsewhere
    points = collect()
    assert set(points["run_id"]) == {diverged["run_id"]}
    assert points["step"].tolist() == [1, 2, 3] and math.isnan(points["loss"].iloc[2])


@pytest.mark.filterwarnings("error")
def test_the_archive_gives_the_same_points_as_the_runs(tmp_path, collect):
    csv = tmp_path / "curves.csv"
    for seed in (1, 0):
        run = made_up.record(0.8, opt="dog", seed=seed)
        points = {t: 0.1 / 3 * (seed + 1) / t for t in (1, 2, 3)}
        made_up.write_with_curve(tmp_path / "runs", run, points)
    frame = collect()
    written = csv.read_bytes()
    packing.pack("all", map(Path, records.run_folders(tmp_path / "runs")), tmp_path / "archive")
    # In a clone there are no runs, and what is made from the archive alone is the same.
    pd.testing.assert_frame_equal(collect("no runs"), frame, check_exact=True)
    assert csv.read_bytes() == written
    # A run made here replaces its points; those of the other stay.
    shutil.rmtree(tmp_path / "runs")
    made_up.write_with_curve(tmp_path / "runs", made_up.record(0.8, opt="dog", seed=1), {1: 9.0})
    again = collect()
    assert len(again) == 4 and again["eta"].max() == 9.0
    assert again["run_id"].is_monotonic_increasing


def test_a_run_that_did_not_end_here_leaves_the_points_of_the_finished_one(tmp_path, collect):
    run = made_up.record(0.8, opt="dog")
    folder = made_up.write_with_curve(tmp_path / "runs", run, {1: 0.1, 2: 0.2})
    whole = collect()
    packing.pack("all", [folder], tmp_path / "archive")
    (folder / "record.json").rename(folder / "failure.json")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0, "eta": 9.0, "rbar": 9.0}\n')
    pd.testing.assert_frame_equal(collect(), whole, check_exact=True)


def test_step_size_of_an_optimizer_that_knows_no_distance_has_a_curve(tmp_path, collect):
    run = made_up.record(0.8, opt="sgd")
    folder = made_up.write_with_curve(tmp_path / "runs", run, {1: 0.1})
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0, "lr": 1.0, "eta": 0.5}\n')
    (point,) = collect().to_dict("records")
    assert point["eta"] == 0.5 and math.isnan(point["rbar"])


def test_damage_is_said(tmp_path, collect, caplog):
    run = made_up.record(0.8, opt="dog")
    folder = made_up.write_with_curve(tmp_path / "runs", run, {1: 0.1})
    (folder / "metrics.jsonl").write_text('{"step": 1, "eta"')
    assert collect().empty and "damaged curve" in caplog.text
    (folder / "metrics.jsonl").write_text('{"eta": 1.0, "rbar": 1.0, "loss": 1.0}\n')
    caplog.clear()
    assert collect().empty and "no step" in caplog.text
