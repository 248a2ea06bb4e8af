"""Hydra's multirun: every error is shown, and a signal stops it as a whole."""

import pytest
import warm

# The program run.py, where a run does nothing but raise an error.
PROGRAM = """
import runpy
from runner import run as running
from runner.errors import Busy, Crash, Stopped
from tasks.errors import UserError

def train(config):
    print("seed", config.spec.seed, flush=True)
    raise ERROR

running.run = train
runpy.run_path("run.py", run_name="__main__")
"""


def multirun(error, folder, *words):
    """The end of a multirun in which each run raises an error."""
    words = ["-m", f"runs_dir={folder}", "task=logistic_wine", *words]
    return warm.run(["-c", PROGRAM.replace("ERROR", error), *words])


def test_errors_of_all_jobs_are_shown_and_the_worst_is_the_status(tmp_path):
    done = multirun(
        "Crash('it crashed') if config.spec.seed == 1 else UserError('no room')", tmp_path,
        "seed=0,1,2", "opt=sgd", "opt.lr=-1,0.1",
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert errors == [
        "error: seed=0 opt.lr=-1: opt.lr=-1: must be above 0",
        "error: seed=0 opt.lr=0.1: no room",
        "error: seed=1 opt.lr=-1: opt.lr=-1: must be above 0",
        "error: seed=1 opt.lr=0.1: it crashed",
        "error: seed=2 opt.lr=-1: opt.lr=-1: must be above 0",
        "error: seed=2 opt.lr=0.1: no room",
    ]
    assert done.returncode == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(("signum", "name"), [(2, "SIGINT"), (15, "SIGTERM")])
def test_a_signal_stops_the_jobs_that_are_to_come(tmp_path, signum, name):
    done = multirun(f"Stopped({signum}, 3)", tmp_path, "seed=0,1")
    assert (done.returncode, done.stdout) == (128 + signum, "seed 0\n"), name
    assert done.stderr.splitlines()[-1] == "stopped at step 3: the same command goes on from there"


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = multirun("Busy()", tmp_path / "file", "seed=0,1")
    assert done.returncode == 2 and done.stderr.startswith("error: cannot use the folder ")
    assert done.stderr.count("\n") == 1 and "choose another place with runs_dir=" in done.stderr
