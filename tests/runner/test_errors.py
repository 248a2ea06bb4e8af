"""Errors of runs keep what they say on their way from one process to another."""

import pickle
from pathlib import Path

import pytest

from runner.errors import Busy, Crash, DiskFull, Stopped
from tasks.errors import UserError


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Stopped(15, 3), "stopped at step 3: "),
        (DiskFull(Path("runs")), "the disk that holds runs is full: "),
        (Busy("another process"), "another process"),
        (Crash("the run crashed"), "the run crashed"),
        (UserError("no such task"), "no such task"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_survives_pickling(error, says):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and vars(copy) == vars(error)
    assert str(copy) == str(error) and str(copy).startswith(says)
