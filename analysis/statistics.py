"""The statistics behind the tables: RED, intervals over seeds and tasks, verdicts, break-even."""

from collections.abc import Sequence
from math import comb
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Below this many errors of DoG the relative difference is noise.
LEAST_ERRORS = 10

# DoG is "close to" a rival whose RED is below this. Fixed before any run was made, by the project's
# statistics protocol; changing it after results are known would make the verdicts worthless.
MARGIN = 0.05

# Below this many tasks their whole range holds the median of all tasks like them in fewer than 95
# of 100 cases: 1 − 2·½ᵀ.
LEAST_TASKS = 6

# With fewer seeds an interval from resampling them covers too little for a verdict: of 3 seeds 78
# to 86 of 100 cases, of 5 seeds 86 to 91.
LEAST_SEEDS = 5

RESAMPLES = 10_000
UNKNOWN = (np.nan, np.nan)


def student_t(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Mean and half width of Student's t interval of a cell's scores.

    `values` has shape (seeds,); both results have its unit. One value has no interval (nan). With
    five seeds t covers what it promises; a percentile bootstrap or 1.96 standard errors do not.

    >>> mean, half_width = student_t([0.80, 0.82, 0.84])
    >>> round(mean, 4), round(half_width, 4)
    (0.82, 0.0497)
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        return np.nan, np.nan
    if values.size == 1:
        return float(values[0]), np.nan
    # Late, and not scipy.stats, whose import alone takes a second.
    from scipy.special import stdtrit

    quantile = stdtrit(values.size - 1, (1 + confidence) / 2)
    standard_error = values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(quantile * standard_error)


def error(score: ArrayLike, higher_is_better: ArrayLike) -> np.ndarray:
    """The error of a score, elementwise: 1 − metric, or the metric itself where lower is better."""
    score = np.asarray(score, dtype=float)
    return np.where(np.asarray(higher_is_better, dtype=bool), 1 - score, score)


def gain(score: ArrayLike, higher_is_better: ArrayLike) -> np.ndarray:
    """What is larger where the score is better, elementwise."""
    score = np.asarray(score, dtype=float)
    return np.where(np.asarray(higher_is_better, dtype=bool), score, -score)


def relative_error_difference(dog_errors: ArrayLike, errors: ArrayLike) -> float:
    """RED of seed means, our headline: (mean err_DoG − mean err_x) / mean err_DoG.

    Both arguments have shape (seeds,), not necessarily the same. Positive: x beats DoG. nan where
    DoG makes no error or a side has no seeds.
    """
    dog, other = np.asarray(dog_errors, dtype=float), np.asarray(errors, dtype=float)
    if dog.size == 0 or other.size == 0 or dog.mean() == 0:
        return np.nan
    return float((dog.mean() - other.mean()) / dog.mean())


def relative_error_difference_of_pairs(dog_errors: ArrayLike, errors: ArrayLike) -> float:
    """RED as published (Ivgi, Hinder, Carmon 2023): the mean over all pairs of seeds.

    Mean over i, j of (d_i − x_j) / d_i, with d_i of shape (DoG's seeds,) and x_j of (x's seeds,).
    """
    dog, other = np.asarray(dog_errors, dtype=float), np.asarray(errors, dtype=float)
    if dog.size == 0 or other.size == 0 or (dog == 0).any():
        return np.nan
    return float(np.mean((dog[:, None] - other[None, :]) / dog[:, None]))


def has_enough_errors(
    dog_error: ArrayLike, examples: ArrayLike, higher_is_better: ArrayLike
) -> np.ndarray:
    """Whether DoG errs on at least `LEAST_ERRORS` examples, elementwise; nan gives False.

    Where lower is better (a suboptimality) the error counts no examples, and any above 0 is enough.
    """
    dog_error = np.asarray(dog_error, dtype=float)
    # With a tolerance, because (1 − 0.99) · 1000 is a little less or more than 10.
    several = dog_error * np.asarray(examples, dtype=float) > LEAST_ERRORS - 1e-6
    return np.where(np.asarray(higher_is_better, dtype=bool), several, dog_error > 0)


def binomial_standard_error(proportion: float, examples: int) -> float:
    """The test set's own sampling error √(p(1−p)/N), a fraction."""
    return float(np.sqrt(proportion * (1 - proportion) / examples))


def student_t_of_red(
    dog_errors: ArrayLike, errors: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """(low, high) of RED of seed means on one task, by Student's t and the delta method.

    Both arguments have shape (seeds,), nan where a seed has no run. RED is 1 − r with the ratio of
    means r = x̄ / d̄, which errs by (x̄ − r·d̄) / d̄ to first order; the next order is smaller by
    d̄'s own relative error, a few percent here. So where both sides have the same seeds, whose runs
    share head, data order and dropout, it is the t interval of the mean of x_i − r·d_i over d̄;
    otherwise Welch's of x̄ − r·d̄. Where r is 1 these are the intervals of the mean of d − x over
    d̄; elsewhere those would count DoG's own spread wrongly. nan where a side has fewer than two
    seeds or d̄ is 0.

    >>> low, high = student_t_of_red([0.1, 0.3], [0.2, 0.2])
    >>> round(low, 3), round(high, 3)
    (-6.353, 6.353)
    """
    dog, other = np.asarray(dog_errors, dtype=float), np.asarray(errors, dtype=float)
    paired = _is_paired(dog, other)
    dog, other = dog[~np.isnan(dog)], other[~np.isnan(other)]
    if min(dog.size, other.size) < 2 or dog.mean() == 0:
        return UNKNOWN
    ratio = other.mean() / dog.mean()
    sides = [other - ratio * dog] if paired else [other, ratio * dog]
    variances = np.array([side.var(ddof=1) / side.size for side in sides])
    half_width = 0.0
    if variances.any():
        from scipy.special import stdtrit

        freedoms = np.array([side.size - 1 for side in sides])
        freedom = variances.sum() ** 2 / (variances**2 / freedoms).sum()
        quantile = stdtrit(freedom, (1 + confidence) / 2)
        half_width = quantile * np.sqrt(variances.sum()) / dog.mean()
    return float(1 - ratio - half_width), float(1 - ratio + half_width)


def _is_paired(dog: np.ndarray, other: np.ndarray) -> bool:
    """Whether both have the same seeds; nan where a seed has no run."""
    return dog.shape == other.shape and bool((np.isnan(dog) == np.isnan(other)).all())


class Intervals(NamedTuple):
    """The median of RED over tasks, and (low, high) of what it may be, each a fraction.

    `on_these_tasks` answers for other seeds on the same tasks, `on_tasks_like_these` for other
    tasks too. nan where it cannot be told: the first needs two seeds a task, the second two tasks,
    and both an error of DoG in every run.
    """

    estimate: float
    on_these_tasks: tuple[float, float]
    on_tasks_like_these: tuple[float, float]


def intervals_over_tasks(
    dog_errors: Sequence[ArrayLike], errors: Sequence[ArrayLike], resamples: int = RESAMPLES
) -> Intervals:
    """The median over tasks of RED of seed means, with two 95 % intervals.

    Both arguments hold an array of shape (seeds,) for each task: the errors in the order of the
    seeds, nan where a seed has no run. On one task `student_t_of_red` is the interval; over several
    seeds, or tasks and then seeds, are resampled and percentiles taken. Where both sides have the
    same seeds these are resampled together, because a seed's runs share head, data order and
    dropout; otherwise each side by itself. The generator is fixed: the same errors give the same
    intervals.

    What they cover is measured in tests/analysis/test_statistics.py: on one task the nominal 95 %;
    resampling 5 seeds of several tasks 86 to 91 %, which is why fewer than `LEAST_SEEDS` bear no
    verdict; resampling tasks, what it promises, if they are many. Over fewer than `LEAST_TASKS` no
    interval can.

    >>> intervals = intervals_over_tasks([[0.2, 0.2], [0.4, 0.4]], [[0.1, 0.1], [0.4, 0.4]])
    >>> intervals.estimate, intervals.on_these_tasks, intervals.on_tasks_like_these
    (0.25, (0.25, 0.25), (0.0, 0.5))
    """
    pairs = [
        (np.asarray(dog, dtype=float), np.asarray(other, dtype=float))
        for dog, other in zip(dog_errors, errors, strict=True)
    ]
    if not pairs or any(np.isnan(side).all() for pair in pairs for side in pair):
        return Intervals(np.nan, UNKNOWN, UNKNOWN)
    known = [(dog[~np.isnan(dog)], other[~np.isnan(other)]) for dog, other in pairs]
    estimate = float(np.median([relative_error_difference(*pair) for pair in known]))
    if any((dog == 0).any() for dog, _ in known):
        return Intervals(estimate, UNKNOWN, UNKNOWN)
    if len(pairs) == 1:
        return Intervals(estimate, student_t_of_red(*pairs[0]), UNKNOWN)
    generator = np.random.default_rng(0)
    # Of shape (resamples, tasks).
    resampled = np.stack(
        [_resample_seeds(dog, other, resamples, generator) for dog, other in pairs], axis=1
    )
    tasks = generator.integers(len(pairs), size=resampled.shape)
    # Another row for each task drawn: a task drawn twice has its seeds drawn twice, too.
    rows = generator.integers(resamples, size=resampled.shape)

    def interval(values: np.ndarray) -> tuple[float, float]:
        low, high = np.quantile(np.median(values, axis=1), [0.025, 0.975])
        return float(low), float(high)

    several_seeds = min(side.size for pair in known for side in pair) > 1
    return Intervals(
        estimate,
        interval(resampled) if several_seeds else UNKNOWN,
        interval(resampled[rows, tasks]),
    )


def _resample_seeds(
    dog: np.ndarray, other: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """RED of seed means of a task, of shape (resamples,), each of seeds drawn with replacement."""
    paired = _is_paired(dog, other)
    dog, other = dog[~np.isnan(dog)], other[~np.isnan(other)]
    # Of shape (seeds, resamples): sums along the first axis are several times as fast.
    of_dog = generator.integers(dog.size, size=(dog.size, resamples))
    of_other = of_dog if paired else generator.integers(other.size, size=(other.size, resamples))
    dog_mean = dog[of_dog].mean(axis=0)
    return (dog_mean - other[of_other].mean(axis=0)) / dog_mean


Verdict = Literal["better", "non-inferior", "worse", "inconclusive"]


def verdict(low: float, high: float, margin: float = MARGIN) -> Verdict:
    """What the interval of a rival's RED says of DoG: that it is "close to" the rival, or not.

    Positive RED: the rival beats DoG. DoG is better if the whole interval is below 0, non-inferior
    if it is below the margin, worse if it is above 0 and reaches the margin, and inconclusive
    otherwise, also where there is no interval (nan).

    >>> verdict(-0.10, -0.02), verdict(-0.02, 0.04), verdict(0.01, 0.08), verdict(-0.02, 0.08)
    ('better', 'non-inferior', 'worse', 'inconclusive')
    """
    if high < 0:
        return "better"
    if high < margin:
        return "non-inferior"
    return "worse" if low > 0 else "inconclusive"


class BreakEven(NamedTuple):
    """What tuning on k = 1…K settings gives and costs; arrays of shape (K,)."""

    errors: np.ndarray  # expected test error of the best on validation
    hours: np.ndarray  # expected time of the k runs
    runs: int | None  # the first k whose expected error is at most DoG's; None: never


def break_even(
    validation: ArrayLike, errors: ArrayLike, seconds: ArrayLike, dog_error: float
) -> BreakEven:
    """From how many runs on tuning a learning rate is no worse than DoG, which needs one.

    The arguments have shape (K,), an entry a setting of the grid: its validation score (higher is
    better), its test error and its time. Of k settings drawn without replacement the best on
    validation is taken; of equal ones the first given, the smaller learning rate. Exact: of rank
    i = 0…K−1, a setting is the best of k with probability C(K−1−i, k−1) / C(K, k).

    Two settings, of which the better on validation errs 0.1 and the other 0.3:

    >>> break_even([0.6, 0.8], [0.3, 0.1], [1800, 5400], dog_error=0.15)
    BreakEven(errors=array([0.2, 0.1]), hours=array([1., 2.]), runs=2)
    """
    ranking = np.argsort(-np.asarray(validation, dtype=float), kind="stable")
    ranked = np.asarray(errors, dtype=float)[ranking]
    count = ranked.size
    chances = np.array(
        [
            [comb(count - 1 - rank, k - 1) / comb(count, k) for rank in range(count)]
            for k in range(1, count + 1)
        ]
    ).reshape(count, count)
    expected = chances @ ranked
    # With a tolerance: an average of equal errors may differ from them in the last digit.
    caught_up = np.flatnonzero(expected <= dog_error + 1e-12)
    seconds = np.asarray(seconds, dtype=float)
    hours = np.arange(1, count + 1) * (seconds.mean() if count else np.nan) / 3600
    return BreakEven(expected, hours, int(caught_up[0]) + 1 if caught_up.size else None)


def performance_profile(errors: ArrayLike, taus: ArrayLike) -> np.ndarray:
    """On what part of the tasks each optimizer's error is at most τ times the best one there.

    `errors` has shape (optimizers, tasks), nan where there is no result, which is never within
    reach of the best; `taus` has shape (taus,). Returns shape (optimizers, taus). Dolan and Moré
    2002, with errors in place of times.

    >>> performance_profile([[0.1, 0.4], [0.2, 0.3]], [1.0, 1.5, 2.0]).tolist()
    [[0.5, 1.0, 1.0], [0.5, 0.5, 1.0]]
    """
    errors = np.asarray(errors, dtype=float)
    reach = np.asarray(taus, dtype=float)[:, None] * np.fmin.reduce(errors, axis=0)
    return (errors[:, None, :] <= reach[None]).mean(axis=2)
