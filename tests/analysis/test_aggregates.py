"""The statistics of leaderboards agree with calculations by hand, and their intervals cover."""

import numpy as np
import pytest

from analysis import aggregates


def iqm(values, weights=None):
    weights = np.ones(len(values)) if weights is None else weights
    return float(aggregates.interquartile_mean(values, weights))


def test_the_interquartile_mean_is_that_of_the_middle_half():
    # Of eight the middle four: 2, 3, 4, 5. The order they come in does not matter.
    assert iqm([7, 0, 6, 1, 5, 2, 4, 3]) == pytest.approx(3.5)
    assert iqm([7, -1000, 1000, 1, 5, 2, 4, 3]) == pytest.approx(3.5)
    # Of three, each a third: from ¼ to ⅓ the first, all of the second, from ⅔ to ¾ the third.
    # (1/12 · 0 + 1/3 · 1 + 1/12 · 5) / (1/2)
    assert iqm([0, 1, 5]) == pytest.approx(1.5)
    assert iqm([4.0]) == 4.0
    # Weights 3 and 1: the first has the shares 0 to ¾, all of the middle half.
    assert iqm([2.0, 9.0], [3, 1]) == pytest.approx(2.0)


@pytest.mark.parametrize(("tasks", "seeds"), [(12, 5), (20, 3), (20, 5)])
def test_what_ends_at_a_quartile_may_be_infinite_whatever_the_rounding(tasks, seeds):
    weights = np.full(tasks * seeds, 1 / seeds)
    below = np.where(np.arange(weights.size) < weights.size // 4, -np.inf, 1.0)
    assert iqm(below, weights) == pytest.approx(1)
    assert iqm(-below, weights) == pytest.approx(-1)


def test_red_by_seed_is_paired_where_the_seeds_are_the_same_and_its_mean_is_red_of_means():
    # d̄ is 0.3: (0.2 − 0.1) / 0.3 and (0.4 − 0.4) / 0.3.
    assert aggregates.red_by_seed([0.2, 0.4], [0.1, 0.4]) == pytest.approx([1 / 3, 0])
    # Other seeds: (0.3 − 0.1) / 0.3 and (0.3 − 0.4) / 0.3. The mean is the same, 1/6.
    apart = aggregates.red_by_seed([0.2, 0.4, np.nan], [0.1, np.nan, 0.4])
    assert apart == pytest.approx([2 / 3, -1 / 3])
    assert aggregates.red_by_seed([0.2, 0.4], [0.2, 0.4]).tolist() == [0, 0]


def test_the_interquartile_mean_of_red_pools_runs_and_weighs_tasks_alike():
    # REDs: of the first task 0.5 and 0.25 (d̄ 0.4), of the second 0 twice, of the third −1 once,
    # which weighs as much as two: shares ⅙ each and ⅓. Sorted −1 (0 to ⅓), 0 (⅓ to ⅔), 0.25 (⅔ to
    # ⅚), 0.5: in the middle half 1/12 of −1, ⅓ of 0 and 1/12 of 0.25.
    dog = [[0.4, 0.4], [0.2, 0.2], [0.1]]
    other = [[0.2, 0.3], [0.2, 0.2], [0.2]]
    found = aggregates.interquartile_mean_of_red(dog, other)
    assert found.estimate == pytest.approx(2 * (-1 + 0.25) / 12)
    # One seed on a task: how much it varies is not known.
    assert np.isnan([found.low, found.high]).all()


def test_of_one_task_the_interval_is_students_t_around_the_interquartile_mean():
    # REDs 0, 0.1, 0.2, 0.3: standard deviation 0.1291, half width 3.1824 · 0.1291 / 2.
    dog, other = [[1.0] * 4], [[1.0, 0.9, 0.8, 0.7]]
    found = aggregates.interquartile_mean_of_red(dog, other, resamples=100_000)
    assert found.estimate == pytest.approx(0.15)
    assert found.high - 0.15 == pytest.approx(3.1824 * 0.1291 / 2, rel=0.02)
    assert found.low == pytest.approx(2 * 0.15 - found.high)
    again = aggregates.interquartile_mean_of_red(dog, other, resamples=100_000)
    assert again == found


def test_dog_against_itself_is_nothing_without_doubt_and_no_tasks_are_unknown():
    errors = [[0.2, 0.3], [0.1, 0.5]]
    assert aggregates.interquartile_mean_of_red(errors, errors) == (0, 0, 0)
    assert np.isnan(aggregates.interquartile_mean_of_red([], [])).all()
    assert np.isnan(aggregates.probability_of_improvement([], [])).all()


def test_the_probability_of_improvement_counts_pairs_and_ties_as_half():
    # Of 0.1 and 0.2 against 0.2 and 0.4: less, less, alike, less: 3.5 of 4. Alike on the other: ½.
    found = aggregates.probability_of_improvement([[0.1, 0.2], [0.3]], [[0.2, 0.4], [0.3]])
    assert found.estimate == pytest.approx((3.5 / 4 + 0.5) / 2)
    assert np.isnan([found.low, found.high]).all()  # one seed on the second
    # The other way round it is the rest.
    back = aggregates.probability_of_improvement([[0.2, 0.4], [0.3]], [[0.1, 0.2], [0.3]])
    assert back.estimate == pytest.approx(1 - found.estimate)


def test_the_interval_of_the_probability_is_wilsons_and_never_a_point():
    # Always better, 2 tasks of 5 and 4 seeds: 8 trials. Wilson: 8 / (8 + 1.96²) to 1.
    found = aggregates.probability_of_improvement([[0.1] * 5] * 2, [[0.2] * 4] * 2)
    assert found.estimate == 1
    assert (found.low, found.high) == pytest.approx((8 / (8 + 3.8415), 1), abs=1e-4)
    # Half of 10: 0.5 ± 1.96 · √(0.25 / 10 + 3.8415 / 400) / (1 + 0.38415).
    found = aggregates.probability_of_improvement([[0.1] * 5] * 2, [[0.1] * 5] * 2)
    half_width = 1.96 * np.sqrt(0.025 + 3.8415 / 400) / 1.38415
    assert (found.low, found.high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=1e-4)


def test_the_pareto_front_has_ties_and_no_line_that_another_beats():
    # By cost 1: 5 and 3; by cost 2: 5, for more; by cost 4: 9 twice, and 8.
    front = aggregates.pareto_front([5, 3, 5, 9, 9, 8], [1, 1, 2, 4, 4, 4])
    assert front.tolist() == [True, False, False, True, True, False]
    assert aggregates.pareto_front([1.0], [1]).tolist() == [True]


@pytest.mark.parametrize("spread", [0.0, 0.2])
@pytest.mark.parametrize("tasks, seeds", [(1, 3), (3, 3), (4, 5)])
def test_what_is_printed_as_95_percent_covers_95_percent(tasks, seeds, spread):
    generator = np.random.default_rng(0)
    reds = np.linspace(-spread, 2 * spread, tasks) if tasks > 1 else np.zeros(1)

    def errors(seeds):
        shared = generator.normal(0, 0.01, size=(tasks, seeds))  # what a seed does to both
        dog = 0.2 + shared + generator.normal(0, 0.01, size=(tasks, seeds))
        noise = generator.normal(0, 0.01, size=(tasks, seeds))
        return dog, (1 - reds)[:, None] * (0.2 + shared) + noise

    many = errors(20_000)
    better = np.mean([np.mean(other < dog) for dog, other in zip(*many, strict=True)])
    truths = (aggregates.interquartile_mean_of_red(*map(list, many), resamples=1).estimate, better)
    cells, covered = 400, np.zeros(2)
    for _ in range(cells):
        dog, other = map(list, errors(seeds))
        found = (
            aggregates.interquartile_mean_of_red(dog, other, resamples=500),
            aggregates.probability_of_improvement(other, dog),
        )
        covered += [one.low <= truth <= one.high for one, truth in zip(found, truths, strict=True)]
    # Down to three standard errors of this simulation.
    assert (covered / cells >= 0.95 - 0.033).all(), covered / cells
