"""The optimizers that DoG is compared with, where their packages' classes do not do.

Two things live here: adapters, and methods without a package, written from their papers. An adapter
is a subclass of a package's class, with a name of its own. It mends what the runner cannot do
without: a step for parameters without a gradient, a state that can be saved, ``telemetry()``. Its
steps are the package's, bit for bit. docs/rivals.md has a row for each.

A module imports torch and its package, which is in the extra ``rivals``.
"""
