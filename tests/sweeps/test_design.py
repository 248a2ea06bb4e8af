"""What a comparison is made of, from what a run costs and how long it may take."""

import re

import pytest

from sweeps.design import Design, Methods, Times, choose_design
from tasks.errors import UserError

METHODS = Methods(["dog", "ldog"], {"adamw": {"lr": [1, 2, 3, 4, 5]}})
# 10 s a run of 400 steps: 1 + 400 · 0.02 + 1.
TIMES = Times(start=1.0, step=0.02, scoring=1.0, train_examples=1280)
SMALLEST = Design(400, 3, whole_grids=False, every_method=False)


def chosen(runs_of_400, **fixed):
    """The design where there is time for so many runs of 400 steps, one after another."""
    return choose_design(runs_of_400 * 10 / 3600 / 0.8 + 1e-9, TIMES, 32, 1, METHODS, **fixed)


def test_runs_are_counted_by_hand():
    # 2 untuned and 3 of 5 rates; on 3 seeds 2 untuned, the default and the best rate; the one kept
    assert Design(400, 3, whole_grids=False).runs(METHODS) == 2 + 3 + 3 * 4 + 1
    assert Design(400, 5).runs(METHODS) == 2 + 5 + 5 * 4 + 1
    # DoG and 3 of 5 rates; on 3 seeds DoG and the best rate; the one kept
    assert SMALLEST.runs(METHODS) == 1 + 3 + 3 * 2 + 1
    assert SMALLEST.names(METHODS) == ["dog", "adamw"]
    assert Design(400, 3, whole_grids=False).grids(METHODS) == {"adamw": {"lr": [1, 3, 5]}}


def test_seconds_are_shared_by_what_trains_at_once():
    assert Design(400, 3, whole_grids=False).seconds(METHODS, TIMES, 2) == pytest.approx(90)


@pytest.mark.parametrize(
    ("runs", "design"),
    [
        (11, SMALLEST),
        (17, SMALLEST),
        (18, Design(400, 3, whole_grids=False)),
        (19, Design(400, 3, whole_grids=False)),
        (20, Design(400, 3)),
        (24, Design(400, 4)),
        (28, Design(400, 5)),
        (39, Design(400, 5)),
        (40, Design(600, 5)),  # 28 runs of 14 s
        (51, Design(800, 5)),  # of 18 s
        (10_000, Design(800, 5)),  # 20 times 1280 examples, in batches of 32
    ],
)
def test_time_buys_other_methods_then_whole_grids_then_seeds_then_steps(runs, design):
    assert chosen(runs) == design


def test_what_is_fixed_stays():
    assert chosen(10_000, steps=450, seeds=4) == Design(450, 4)
    assert chosen(10_000, seeds=7).seeds == 7


def test_too_short_a_time_says_what_it_takes():
    with pytest.raises(UserError, match=r"11 runs, 1\.8 min here at 10 s a run: give hours=") as no:
        chosen(10)
    needed = float(re.search(r"hours=([\d.]+);", str(no.value))[1])
    assert needed == 0.1  # 110 s are 0.8 of 0.04 hours
    assert choose_design(needed, TIMES, 32, 1, METHODS).steps == 400
