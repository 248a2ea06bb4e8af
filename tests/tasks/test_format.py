"""Times, sizes, numbers and near names are written in one way."""

import pytest

from tasks import format as formatted


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0.4 s"), (1.25, "1.2 s"), (70, "70 s"), (99.6, "1.7 min"), (720, "12 min"),
        (11304, "3.1 h"), (90 * 3600, "90 h"), (120 * 3600, "5.0 days"), (1e9, "11574 days"),
        (float("nan"), "–"),
    ],
)  # fmt: skip
def test_a_time_is_in_the_unit_that_suits_it(seconds, text):
    assert formatted.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1500, "1.5 KB"), (156.3e6, "156.3 MB"), (2e12, "2.0 TB")]
)
def test_a_size_is_in_the_unit_that_suits_it(count, text):
    assert formatted.size(count) == text


def test_one_thing_has_no_s():
    texts = [formatted.plural(number, "run") for number in (0, 1, 2)]
    assert texts == ["0 runs", "1 run", "2 runs"]


@pytest.mark.parametrize(
    ("name", "valid", "text"),
    [
        ("cifra", ["cifar", "movies"], "did you mean cifar?"),
        ("lr", ["opt.lr", "train.steps"], "did you mean opt.lr?"),
        ("xyz", ["cifar", "movies"], "choose from cifar, movies"),
        ("xyz", [f"key{i}" for i in range(101)], "`python run.py --cfg job` shows all"),
    ],
)
def test_names_that_may_be_meant(name, valid, text):
    assert formatted.did_you_mean(name, valid) == text
