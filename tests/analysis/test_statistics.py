"""The statistics agree with calculations by hand and keep what they promise."""

from itertools import combinations

import numpy as np
import pytest
from conftest import LONG_ONLY

from analysis import statistics
from analysis.aggregates import interquartile_mean_of_red


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
    enough = statistics.has_enough_errors([1 - 0.99, 0.0099, 0.009, np.nan], 1000, "accuracy")
    assert enough.tolist() == [True, False, False, False]


@pytest.mark.parametrize("metric", ["suboptimality", "matthews", "f1", "squad_f1", "pearson"])
def test_any_error_is_enough_where_the_metric_counts_no_examples(metric):
    # 1e-5 on 100 examples is no number of them: not of a loss, and not of a correlation or an F1.
    enough = statistics.has_enough_errors([1e-5, 0, np.nan], 100, metric)
    assert enough.tolist() == [True, False, False]
    mixed = statistics.has_enough_errors([1e-5, 1e-5], 100, [metric, "accuracy"])
    assert mixed.tolist() == [True, False]


def test_binomial_standard_error_by_hand():
    assert statistics.binomial_standard_error(0.8, 1600) == pytest.approx(0.01)


def interval_on_one_task(dog, other):
    return statistics.median_red([dog], [other]).on_these_tasks


def test_the_interval_on_one_task_is_where_student_does_not_tell_the_errors_apart():
    dog, other = np.array([0.1, 0.12, 0.17, 0.13, 0.12]), np.array([0.08, 0.07, 0.09, 0.1, 0.07])
    for confidence in (0.95, 0.99):
        for red in statistics.red_of_means(dog, other).interval(confidence):
            mean, half_width = statistics.student_t(other - (1 - red) * dog, confidence)
            assert abs(mean) == pytest.approx(half_width)
    # In each seed the other errs half as much as DoG: sure, whatever DoG's spread.
    assert interval_on_one_task([0.1, 0.2, 0.4], [0.05, 0.1, 0.2]) == (0.5, 0.5)
    # So it is where floats round, and although DoG's mean may be 0 by Student's t.
    low, high = interval_on_one_task([0.1, 0.3, 0.7], [0.01, 0.03, 0.07])
    assert low == high == pytest.approx(0.9)


def test_where_dog_errs_the_same_on_each_seed_the_interval_on_one_task_is_students():
    low, high = interval_on_one_task([0.2] * 5, [0.08, 0.09, 0.1, 0.11, 0.12])
    half_width = 2.7764 * np.sqrt(0.00025 / 5) / 0.2
    assert (low, high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=1e-5)


def test_the_interval_on_one_task_of_other_seeds_has_welchs_freedom():
    # r = 1, equal variances of both means, so 2 degrees of freedom: t is 4.3027. Of the means'
    # variances 0.0001, over 0.2²: a = 1 − t²·0.0025, b = −t²·0.0025, c = t²·0.005.
    low, high = interval_on_one_task([0.19, 0.21, np.nan, np.nan], [np.nan, np.nan, 0.19, 0.21])
    assert (low, high) == pytest.approx((-0.3638, 0.2668), abs=1e-4)
    assert np.isnan(interval_on_one_task([0.1, 0.3], [0.2, np.nan])).all()


def test_where_dogs_own_error_may_be_0_no_rival_errs_too_many_times_as_much():
    assert interval_on_one_task([0.1, 0.3], [0.125, 0.175]) == (-np.inf, 1)
    # Seeds of DoG that end far apart, at a guess or not: Student's paired test has p = 0.17.
    low, high = interval_on_one_task([0.497, 0.058, 0.497], [0.04, 0.042, 0.046])
    assert low == -np.inf and 0.9 < high < 1
    # Whatever DoG's mean is, this rival errs more.
    low, high = interval_on_one_task([0.05, 0.06, 0.5], [0.9, 0.92, 0.91])
    assert low == -np.inf and high < 0


def test_the_interval_on_one_task_has_each_red_that_student_does_not_rule_out_and_none_beyond_1():
    generator = np.random.default_rng(0)
    for _ in range(200):
        # Far apart, so that either end may be out of reach.
        dog, other = np.exp(generator.normal(0, 1, (2, 3)))
        ratios = np.concatenate([np.linspace(0, 20, 2001), np.geomspace(20, 1e6, 1000)])
        residuals = other[:, None] - ratios * dog[:, None]
        standard_errors = residuals.std(axis=0, ddof=1) / np.sqrt(3)
        left = 1 - ratios[np.abs(residuals.mean(axis=0)) <= 4.3026 * standard_errors]
        low, high = interval_on_one_task(dog, other)
        assert high == pytest.approx(left.max(), abs=0.011)
        assert low == -np.inf if left.min() == 1 - 1e6 else low <= left.min()


def test_methods_that_are_alike_are_seldom_called_otherwise_where_some_seeds_end_at_a_guess():
    generator = np.random.default_rng(0)
    ends = np.where(generator.random((4000, 2, 3)) < 0.2, 0.5, 0.05)
    ends += generator.normal(0, 0.005, ends.shape)
    said = [statistics.verdict(*interval_on_one_task(dog, other)) for dog, other in ends]
    # By the delta method more than 7 % are called worse.
    assert said.count("worse") / len(said) < 0.025 and said.count("better") / len(said) < 0.025


def test_paired_seeds_are_compared_with_each_other():
    # In each seed the other errs half as much as DoG: whatever the seeds, RED is a half.
    dog, other = [0.1, 0.2, 0.4], [0.05, 0.1, 0.2]
    alike = statistics.median_red([dog] * 2, [other] * 2)
    assert alike.on_these_tasks == pytest.approx((0.5, 0.5))
    # A seed that one side lacks makes them independent: then means of other seeds are compared.
    apart = statistics.median_red([[*dog, 0.2]] * 2, [[*other, np.nan]] * 2)
    assert apart.on_these_tasks[0] < 0.3 and apart.on_these_tasks[1] > 0.6


def test_of_several_tasks_that_do_not_vary_the_interval_is_that_of_the_one_that_does():
    # RED is 0, 0.5 ± t · 0.05 and 0.9: the median is the second's, whatever t says in 95 of 100.
    dog, other = [[0.2] * 5] * 3, [[0.2] * 5, [0.08, 0.09, 0.1, 0.11, 0.12], [0.02] * 5]
    low, high = statistics.median_red(dog, other).on_these_tasks
    half_width = 2.7764 * np.sqrt(0.00025 / 5) / 0.2
    assert (low, high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=0.01)


@pytest.mark.parametrize(
    ("tasks", "place"), [(5, None), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (20, 5)]
)
def test_the_interval_on_tasks_like_these_is_that_of_the_sign_test(tasks, place):
    # The tables of the sign test: of 9 the second and the eighth, of 20 the sixth and fifteenth.
    found = statistics.sign_test_interval(range(tasks))
    if place is None:
        assert np.isnan(found).all()
    else:
        assert found == pytest.approx((place, tasks - 1 - place))


def test_the_intervals_are_the_same_every_time_and_unknown_without_seeds_or_tasks():
    dog, other = [[0.2, 0.3], [0.1, 0.2]], [[0.1, 0.3], [0.2, 0.2]]
    first, second = (statistics.median_red(dog, other).on_these_tasks for _ in range(2))
    assert first == second
    one_seed = statistics.median_red([[0.2], [0.1]], [[0.1], [0.1]])
    assert one_seed.estimate == pytest.approx(0.25)
    assert np.isnan(one_seed.on_these_tasks).all()
    perfect = statistics.median_red([[0.0, 0.0]] * 2, [[0.1, 0.1]] * 2)
    assert np.isnan(perfect.estimate) and np.isnan(perfect.on_these_tasks).all()
    assert np.isnan(statistics.median_red([], []).estimate)
    assert np.isnan(statistics.median_red([[0.1]], [[np.nan]]).estimate)


# What RED is on the tasks of a simulation. Drawn: from a normal and from a skew distribution, both
# with median 0. Fixed: all alike, and a hard case, half alike and the others far above.
REDS = {
    "normal": lambda generator, tasks: generator.normal(0, 0.1, tasks),
    "skew": lambda generator, tasks: generator.exponential(0.1, tasks) - 0.1 * np.log(2),
    "alike": lambda generator, tasks: np.zeros(tasks),
    "half alike": lambda generator, tasks: np.where(np.arange(tasks) < tasks // 2 + 1, 0.0, 0.5),
}


@pytest.mark.parametrize("reds", REDS)
@pytest.mark.parametrize(
    "tasks, seeds",
    [
        *((1, 2), (2, 2), (3, 5), (12, 5)),
        *(pytest.param(*between, marks=LONG_ONLY) for between in ((1, 5), (3, 3), (7, 5))),
    ],
)
def test_what_is_printed_as_95_percent_covers_95_percent(tasks, seeds, reds):
    generator = np.random.default_rng(0)
    cells, covered, printed = 500, np.zeros(2), np.zeros(2)
    for _ in range(cells):
        red = REDS[reds](generator, tasks)
        shared = generator.normal(0, 0.01, size=(tasks, seeds))  # what a seed does to both
        dog = 0.2 + shared + generator.normal(0, 0.01, size=(tasks, seeds))
        other = (1 - red)[:, None] * (0.2 + shared)
        other += generator.normal(0, 0.01, size=(tasks, seeds))
        estimates = [*map(statistics.relative_error_difference, dog, other)]
        these = statistics.median_red(list(dog), list(other), resamples=1000).on_these_tasks
        intervals = (these, np.median(red)), (statistics.sign_test_interval(estimates), 0)
        for place, ((low, high), truth) in enumerate(intervals):
            covered[place] += low <= truth <= high
            printed[place] += not np.isnan(low)
    # Down to three standard errors of this simulation, in which a percentile bootstrap of 5 seeds
    # covers 0.86 to 0.91 and of half alike tasks less.
    assert printed[0] == cells and covered[0] / cells >= 0.95 - 0.029
    # Tasks like these are those of a distribution.
    assert printed[1] == (cells if tasks >= statistics.LEAST_TASKS else 0)
    if printed[1] and reds != "half alike":
        assert covered[1] / cells >= 0.95 - 0.029


@pytest.mark.parametrize("tasks", [2, 3, 10])
def test_over_several_tasks_seeds_that_end_at_a_guess_leave_95_percent_covered(tasks):
    generator = np.random.default_rng(0)
    ends = np.where(generator.random((300, 2, tasks, 3)) < 0.2, 0.5, 0.05)
    ends += generator.normal(0, 0.005, ends.shape)
    found = [statistics.median_red(dog, other, resamples=500) for dog, other in ends]
    covered = [low <= 0 <= high for _, (low, high) in found]
    # With noise by the delta method 0.87 of three tasks.
    assert np.mean(covered) >= 0.95


def test_what_happens_on_few_seeds_is_not_covered_by_an_interval_of_three():
    """docs/statistics.md."""
    generator = np.random.default_rng(0)
    dog = np.where(generator.random((1000, 3)) < 0.2, 0.5, 0.05)
    dog, other = (errors + generator.normal(0, 0.003, (1000, 3)) for errors in (dog, 0.05))
    red = 1 - 0.05 / (0.2 * 0.5 + 0.8 * 0.05)
    found = [interval_on_one_task(*errors) for errors in zip(dog, other, strict=True)]
    assert 0.4 < np.mean([low <= red <= high for low, high in found]) < 0.6


HALF_ALIKE = np.repeat([0, 0.5], [6, 4])


@pytest.mark.parametrize(
    ("reds", "scatter", "covers"),
    [(HALF_ALIKE, 0.2, False), (HALF_ALIKE, 0.1, True), (np.linspace(-0.5, 0.5, 10), 0.2, True)],
)
def test_a_median_at_an_edge_is_covered_where_noise_is_small_and_a_middle_half_in_any_case(
    reds, scatter, covers
):
    """docs/statistics.md."""
    generator = np.random.default_rng(0)

    def simulate(*shape):
        dog, other = 1 + generator.normal(0, scatter, (2, *shape))
        return 0.2 * dog, 0.2 * (1 - reds)[:, None] * other

    truth = interquartile_mean_of_red(*simulate(10, 4000), resamples=1).estimate
    covered = []
    for _, *errors in zip(range(300), *simulate(300, 10, 3), strict=True):
        low, high = statistics.median_red(*errors, resamples=300).on_these_tasks
        middle = interquartile_mean_of_red(*errors, resamples=300)
        covered.append((low <= np.median(reds) <= high, middle.low <= truth <= middle.high))
    of_median, of_middle = np.mean(covered, axis=0)
    assert of_median >= 0.95 if covers else of_median < 0.9
    assert of_middle >= 0.95


def test_no_rival_errs_less_than_never_and_some_any_number_of_times_as_much():
    one = ([0.1, 0.3], [0.125, 0.175])  # of which nothing is known
    sure = ([0.2, 0.2], [0.1, 0.1])
    unknown = statistics.median_red(*zip(one, one, strict=True))
    assert unknown.on_these_tasks == (-np.inf, 1)
    # The median of three is between the two that are sure, whatever the third.
    three = statistics.median_red(*zip(sure, one, sure, strict=True))
    assert three.on_these_tasks == (0.5, 0.5)


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


def test_an_error_is_within_the_factor_that_it_is_of_the_best():
    best = np.arange(1, 200) / 1000
    errors = np.stack([best, best + 0.001])
    within = [
        statistics.performance_profile(pair[:, None], [pair[1] / pair[0]])[1, 0]
        for pair in errors.T
    ]
    assert set(within) == {1.0}
