"""Estimates of how long runs take, by hand-worked cases: what is unknown stays unknown."""

import pytest
from made_up_records import PART, collected, record_of
from omegaconf import OmegaConf

from analysis import records
from sweeps import plan
from sweeps.estimate import RuntimeEstimator, TimeLeft


def load(folder, *parts):
    OmegaConf.save(OmegaConf.create({"parts": list(parts)}), folder / "small.yaml")
    return plan.load(str(folder / "small.yaml"), [f"runs_dir={folder}/runs"])


@pytest.fixture
def sweep(tmp_path):
    return load(tmp_path, PART)


def estimator(folder, *made):
    return RuntimeEstimator(collected(folder, *made), "a cpu")


def estimate(folder, run, *made):
    found = estimator(folder, *made).estimate(run)
    return None if found is None else (found.seconds, found.basis)


def test_same_runs_give_their_median_and_diverged_ones_nothing(sweep, tmp_path):
    dog, low, middle, high = sweep.tuning()
    made = [record_of(low, 10), record_of(middle, 12), record_of(high, 30), record_of(dog, 99)]
    made.append(record_of(sweep.reporting({})[2], 1, status="diverged"))
    assert estimate(tmp_path, low, *made) == (12, "same runs, this processor")


def test_other_optimizers_of_the_problem_come_next(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    assert estimate(tmp_path, dog, record_of(low, 10)) == (10, "other optimizers, this processor")


def test_other_protocols_are_scaled_by_steps(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    assert dog.steps == 500
    seconds, basis = estimate(tmp_path, dog, record_of(low, 10, steps=2000))
    assert seconds == pytest.approx(2.5) and basis == "other protocols, by steps, this processor"


def test_examples_of_another_size_tell_nothing(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    assert estimate(tmp_path, dog, record_of(low, 10, steps=2000, image_size=224)) is None


def test_this_processor_comes_before_others(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    elsewhere = record_of(dog, 3, cpu="another")
    assert estimate(tmp_path / "a", dog, elsewhere) == (3, "same runs, another processor")
    scaled = record_of(low, 8, steps=1000)
    assert estimate(tmp_path / "b", dog, elsewhere, scaled) == (
        4,
        "other protocols, by steps, this processor",
    )
    here = record_of(low, 5)
    assert estimate(tmp_path / "c", dog, elsewhere, scaled, here)[0] == 5


def test_time_left_is_the_sum_of_the_estimates_by_how_many_train_at_once(sweep, tmp_path):
    dog, *rates = sweep.tuning()
    known = estimator(tmp_path, record_of(dog, 20), record_of(rates[0], 10))
    assert known.time_left([dog, *rates], at_once=1) == TimeLeft(4, 0, 50.0)
    assert known.time_left([dog, *rates], at_once=2) == TimeLeft(4, 0, 25.0)
    # However many train at once, the longest run takes its time.
    assert known.time_left([dog, *rates], at_once=64) == TimeLeft(4, 0, 20.0)


def test_time_left_is_corrected_by_the_runs_that_have_ended(sweep, tmp_path):
    """A machine that is busy takes ten times what was estimated, for what comes later as well."""
    dog, *rates = sweep.tuning()
    known = estimator(tmp_path, record_of(dog, 20), record_of(rates[0], 10))
    ended = [(rates[0], 95.0), (rates[1], 105.0)]
    assert known.time_left([dog, rates[2]], 1, ended) == TimeLeft(2, 0, 300.0)


def test_a_part_of_a_run_that_is_done_is_not_left(sweep, tmp_path):
    dog, *rates = sweep.tuning()
    known = estimator(tmp_path, record_of(dog, 20), record_of(rates[0], 10))
    steps_done = {rates[0].run_id: rates[0].steps // 2, rates[1].run_id: rates[1].steps}
    assert known.time_left(rates, 1, steps_done=steps_done) == TimeLeft(3, 0, 15.0)


def test_without_earlier_runs_those_that_have_ended_tell_of_their_problem_alone(tmp_path):
    sweep = load(tmp_path, PART, {**PART, "overrides": ["train.image_size=32"]})
    unknown = RuntimeEstimator(records.empty(), "a cpu")
    first, *others = sweep.tuning()
    assert str(unknown.time_left(others, 1)) == "unknown"
    left = unknown.time_left(others, 1, [(first, 600.0)])
    assert left == TimeLeft(3 + 4, 4, 3 * 600.0) and str(left) == "at least 30 min"
    assert str(unknown.time_left(others[:3], 1, [(first, 600.0)])) == "30 min"


def test_timed_steps_tell_of_runs_of_which_no_earlier_run_does(sweep, tmp_path):
    dog, *rates = sweep.tuning()
    timed = RuntimeEstimator(records.empty(), "a cpu", timed=30.0)
    assert timed.time_left([dog, *rates], 1) == TimeLeft(4, 0, 120.0)
    assert timed.time_left(rates, 1, [(dog, 60.0)]) == TimeLeft(3, 0, 180.0)  # twice as long
    known = RuntimeEstimator(collected(tmp_path, record_of(dog, 20)), "a cpu", timed=30.0)
    assert known.estimate(dog).seconds == 20


def test_time_left_says_what_is_not_known():
    assert str(TimeLeft(0, 0, 0.0)) == "none"
    assert str(TimeLeft(3, 3, 0.0)) == "unknown"
    assert str(TimeLeft(3, 1, 7200.0)) == "at least 2.0 h"
    assert str(TimeLeft(3, 0, -5.0)) == "unknown"  # it takes longer than expected


def test_only_runs_of_this_processor_say_what_they_took(sweep, tmp_path):
    dog, low, *_ = sweep.tuning()
    known = estimator(tmp_path, record_of(dog, 20), record_of(low, 10, cpu="another"))
    assert (known.took(dog), known.took(low)) == (20, None)
