"""The tree that collecting is measured on is one that a runner might leave."""

import sys

from analysis import curves, records
from benchmarks import collect_records


def test_made_up_runs_are_collected_whole(tmp_path, caplog):
    collect_records.make_tree(tmp_path / "runs", 64)
    frame = records.collect(tmp_path / "runs", tmp_path / "records.csv")
    assert len(frame) == 64 and set(frame["status"]) == {"finished"} and not caplog.messages
    assert set(frame["task"]) == set(collect_records.TASKS)
    assert set(frame["optimizer"]) == {"sgd", "adam", "dog", "ldog"}
    points = curves.collect(tmp_path / "runs", tmp_path / "curves.csv", frame)
    assert points["run_id"].nunique() == 32 and points["step"].max() == max(collect_records.LOGGED)


def test_table_has_a_line_for_each_part_and_time(tmp_path, monkeypatch):
    table = tmp_path / "table.md"
    words = ["--runs", "16", "--folder", str(tmp_path), "--output", str(table)]
    monkeypatch.setattr(sys, "argv", ["collect_records", *words])
    collect_records.main()
    lines = table.read_text().splitlines()
    assert sum(line.startswith("| records") for line in lines) == 3
    assert sum(line.startswith("| curves") for line in lines) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
