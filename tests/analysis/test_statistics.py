"""The statistics agree with calculations by hand and keep what they promise."""

import doctest
from itertools import combinations

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
    enough = statistics.has_enough_errors([1 - 0.99, 0.0099, 0.009, np.nan], 1000, True)
    assert enough.tolist() == [True, False, False, False]


def test_where_lower_is_better_any_error_of_dog_is_enough():
    # A suboptimality of 1e-5 on 100 examples is no fraction of them.
    enough = statistics.has_enough_errors([1e-5, 0, np.nan, 1e-5], 100, [False] * 3 + [True])
    assert enough.tolist() == [True, False, False, False]


def test_binomial_standard_error_by_hand():
    assert statistics.binomial_standard_error(0.8, 1600) == pytest.approx(0.01)


def test_the_doctests_hold():
    failed, tried = doctest.testmod(statistics)
    assert tried and not failed


def test_student_t_of_red_by_hand():
    # r = 0.75; x − r·d is ±0.05 over d̄ = 0.2: standard error 0.05, t quantile 12.7062.
    dog, other = [0.1, 0.3], [0.125, 0.175]
    low, high = statistics.student_t_of_red(dog, other)
    assert (low, high) == pytest.approx((0.25 - 0.25 * 12.7062, 0.25 + 0.25 * 12.7062), abs=1e-4)
    # In each seed the other errs half as much as DoG: sure, whatever DoG's spread.
    assert statistics.student_t_of_red([0.1, 0.2, 0.4], [0.05, 0.1, 0.2]) == (0.5, 0.5)


def test_student_t_of_red_of_other_seeds_is_welchs():
    # r = 1, variances of the means (0.02 / 2 and 0.02 / 2), so 2 degrees of freedom: t is 4.3027.
    dog, other = [0.1, 0.3, np.nan, np.nan], [np.nan, np.nan, 0.1, 0.3]
    low, high = statistics.student_t_of_red(dog, other)
    half_width = 4.3027 * np.sqrt(0.02) / 0.2
    assert (low, high) == pytest.approx((-half_width, half_width), abs=1e-3)
    assert np.isnan(statistics.student_t_of_red([0.1, 0.3], [0.2, np.nan])).all()


def test_paired_seeds_are_resampled_together():
    # In each seed the other errs half as much as DoG: whatever seeds are drawn, RED is a half.
    dog, other = [0.1, 0.2, 0.4], [0.05, 0.1, 0.2]
    intervals = statistics.intervals_over_tasks([dog] * 2, [other] * 2)
    assert intervals.on_these_tasks == pytest.approx((0.5, 0.5))
    # A seed that one side lacks makes them independent: then means of other seeds are compared.
    apart = statistics.intervals_over_tasks([[*dog, 0.2]] * 2, [[*other, np.nan]] * 2)
    assert apart.on_these_tasks[0] < 0.3 and apart.on_these_tasks[1] > 0.6


def test_both_intervals_of_two_tasks_by_hand():
    # RED 0 or 0.2 on the first task (seeds of DoG alike), 0.5 on the second.
    dog, other = [[0.5, 0.5], [0.4, 0.4]], [[0.5, 0.4], [0.2, 0.2]]
    intervals = statistics.intervals_over_tasks(dog, other)
    assert intervals.estimate == pytest.approx((0.1 + 0.5) / 2)
    assert intervals.on_these_tasks == pytest.approx(((0 + 0.5) / 2, (0.2 + 0.5) / 2))
    # The first task twice, with the worse seed each time, in 1 of 4 · 16; the second in 1 of 4.
    assert intervals.on_tasks_like_these == pytest.approx((0.05, 0.5))
    # Of one task the interval is Student's.
    one = statistics.intervals_over_tasks(dog[:1], other[:1])
    assert one.on_these_tasks == statistics.student_t_of_red(dog[0], other[0])
    assert np.isnan(one.on_tasks_like_these).all()


def test_the_intervals_are_the_same_every_time_and_unknown_without_seeds_or_tasks():
    dog, other = [[0.2, 0.3], [0.1, 0.2]], [[0.1, 0.3], [0.2, 0.2]]
    first, second = (statistics.intervals_over_tasks(dog, other) for _ in range(2))
    assert first == second
    one_seed = statistics.intervals_over_tasks([[0.2], [0.1]], [[0.1], [0.1]])
    assert one_seed.estimate == pytest.approx(0.25)
    assert np.isnan(one_seed.on_these_tasks).all()
    assert one_seed.on_tasks_like_these == pytest.approx((0, 0.5))
    perfect_seed = statistics.intervals_over_tasks([[0.0, 0.2]] * 2, [[0.1, 0.1]] * 2)
    assert perfect_seed.estimate == 0 and np.isnan(perfect_seed[1:]).all()
    assert np.isnan(statistics.intervals_over_tasks([], []).estimate)
    assert np.isnan(statistics.intervals_over_tasks([[0.1]], [[np.nan]]).estimate)


@pytest.mark.parametrize(
    ("tasks", "seeds", "these", "like_these"),
    [
        (1, 2, 0.95, 0),
        (1, 3, 0.95, 0),
        (1, 5, 0.95, 0),
        (2, 3, 0.81, 0.7),
        (3, 5, 0.86, 0.84),
        (12, 5, 0.91, 0.95),
    ],
)
def test_what_the_intervals_of_the_median_cover(tasks, seeds, these, like_these):
    # For a promise of 0.95: Student's t on one task, at any number of seeds; resampling 5 seeds a
    # little less, 3 far too little; resampling many tasks, and of one there is no interval.
    generator = np.random.default_rng(0)
    cells, covered = 500, np.zeros(2)
    for _ in range(cells):
        red = generator.normal(0, 0.1, size=tasks)
        dog = generator.normal(0.2, 0.01, size=(tasks, seeds))
        other = 0.2 * (1 - red)[:, None] + generator.normal(0, 0.01, size=(tasks, seeds))
        intervals = statistics.intervals_over_tasks(list(dog), list(other), resamples=500)
        for place, truth in enumerate((np.median(red), 0)):
            low, high = intervals[1 + place]
            covered[place] += low <= truth <= high
    assert covered / cells == pytest.approx([these, like_these], abs=0.04)


def test_five_tasks_hold_the_median_too_rarely_and_six_often_enough():
    chances = [1 - 2 * 0.5**tasks for tasks in (statistics.LEAST_TASKS - 1, statistics.LEAST_TASKS)]
    assert chances[0] < 0.95 < chances[1]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.2, -0.01, "better"),
        (-0.2, 0.0, "non-inferior"),
        (-0.2, 0.049, "non-inferior"),
        (0.01, 0.049, "non-inferior"),
        (-0.2, 0.05, "inconclusive"),
        (0.0, 0.2, "inconclusive"),
        (0.01, 0.05, "worse"),
        (np.nan, np.nan, "inconclusive"),
    ],
)
def test_the_verdict_on_dog_by_the_interval_of_a_rivals_red(low, high, said):
    assert statistics.verdict(low, high) == said


def test_break_even_is_what_all_subsets_of_the_grid_give():
    validation = [0.5, 0.9, 0.7, 0.9, 0.1]
    errors = [0.4, 0.2, 0.25, 0.1, 0.9]
    result = statistics.break_even(validation, errors, [60, 120, 30, 90, 300], dog_error=0.26)
    for k in range(1, 6):
        # Of equals max takes the first: the given order.
        chosen = [max(some, key=lambda one: validation[one]) for some in combinations(range(5), k)]
        assert result.errors[k - 1] == pytest.approx(np.mean([errors[one] for one in chosen]))
        assert result.hours[k - 1] == pytest.approx(k * 120 / 3600)
    assert result.errors[0] > 0.26 > result.errors[1]
    assert result.runs == 2


def test_break_even_may_be_at_once_or_never():
    alike = statistics.break_even([0.7] * 3, [0.1] * 3, [1] * 3, dog_error=0.1)
    assert alike.runs == 1
    assert statistics.break_even([0.7, 0.8], [0.3, 0.2], [1, 1], dog_error=0.19).runs is None
    nothing = statistics.break_even([], [], [], dog_error=0.1)
    assert nothing.errors.shape == nothing.hours.shape == (0,) and nothing.runs is None


def test_performance_profile_by_hand():
    # The best errors: 0.1, 0.2, 0; on the last task only the first is within any factor of it.
    errors = [[0.1, 0.4, 0.0], [0.15, 0.2, 0.1], [np.nan, 0.2, 0.1]]
    profile = statistics.performance_profile(errors, [1, 1.5, 2])
    expected = np.array([[2, 2, 3], [1, 2, 2], [1, 1, 1]]) / 3
    np.testing.assert_allclose(profile, expected)
