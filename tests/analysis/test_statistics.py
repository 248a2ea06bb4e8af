"""The statistics agree with calculations by hand and keep what they promise."""

import numpy as np
import pytest

from analysis import statistics


def test_student_t_of_two_values_by_hand():
    # Standard deviation 1/√2, standard error 1/2, t quantile of one degree of freedom 12.7062.
    mean, half_width = statistics.student_t([0.0, 1.0])
    assert mean == 0.5
    assert half_width == pytest.approx(6.3531, abs=1e-4)


def test_student_t_of_five_values_by_hand():
    # Deviations −2…2: variance 10/4, standard error √(2.5/5), t quantile 2.7764.
    mean, half_width = statistics.student_t([1, 2, 3, 4, 5])
    assert (mean, half_width) == (3.0, pytest.approx(2.7764 * np.sqrt(0.5), abs=1e-4))
    assert statistics.student_t([1, 2, 3, 4, 5], confidence=0.5)[1] < half_width


def test_one_value_has_no_interval_and_none_has_no_mean():
    mean, half_width = statistics.student_t([0.7])
    assert mean == 0.7 and np.isnan(half_width)
    assert np.isnan(statistics.student_t([])).all()


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_the_true_mean_in_95_of_100_cells(seeds):
    generator = np.random.default_rng(0)
    cells = generator.normal(0.8, 0.02, size=(4000, seeds))
    intervals = np.array([statistics.student_t(cell) for cell in cells])
    covered = np.abs(intervals[:, 0] - 0.8) <= intervals[:, 1]
    # Four standard errors of this simulation; 1.96 standard errors of the mean would cover 0.88.
    assert covered.mean() == pytest.approx(0.95, abs=0.014)


def test_error_is_one_minus_a_score_or_the_score_where_lower_is_better():
    assert statistics.error([0.8, 0.3], [True, False]).tolist() == pytest.approx([0.2, 0.3])


def test_relative_error_difference_of_seed_means_by_hand():
    # DoG errs 0.2 on average, the other 0.15: a quarter less.
    red = statistics.relative_error_difference([0.1, 0.3], [0.15])
    assert red == pytest.approx(0.25)
    assert statistics.relative_error_difference([0.2], [0.3]) == pytest.approx(-0.5)


def test_relative_error_difference_of_pairs_by_hand():
    # Pairs: (0.1 − 0.1)/0.1 = 0, (0.1 − 0.2)/0.1 = −1, (0.4 − 0.1)/0.4 = ¾, (0.4 − 0.2)/0.4 = ½.
    red = statistics.relative_error_difference_of_pairs([0.1, 0.4], [0.1, 0.2])
    assert red == pytest.approx(0.0625)


def test_relative_error_differences_are_unknown_without_errors_or_seeds():
    for red in (
        statistics.relative_error_difference,
        statistics.relative_error_difference_of_pairs,
    ):
        assert np.isnan(red([0.0], [0.1]))
        assert np.isnan(red([], [0.1]))
        assert np.isnan(red([0.1], []))
    assert np.isnan(statistics.relative_error_difference_of_pairs([0.0, 0.2], [0.1]))


def test_ten_errors_of_dog_are_enough_and_nine_are_not():
    enough = statistics.has_enough_errors([1 - 0.99, 0.0099, 0.009, np.nan], 1000)
    assert enough.tolist() == [True, False, False, False]


def test_binomial_standard_error_by_hand():
    assert statistics.binomial_standard_error(0.8, 1600) == pytest.approx(0.01)
