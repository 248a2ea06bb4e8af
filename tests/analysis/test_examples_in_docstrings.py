"""The examples in docstrings of analysis/ print what they say."""

import doctest
from importlib import import_module

import pytest
from conftest import ROOT

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "analysis").rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_print_what_they_say(name):
    failed, tried = doctest.testmod(import_module(name))
    assert tried and not failed
