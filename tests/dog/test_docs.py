"""The examples in docstrings run and print what they say; the public names are documented."""

import doctest
import importlib
import inspect

import pytest

import dog

MODULES = [
    "dog",
    "dog.accelerated",
    "dog.averaging",
    "dog.optimizer",
    "dog.variants",
    "benchmarks.counting",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_print_what_they_say(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0 and (result.attempted > 0 or name == "dog.averaging")


def test_public_surface_is_frozen():
    assert sorted(dog.__all__) == [
        "ADoG",
        "DistanceWeighted",
        "DoG",
        "LDoG",
        "PolynomialDecay",
        "PolynomialDecayAverager",
        "TDoG",
        "recomputed_batch_norm",
    ]


@pytest.mark.parametrize("name", dog.__all__)
def test_public_names_say_what_they_raise_or_take(name):
    public = getattr(dog, name)
    assert inspect.getdoc(public)
    if not inspect.isclass(public):
        return
    documented = inspect.getdoc(public) + (inspect.getdoc(public.__mro__[1]) or "")
    for argument in inspect.signature(public).parameters:
        if argument not in ("params", "options", "args", "kwds"):
            assert f"{argument}:" in documented or "are those of" in documented, argument


def test_tdogs_docstring_holds_its_formula():
    assert r"\theta_{T,\delta}" in dog.TDoG.__doc__ and "\t" not in dog.TDoG.__doc__
