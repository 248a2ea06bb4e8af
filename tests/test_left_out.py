"""Who runs the tests without the data, or not the long ones, is told so at the end, and how to."""

import os

import warm


def test_the_last_line_says_how_to_run_what_was_left_out(tmp_path):
    words = ["tests/tasks/data/test_readers.py", "-k", "real_cifar10", "-n0"]
    environment = {**os.environ, "DOG_BENCH_DATA": str(tmp_path), "DOG_BENCH_LONG": ""}
    done = warm.run(["-m", "pytest", *words, "-p", "no:cacheprovider"], env=environment)
    *_, data, long, _ = done.stdout.splitlines()  # the line of counts comes after them
    assert data == "2 tests were left out: `make prepare test` runs them, too", done.stdout
    assert long == "1 test was left out: `DOG_BENCH_LONG=1 make test` runs it, too"
