"""Learning-rate-free optimizers: DoG, L-DoG and the iterate averaging they need.

    >>> from dog import DoG, LDoG, PolynomialDecayAverager

A drop-in for the package `dog-optimizer`. Needs torch and nothing else.
"""

from dog.averaging import PolynomialDecayAverager
from dog.optimizer import DoG, LDoG

__all__ = ["DoG", "LDoG", "PolynomialDecayAverager"]
