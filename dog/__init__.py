"""Learning-rate-free optimizers: DoG, L-DoG, T-DoG, A-DoG and the iterate averaging they need.

    >>> from dog import DoG, LDoG, TDoG, PolynomialDecayAverager

A drop-in for the package `dog-optimizer`. Needs torch and nothing else.
"""

from dog.accelerated import ADoG
from dog.averaging import (
    DistanceWeighted,
    PolynomialDecay,
    PolynomialDecayAverager,
    recomputed_batch_norm,
)
from dog.optimizer import DoG
from dog.variants import LDoG, TDoG

__all__ = [
    "ADoG",
    "DistanceWeighted",
    "DoG",
    "LDoG",
    "PolynomialDecay",
    "PolynomialDecayAverager",
    "TDoG",
    "recomputed_batch_norm",
]
