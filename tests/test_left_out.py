"""Who runs the tests without the data is told at the end what was left out, and what runs it."""

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
        check=False, env={**os.environ, "DOG_BENCH_DATA": str(tmp_path)},
    )  # fmt: skip
    *_, last, _ = done.stdout.splitlines()  # the line of counts comes after it
    assert last == "3 tests were left out: `make prepare test` runs them, too", done.stdout
