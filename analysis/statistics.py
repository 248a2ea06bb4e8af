"""The statistics behind the tables: RED, intervals over seeds and tasks, verdicts, break-even."""

from collections.abc import Callable, Sequence
from math import comb
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

# Below this many errors of DoG the relative difference is noise.
LEAST_ERRORS = 10

# DoG is "close to" a rival whose RED is below this. Fixed before any run was made, by the project's
# statistics protocol; changing it after results are known would make the verdicts worthless.
MARGIN = 0.05

# With fewer tasks there is no 95 % interval on "tasks like these": even their whole range holds the
# median of all such tasks in fewer than 95 of 100 cases, 1 − 2·½ᵀ.
LEAST_TASKS = 6

# Metrics whose error is a rate of examples. Matthews' correlation, F1 or a loss counts none.
RATES = ("accuracy", "squad_exact")

# Metrics in −1..1, which are shown so: nobody writes a correlation in percent.
CORRELATIONS = ("matthews", "pearson")

RESAMPLES = 10_000
# What is nothing but the rounding of floats, in a RED.
ROUNDING = 1e-12
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


def error_name(problem: pd.Series) -> str:
    """The word for a problem's error, and how it is made of a score that is no rate of examples."""
    if problem.metric in RATES or not problem.higher_is_better:
        return "error"
    return f"error (1 − {problem.metric})"


def is_in_percent(problem: pd.Series) -> bool:
    """Whether a problem's scores and errors are shown in percent: those that are parts of 1."""
    return bool(problem.higher_is_better) and problem.metric not in CORRELATIONS


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


def has_enough_errors(dog_error: ArrayLike, examples: ArrayLike, metric: ArrayLike) -> np.ndarray:
    """Whether DoG's error bears a relative difference, elementwise; nan gives False.

    Of a metric that is a rate of examples (`RATES`) DoG must err on at least `LEAST_ERRORS`; the
    error of another metric counts no examples, and any above 0 is enough.
    """
    dog_error = np.asarray(dog_error, dtype=float)
    # With a tolerance, because (1 − 0.99) · 1000 is a little less or more than 10.
    several = dog_error * np.asarray(examples, dtype=float) > LEAST_ERRORS - 1e-6
    return np.where(np.isin(metric, RATES), several, dog_error > 0)


def binomial_standard_error(proportion: float, examples: int) -> float:
    """The test set's own sampling error √(p(1−p)/N), a fraction."""
    return float(np.sqrt(proportion * (1 - proportion) / examples))


def with_a_run(one: ArrayLike, other: ArrayLike) -> tuple[np.ndarray, np.ndarray, bool]:
    """Both sides' values without nan, and whether they are of the same seeds.

    The arguments have shape (seeds,), nan where a seed has no run.
    """
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    paired = one.shape == other.shape and bool((np.isnan(one) == np.isnan(other)).all())
    return one[~np.isnan(one)], other[~np.isnan(other)], paired


class RedOfMeans(NamedTuple):
    """RED of seed means on one task, and how sure it is.

    With the ratio of means r = x̄ / d̄, of which RED is 1 − r, and the residual e = x̄ − r·d̄:

    Attributes:
        estimate: RED.
        standard_error: of e, over d̄. To first order it is that of RED.
        freedom: degrees of freedom.
        of_reference: the variance of d̄, over d̄².
        covariance: of e and d̄, over d̄².
    """

    estimate: float
    standard_error: float
    freedom: float
    of_reference: float = 0.0
    covariance: float = 0.0

    def at(self, t: ArrayLike) -> np.ndarray:
        """The RED against which the data have so much of Student's t, elementwise (Fieller 1954).

        It is 1 − ρ, where the mean of x − ρ·d is so many of its own standard errors from 0: of
        t = 0 the estimate, and as sure as Student's t where d̄ is. Where d̄ itself may be 0 by so
        much of t, the rival may err any number of times as much: −inf. No rival errs less than
        never: at most 1. nan where there is no standard error.
        """
        t = np.asarray(t, dtype=float)
        if np.isnan(self.standard_error):
            return np.full_like(t, np.nan)
        if self.standard_error < ROUNDING:  # the rival errs so many times as much on each seed
            return np.full_like(t, self.estimate)
        # With ρ = r + δ: a·δ² + 2b·δ − c = 0.
        a, b = 1 - t**2 * self.of_reference, t**2 * self.covariance
        c = (t * self.standard_error) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(b**2 + a * c)  # nan: nothing is ruled out
            low, high = self.estimate + np.sort([(b - root) / a, (b + root) / a], axis=0)
        bounded = a > 0
        # Else all is left but what is between the two, and of that what is at most 1.
        below = ~bounded & (self.estimate <= low) & (high > 1)
        upper = np.where(bounded, high, np.where(below, low, 1))
        return np.where(t < 0, np.where(bounded, low, -np.inf), np.minimum(upper, 1))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Fieller's interval of RED: exact for normal errors of the same seeds.

        It holds each RED that Student's t does not tell from that of the data. nan where there is
        no standard error.
        """
        from scipy.special import stdtrit

        t = stdtrit(self.freedom, (1 + confidence) / 2)
        low, high = self.at([-t, t]).tolist()
        return low, high

    def with_seeds(self, times: float, freedom: float) -> "RedOfMeans":
        """Return what so many times the seeds would give if they are like these.

        Args:
            times: the number of seeds, over that of these.
            freedom: the same of the degrees of freedom.
        """
        return RedOfMeans(
            self.estimate,
            self.standard_error / times**0.5,
            self.freedom * freedom,
            self.of_reference / times,
            self.covariance / times,
        )


def red_of_means(dog_errors: ArrayLike, errors: ArrayLike) -> RedOfMeans:
    """RED of seed means on one task, and how sure it is.

    Both arguments have shape (seeds,), nan where a seed has no run. Where both sides have the same
    seeds, whose runs share head, data order and dropout, the residual's error is that of the mean
    of x_i − r·d_i; otherwise that of x̄ − r·d̄ as Welch has it. nan where a side has fewer than two
    seeds or d̄ is 0.
    """
    dog, other, paired = with_a_run(dog_errors, errors)
    red = relative_error_difference(dog, other)
    if min(dog.size, other.size) < 2 or dog.mean() == 0:
        return RedOfMeans(red, np.nan, np.nan)
    mean = dog.mean()
    ratio = other.mean() / mean
    sides = [other - ratio * dog] if paired else [other, ratio * dog]
    variances = np.array([side.var(ddof=1) / side.size for side in sides])
    freedoms = np.array([side.size - 1 for side in sides])
    spread = (variances**2 / freedoms).sum()
    freedom = variances.sum() ** 2 / spread if spread else freedoms.sum()
    of_reference = dog.var(ddof=1) / dog.size / mean**2
    covariance = -ratio * of_reference
    if paired:
        covariance = np.cov(sides[0], dog)[0, 1] / dog.size / mean**2
    standard_error = np.sqrt(variances.sum()) / mean
    numbers = (red, standard_error, freedom, of_reference, covariance)
    return RedOfMeans(*map(float, numbers))


def noise_of(reds: Sequence[RedOfMeans], resamples: int) -> np.ndarray:
    """Draws of how far each task's RED may be off: shape (resamples, tasks), always the same.

    They are of Fieller's distribution: of RED at draws of Student's t with its degrees of freedom.
    """
    freedoms = [red.freedom for red in reds]
    t = np.random.default_rng(0).standard_t(freedoms, size=(resamples, len(reds)))
    pairs = zip(reds, t.T, strict=True)
    return np.stack([red.at(column) - red.estimate for red, column in pairs], axis=1)


def studentised_interval(
    summary: Callable[[np.ndarray], np.ndarray], noise: np.ndarray, estimate: float
) -> tuple[float, float]:
    """The 95 % interval of a number over tasks, such as the median of RED.

    It is the estimate ± how far 95 % of draws are from it at most. (Symmetric, because the median
    of noisy numbers is biased: percentiles of the same draws cover 50 % in a bad case. The noise of
    a RED is skewed, which can hide that bias: where draws with the noise turned round are further
    away, they count.) At most 1; nan where noise is.

    Args:
        summary: takes noise of each task, shape (resamples, tasks), and returns what the number is
            where each task's RED is off by so much, shape (resamples,).
        noise: of `noise_of`.
        estimate: the number without noise.
    """
    if np.isnan(noise).any():
        return UNKNOWN
    distances = [np.abs(summary(sign * noise) - estimate) for sign in (1, -1)]
    # Between the draws and infinity there is nothing to interpolate.
    half_width = float(np.quantile(distances, 0.95, axis=1, method="higher").max())
    return estimate - half_width, min(estimate + half_width, 1.0)


class MedianRed(NamedTuple):
    """The median of RED over tasks, and (low, high) of what it may be, each a fraction.

    The interval is for other seeds on the same tasks (for other tasks: `sign_test_interval`). nan
    where it cannot be told: it needs two seeds of both sides on each task.
    """

    estimate: float
    on_these_tasks: tuple[float, float]


def median_red(
    dog_errors: Sequence[ArrayLike], errors: Sequence[ArrayLike], resamples: int = RESAMPLES
) -> MedianRed:
    """The median over tasks of RED of seed means, with its 95 % interval on these tasks.

    Both arguments hold an array of shape (seeds,) for each task: the errors in the order of the
    seeds, nan where a seed has no run.

    Of one task it is Fieller's interval. Of several it is a studentised bootstrap: each task's RED
    is drawn from Fieller's distribution, and `studentised_interval` is of the median of such draws.
    The generator is fixed: the same errors give the same interval. It covers 95 % or more in
    simulations of tests/analysis/test_statistics.py, which has the cases in which it does not, too.

    >>> median_red([[0.2, 0.2], [0.4, 0.4]], [[0.1, 0.1], [0.4, 0.4]])
    MedianRed(estimate=0.25, on_these_tasks=(0.25, 0.25))
    """
    tasks = [red_of_means(*pair) for pair in zip(dog_errors, errors, strict=True)]
    reds = np.array([task.estimate for task in tasks])
    if not tasks or np.isnan(reds).any():
        return MedianRed(np.nan, UNKNOWN)
    estimate = float(np.median(reds))
    if len(tasks) == 1:
        these = tasks[0].interval()
    else:
        noise = noise_of(tasks, resamples)
        these = studentised_interval(lambda n: np.median(reds + n, axis=1), noise, estimate)
    return MedianRed(estimate, these)


def sign_test_interval(values: ArrayLike) -> tuple[float, float]:
    """The innermost two of values between which 95 % of medians lie; nan if there are none.

    Of the REDs of tasks it is the interval of their median on tasks like these. It rests on nothing
    but that the tasks were drawn independently; the spread over seeds is in the REDs. Fewer than
    `LEAST_TASKS` have none.

    The k-th smallest and the k-th largest of T hold the median with probability
    1 − 2·P(Bin(T, ½) < k).
    """
    values = np.sort(np.asarray(values, dtype=float))
    count = values.size
    outside, place = 2 * 0.5**count, 0
    if outside > 0.05:
        return UNKNOWN
    while (more := outside + 2 * comb(count, place + 1) * 0.5**count) <= 0.05:
        outside, place = more, place + 1
    return float(values[place]), float(values[-1 - place])


Verdict = Literal["better", "non-inferior", "worse", "inconclusive"]


def verdict(low: float, high: float) -> Verdict:
    """What the interval of a rival's RED says of DoG: that it is "close to" the rival, or not.

    Positive RED: the rival beats DoG. DoG is better if the whole interval is below 0, non-inferior
    if it is below the margin, worse if it is above 0 and reaches the margin, and inconclusive
    otherwise, also where there is no interval (nan).

    >>> verdict(-0.10, -0.02), verdict(-0.02, 0.04), verdict(0.01, 0.08), verdict(-0.02, 0.08)
    ('better', 'non-inferior', 'worse', 'inconclusive')
    """
    if high < 0:
        return "better"
    if high < MARGIN:
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
    # With a tolerance: τ may be a ratio of errors, which times the best is a little less than one.
    reach = (1 + ROUNDING) * np.asarray(taus, dtype=float)[:, None] * np.fmin.reduce(errors, axis=0)
    return (errors[:, None, :] <= reach[None]).mean(axis=2)
