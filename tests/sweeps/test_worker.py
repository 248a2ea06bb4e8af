"""Workers: a run that fails leaves the process as good as new, or the process is given up."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from conftest import QUIET

from runner import config
from runner.single_run import SingleRun
from runner.training_state import TrainingState
from sweeps import plan, worker
from sweeps.replicas import ReplicaGroup
from sweeps.worker import Outcome, work


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_no_run_begins_in_a_process_in_which_cuda_has_failed(trained, monkeypatch):
    begun = []

    def train(run):
        begun.append(run.run_id)
        return Outcome(run, "failed", 0.0)

    monkeypatch.setattr(worker, "_train_together", lambda _: [])
    monkeypatch.setattr(worker, "_train_alone", train)
    monkeypatch.setattr(worker, "_device_is_lost", lambda: len(begun) == trained)
    group = tuple(SimpleNamespace(run_id=name) for name in "ab")
    with pytest.raises(RuntimeError, match="CUDA has failed"):
        work(group, 1)
    assert len(begun) == trained


def test_cuda_has_failed_where_waiting_for_it_fails(monkeypatch):
    def fail():
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr("torch.cuda.synchronize", fail)
    assert not worker._device_is_lost()  # nothing was asked of CUDA so far
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    assert worker._device_is_lost()


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("together", [1, 2])
def test_memory_of_a_run_that_has_failed_is_free_at_once(
    together, tmp_path, monkeypatch, no_garbage_collection
):
    states, left, prepare = [], [], TrainingState.__init__

    def note(self, *args, **kwargs):
        states.append(weakref.ref(self))
        prepare(self, *args, **kwargs)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrainingState, "__init__", note)
    for trained in (SingleRun, ReplicaGroup):
        monkeypatch.setattr(trained, "update", fail)
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: left.append(sum(state() is not None for state in states))
    )
    words = [*QUIET, "task=probe_cifar", "protocol=smoke", f"runs_dir={tmp_path}"]
    cell = plan.Cell(config.load(words), {}, {}, [])
    outcomes = work(tuple(cell.run({}, seed) for seed in range(together)), 1)
    assert {outcome.status for outcome in outcomes} == {"failed"}
    assert left == [0] * (together + 1)
    assert all("executor.gpu_share" in outcome.detail for outcome in outcomes)
