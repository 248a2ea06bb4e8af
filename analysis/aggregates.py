"""The statistics of a leaderboard: over many problems a number for each optimizer, with interval.

After Agarwal and others 2021 (rliable, arXiv 2108.13264). Two things differ, as their percentile
bootstrap covers too little with our few seeds: see docs/statistics.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics import (
    ROUNDING,
    UNKNOWN,
    noise_of,
    red_of_means,
    studentised_interval,
    with_a_run,
)

# What each task's runs are, by seed: nan where a seed has no run.
Errors = Sequence[ArrayLike]

# Of an interquartile mean, which takes longer than a median.
RESAMPLES = 2000

# The 97.5 % quantile of the normal distribution.
_QUANTILE = 1.959964


class Estimate(NamedTuple):
    """A number and its 95 % interval, nan where that cannot be told."""

    estimate: float
    low: float
    high: float


def interquartile_mean(values: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """The mean of the middle half of values along the last axis, by their weights.

    `weights` has the shape of the last axis. A value at a quartile counts with what of its weight
    lies between them.

    >>> float(interquartile_mean([0, 1, 2, 9], [1, 1, 1, 1]))
    1.5
    """
    values, weights = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    order = np.argsort(values, axis=-1)
    shares = weights[order] / weights.sum()
    ends = np.cumsum(shares, axis=-1)
    inside = np.minimum(ends, 0.75) - np.maximum(ends - shares, 0.25)
    ordered = np.take_along_axis(values, order, axis=-1)
    # What is outside of the middle half may be infinite, and is outside whatever the rounding.
    counts = inside > ROUNDING
    return 2 * np.multiply(inside, ordered, out=np.zeros_like(ordered), where=counts).sum(-1)


def red_by_seed(dog_errors: ArrayLike, errors: ArrayLike) -> np.ndarray:
    """RED of each run of one task: (d_s − x_s) / d̄, whose mean is RED of seed means.

    Where the two sides have other seeds than each other it is (d̄ − x_s) / d̄.
    """
    dog, other, paired = with_a_run(dog_errors, errors)
    return ((dog if paired else dog.mean()) - other) / dog.mean()


def interquartile_mean_of_red(
    dog_errors: Errors, errors: Errors, resamples: int = RESAMPLES
) -> Estimate:
    """The interquartile mean of RED over all runs of all tasks, with the interval for other seeds.

    Both arguments hold an array of shape (seeds,) for each task. A task has the same weight
    whatever the number of its seeds. The interval is a studentised bootstrap, stratified by task:
    each task's runs are moved together, by a draw of `statistics.noise_of`. nan where a task has
    fewer than two seeds.
    """
    pairs = list(zip(dog_errors, errors, strict=True))
    reds = [red_by_seed(*pair) for pair in pairs]
    if not reds:
        return Estimate(np.nan, *UNKNOWN)
    values = np.concatenate(reds)
    task = np.repeat(np.arange(len(reds)), [red.size for red in reds])
    weights = np.concatenate([np.full(red.size, 1 / red.size) for red in reds])
    estimate = float(interquartile_mean(values, weights))
    noise = noise_of([red_of_means(*pair) for pair in pairs], resamples)

    def moved(noise: np.ndarray) -> np.ndarray:
        return interquartile_mean(values + noise[:, task], weights)

    return Estimate(estimate, *studentised_interval(moved, noise, estimate))


def probability_of_improvement(errors: Errors, rival_errors: Errors) -> Estimate:
    """How probably a run errs less than one of a rival, the mean over the tasks.

    On each task that is Mann and Whitney's statistic, the part of all pairs of runs in which the
    first errs less, and half of those in which they err alike. The interval is Wilson's, with as
    many trials as there are tasks times the fewest seeds of a side: the variance of the statistic
    is at most p(1 − p) / min(n, m). nan where a task has fewer than two seeds.

    >>> probability_of_improvement([[0.1, 0.2], [0.3]], [[0.2, 0.4], [0.3]]).estimate
    0.6875
    """
    sides = [with_a_run(mine, rival)[:2] for mine, rival in zip(errors, rival_errors, strict=True)]
    if not sides:
        return Estimate(np.nan, *UNKNOWN)
    chances = [
        np.mean((mine[:, None] < rival) + 0.5 * (mine[:, None] == rival)) for mine, rival in sides
    ]
    estimate, fewest = float(np.mean(chances)), min(side.size for pair in sides for side in pair)
    if fewest < 2:
        return Estimate(estimate, *UNKNOWN)
    share = _QUANTILE**2 / (len(sides) * fewest)
    middle = (estimate + share / 2) / (1 + share)
    half_width = np.sqrt(share * (estimate * (1 - estimate) + share / 4)) / (1 + share)
    return Estimate(estimate, float(middle - half_width), float(middle + half_width))


def pareto_front(scores: ArrayLike, costs: ArrayLike) -> np.ndarray:
    """Whether no other has a score at least as high at no higher cost, and one of them better.

    >>> pareto_front([0.5, 0.7, 0.6, 0.7], [1, 10, 10, 10]).tolist()
    [True, True, False, True]
    """
    scores, costs = np.asarray(scores, dtype=float), np.asarray(costs, dtype=float)
    no_worse = (scores[:, None] >= scores) & (costs[:, None] <= costs)
    better = (scores[:, None] > scores) | (costs[:, None] < costs)
    return np.asarray(~(no_worse & better).any(axis=0))
