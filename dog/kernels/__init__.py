"""The passes over memory that a step makes, in three implementations of the same three functions.

``gradient2(bundle, grad_scale)``, ``distance2(bundle)`` and ``update(bundle, ...)``: see
:mod:`dog.kernels.reference`, which is the plain one and what the others are tested against.
"""
