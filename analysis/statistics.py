"""The statistics behind the tables: intervals over seeds and the relative error difference."""

import numpy as np
from numpy.typing import ArrayLike

# Below this many errors of DoG the relative difference is noise.
LEAST_ERRORS = 10


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


def has_enough_errors(dog_error: ArrayLike, examples: ArrayLike) -> np.ndarray:
    """Whether DoG errs on at least `LEAST_ERRORS` examples, elementwise; nan gives False."""
    # With a tolerance, because (1 − 0.99) · 1000 is a little less or more than 10.
    return np.asarray(dog_error, float) * np.asarray(examples, float) > LEAST_ERRORS - 1e-6


def binomial_standard_error(proportion: float, examples: int) -> float:
    """The test set's own sampling error √(p(1−p)/N), a fraction."""
    return float(np.sqrt(proportion * (1 - proportion) / examples))
