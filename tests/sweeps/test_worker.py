"""Workers: a run that fails leaves the process as good as new, or the process is given up."""

from types import SimpleNamespace

import pytest

from sweeps import worker
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
