"""Who runs the tests without the data, or not the long ones, is told so at the end, and how to."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_last_line_says_how_to_run_what_was_left_out(tmp_path):
    words = [
        "tests/tasks/data/test_readers.py",
        "-k",
        "real_cifar10",
        "-n0",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**os.environ, "DOG_BENCH_DATA": str(tmp_path), "DOG_BENCH_LONG": ""},
    )  # fmt: skip
    *_, data, long, _ = done.stdout.splitlines()  # the line of counts comes after them
    assert data == "2 tests were left out: `make prepare test` runs them, too", done.stdout
    assert long == "1 tests were left out: `DOG_BENCH_LONG=1 make test` runs them, too"
