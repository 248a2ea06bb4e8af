"""What all tests share: no surroundings leak in, real data only where it is at hand."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import warm

from runner.config import CONFIGS
from runner.yamls import read_yaml
from tasks.data.sources import is_fetched
from tasks.data.specs import Archive
from tasks.data.storage import default_data_dir

ROOT = Path(__file__).parents[1]
# What takes long, and whose code other tests go through as well (docs/development.md).
LONG = bool(os.environ.get("DOG_BENCH_LONG"))
LONG_ONLY = pytest.mark.skipif(not LONG, reason="takes long: run DOG_BENCH_LONG=1 make test")
# The bits that tests know are a CPU's; `make gpu-check` is for a GPU.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
QUIET = ["task.synthetic=true", "wandb.mode=disabled", "progress=false"]
# pytest's workers take file after file: those that take longest come first, lest one is left alone.
LONGEST = ["test_faults.py", "test_executors.py", "test_contract.py", "test_replicas.py"]
LONGEST += ["test_optimizer_contract.py", "test_run.py", "test_sweep.py"]


def stop_at(monkeypatch, step):
    """Let runs stop when they log a step, as after SIGTERM, with their state saved."""
    from runner.errors import Stopped
    from runner.single_run import SingleRun

    log = SingleRun.log

    def stopped(self):
        log(self)
        if self.step == step:
            self.save()
            raise Stopped(15, step, self.job.spec.opt.resumable)

    monkeypatch.setattr(SingleRun, "log", stopped)


def with_changes(config, changes):
    """A configuration with other values at dotted keys of its spec."""

    def put(spec, path, value):
        name, *rest = path
        return spec.replaced(**{name: put(getattr(spec, name), rest, value) if rest else value})

    spec = config.spec
    for key, value in changes.items():
        spec = put(spec, key.split("."), value)
    return replace(config, spec=spec)


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch):
    """Each test's runs and wandb files go where it says, on one thread."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(1)


@pytest.fixture
def real_data():
    """A function that skips the test unless the named configs' archives have been fetched."""

    def need(*names: str) -> Path:
        for name in names:
            content = read_yaml(CONFIGS / f"{name}.yaml")
            source = Archive.parse((content.get("data") or content["weights"])["source"])
            if not is_fetched(source, default_data_dir()):
                pytest.skip(f"needs the data of {name}: run make prepare")
        return default_data_dir()

    return need


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """A folder with small networks, each in a folder or file as its library writes it."""
    import own_models

    folder = tmp_path_factory.mktemp("networks")
    own_models.write_all(folder)
    return folder


@pytest.fixture
def made_up_data(monkeypatch):
    """Tasks of images and of texts get made-up data, with networks that are not."""
    import own_models

    from tasks.language import TextClassification
    from tasks.vision import ImageClassification

    monkeypatch.setattr(ImageClassification, "read", lambda _: own_models.images())
    monkeypatch.setattr(TextClassification, "read", TextClassification.made_up)


@pytest.fixture
def look(tmp_path):
    """Inspect a user's data, with what is kept in a folder of the test."""
    from tasks.data.own.inspect import inspect

    return partial(inspect, data_dir=tmp_path / "data")


@pytest.fixture
def command(tmp_path):
    """The command line of a made-up run whose files go to tmp_path, as a process to start."""

    def start(*overrides):
        flags = [word for word in overrides if word.startswith("-")]
        keys = [*QUIET, f"runs_dir={tmp_path}", *(w for w in overrides if w not in flags)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return warm.Process(["run.py", *flags, *keys], env=environment)

    return start


@pytest.fixture
def finish(command):
    """Run a command to its end; return its exit status, output and errors."""

    def run(*overrides):
        process = command(*overrides)
        output, errors = process.communicate(timeout=240)
        return process.returncode, output, errors

    return run


def only_record(folder):
    """The one record below a folder, without what differs between two equal runs."""
    (path,) = Path(folder).glob("*/*/record.json")
    record = json.loads(path.read_text())
    metrics = (path.parent / "metrics.jsonl").read_text()
    return {k: v for k, v in record.items() if k not in ("measured", "code")}, metrics


def pytest_configure(config):
    """Let all of pytest's workers, which inherit the environment, share a server of processes."""
    if config.getoption("numprocesses", None):
        os.environ["WARM_SERVER"] = warm.address()


def pytest_collection_modifyitems(items):
    """Let the tests of the longest files come first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Say at the end, after the list of all that was skipped, which command runs it."""
    result = yield
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    for command in ("make setup", "make prepare", "DOG_BENCH_LONG=1 make"):
        if left_out := sum(f"run {command}" in reason for reason in reasons):
            which, them = ("test was", "it") if left_out == 1 else ("tests were", "them")
            line = f"{left_out} {which} left out: `{command} test` runs {them}, too"
            terminalreporter.write_line(line, yellow=True)
    return result
