"""Runs of DoG with other settings of its own have a table of their own."""

import made_up_records as made_up
import pandas as pd
import pytest

from analysis import records
from analysis.comparison import compare_problems
from analysis.tables.page import files_of
from analysis.tables.sensitivity import pages_of_sensitivity


@pytest.fixture
def files(tmp_path):
    def collect(*made):
        for record in made:
            made_up.write(tmp_path / "runs", record)
        frame = records.collect(tmp_path / "runs", tmp_path / "records.csv")
        return files_of(pages_of_sensitivity(compare_problems(frame), frame))

    return collect


STEM = "sensitivity-cifar-efficientnet_lite0-lite"


def test_a_line_for_each_initial_step_length_and_factor_with_both_iterates(files, tmp_path):
    made = [made_up.record((0.7, 0.8), opt="dog", seed=seed) for seed in (0, 1)]
    made.append(made_up.record((0.5, 0.6), opt="dog", changed={"reps_rel": 1e-3}))
    made.append(made_up.record((0.3, 0.2), opt="dog", changed={"reps_rel": 1e-6}))
    made.append(made_up.record(0.1, opt="dog", changed={"lr": 2.0}, status="diverged"))
    made.append(made_up.record(0.75, opt="ldog", changed={"lr": 0.5}))
    written = files(*made)
    assert sorted(written) == [f"{STEM}.csv", f"{STEM}.md"]
    (tmp_path / "table.csv").write_text(written[f"{STEM}.csv"])
    lines = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    columns = ["optimizer", "row", "setting", "last", "averaged", "test", "diverged"]
    assert lines[columns].to_numpy().tolist() == [
        ["dog", "default", "", 0.7, 0.8, 0.8, 0],
        ["dog", "sensitivity", "reps_rel=1e-06", 0.3, 0.2, 0.3, 0],
        ["dog", "sensitivity", "reps_rel=0.001", 0.5, 0.6, 0.6, 0],
        ["dog", "sensitivity", "lr=2", 0.1, 0.1, 0.1, 1],
        ["ldog", "sensitivity", "lr=0.5", 0.75, 0.75, 0.75, 0],
    ]
    shown = [
        line.split("|")[2].strip() for line in written[f"{STEM}.md"].splitlines() if "DoG  " in line
    ]
    assert shown == ["default", "reps_rel=1e-06", "reps_rel=0.001", "c=2", "c=0.5"]


def test_only_one_changed_setting_on_reported_seeds_counts(files):
    default = made_up.record(0.8, opt="dog")
    two = made_up.record(0.8, opt="dog", changed={"reps_rel": 1e-6, "lr": 2.0})
    decay = made_up.record(0.8, opt="dog", changed={"weight_decay": 0.1})
    tuning = made_up.record(0.8, opt="dog", changed={"reps_rel": 1e-6}, seed=100)
    rival = made_up.record(0.8, changed={"lr": 0.1})
    assert files(default, two, decay, tuning, rival) == {}


def test_a_sensitivity_table_says_which_variant_it_is_and_what_its_runs_differ_in(files):
    written = files(
        *(
            made_up.record(0.8, opt="dog", changed=changed, batch_norm=mode, numerics=numerics)
            for mode in ("frozen", "train")
            for changed, numerics in ((None, None), ({"reps_rel": 1e-6}, {"threads": 1}))
        ),
        *(
            made_up.record(0.8, opt="dog", seed=1, batch_norm=mode, data="other")
            for mode in ("frozen", "train")
        ),
    )
    titles = {text.splitlines()[1] for name, text in written.items() if name.endswith(".md")}
    assert titles == {
        f"# Sensitivity: cifar · efficientnet_lite0 · lite v1 · batch_norm={mode}"
        for mode in ("frozen", "train")
    }
    texts = [text for name, text in written.items() if name.endswith(".md")]
    assert all("threads 1 and 2" in text for text in texts)
    assert all("Left out: 1 run of the same settings on other data" in text for text in texts)
