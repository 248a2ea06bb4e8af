"""Runs of DoG with other settings of its own have a table below that of their problem."""

import made_up_records as made_up
import pytest

from analysis.comparison import compare_problems
from analysis.tables.sensitivity import tables_of_sensitivity


@pytest.fixture
def tables(tmp_path):
    def collect(*made):
        frame = made_up.collected(tmp_path, *made)
        return [*tables_of_sensitivity(compare_problems(frame), frame).values()]

    return collect


def test_a_line_for_each_initial_step_length_and_factor_with_both_iterates(tables):
    made = [made_up.record((0.7, 0.8), opt="dog", seed=seed) for seed in (0, 1)]
    made.append(made_up.record((0.5, 0.6), opt="dog", changed={"reps_rel": 1e-3}))
    made.append(made_up.record((0.3, 0.2), opt="dog", changed={"reps_rel": 1e-6}))
    made.append(made_up.record(0.1, opt="dog", changed={"lr": 2.0}, status="diverged"))
    made.append(made_up.record(0.75, opt="ldog", changed={"lr": 0.5}))
    (table,) = tables(*made)
    columns = ["optimizer", "row", "setting", "last", "averaged", "test", "diverged"]
    assert table.exact[columns].to_numpy().tolist() == [
        ["dog", "sensitivity", "reps_rel=1e-06", 0.3, 0.2, 0.3, 0],
        ["dog", "sensitivity", "reps_rel=0.001", 0.5, 0.6, 0.6, 0],
        ["dog", "sensitivity", "lr=2", 0.1, 0.1, 0.1, 1],
        ["ldog", "sensitivity", "lr=0.5", 0.75, 0.75, 0.75, 0],
    ]
    assert table.shown["setting"].tolist() == [
        "default", "reps_rel=1e-06", "reps_rel=0.001", "c=2", "c=0.5"
    ]  # fmt: skip
    assert table.shown["accuracy %"].iloc[0] == "80.00 ± 0.00"


def test_only_one_changed_setting_on_reported_seeds_counts(tables):
    default = made_up.record(0.8, opt="dog")
    two = made_up.record(0.8, opt="dog", changed={"reps_rel": 1e-6, "lr": 2.0})
    decay = made_up.record(0.8, opt="dog", changed={"weight_decay": 0.1})
    tuning = made_up.record(0.8, opt="dog", changed={"reps_rel": 1e-6}, seed=100)
    rival = made_up.record(0.8, changed={"lr": 0.1})
    assert tables(default, two, decay, tuning, rival) == []


def test_a_sensitivity_table_says_which_variant_it_is_and_what_its_runs_differ_in(tables):
    made = tables(
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
    assert [table.title for table in made] == [
        f"Sensitivity: cifar · efficientnet_lite0 · lite v1 · batch_norm={mode}"
        for mode in ("frozen", "train")
    ]
    for table in made:
        assert "threads 1 and 2" in table.body
        assert "Left out: 1 run of the same settings on other data" in table.body
