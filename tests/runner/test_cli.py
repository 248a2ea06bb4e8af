"""What all command lines share: whatever becomes of their output, they do their work."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAMS = ["run.py", *(f"scripts/{path.name}" for path in sorted((ROOT / "scripts").iterdir()))]
PROGRAMS += [
    str(path.relative_to(ROOT))
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if "__main__" in path.read_text()
]
# Prints to both streams, more than a pipe holds, and notes in a file that it has come to its end.
COMMAND = """
import sys
from runner import cli

def command():
    file = open(sys.argv[1], "w")
    for _ in range(20_000):
        print("accuracy")
        print("warning", file=sys.stderr)
    file.write("done")

cli.main(command)
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_is_run_by_what_all_share(program):
    assert re.search(r"__main__.:\n    cli\.main\([a-z.]*main\)\n$", (ROOT / program).read_text())


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "RED −11.1 ± 0.8, η = 1, r̄ 名"),
        ("cp1252", r"RED -11.1 ± 0.8, eta = 1, rbar \u540d"),
        ("ascii", r"RED -11.1 +- 0.8, eta = 1, rbar \u540d"),
    ],
)
def test_signs_that_the_output_cannot_show_are_spelled(encoding, shown):
    code = "from runner import cli; cli.main(lambda: print('RED −11.1 ± 0.8, η = 1, r̄ 名'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stderr.decode(encoding)) == (0, "")
    assert done.stdout.decode(encoding).strip() == shown


def redirected(how, path):
    """The command, with its streams as the shell says; what it returned and wrote to them."""
    words = ["sh", "-c", f'exec "$0" "$@" {how}', sys.executable, "-c", COMMAND, str(path)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("how", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_end_nothing_and_are_no_files(how, tmp_path):
    done = redirected(how, tmp_path / "file")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.parametrize("how", ["", "2>&1"])
def test_a_reader_that_leaves_ends_nothing(how, tmp_path):
    words = ["sh", "-c", f'exec "$0" "$@" {how}', sys.executable, "-c", COMMAND]
    process = subprocess.Popen(
        [*words, str(tmp_path / "file")], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0 and "Error" not in errors, errors[-500:]
    assert (tmp_path / "file").read_text() == "done"


def test_output_that_finds_no_room_is_an_error(tmp_path):
    done = redirected("2>&1 >/dev/full | sed /warning/d", tmp_path / "file")
    assert done.stdout == (
        "error: the disk is full: free some space and give the same command again\n"
    )
