"""Checkpoints: tensors and plain values, of the run's own device, written without a copy."""

import hashlib
import os
import random
import tracemalloc

import numpy as np
import pytest
import torch

from runner import checkpoint
from runner.training_state import _placed

CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "checkpoint.pt"


class Command:
    """What runs a command when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("digest_first", [False, True])
def test_forged_checkpoint_runs_no_command_and_is_put_aside(
    digest_first, file, tmp_path, caplog, monkeypatch
):
    witness = tmp_path / "witness"
    torch.save({"step": Command(witness), "format": checkpoint.FORMAT}, file)
    body = file.read_bytes()
    digest = hashlib.sha256(body).digest()
    file.write_bytes(digest + body if digest_first else body + digest)
    assert checkpoint.load(file, CPU) is None
    assert not witness.exists() and not file.exists()
    (line,) = caplog.messages
    assert str(file) in line and "begins anew" in line
    assert digest_first or "neither a tensor nor a plain value" in line


def test_checkpoint_of_another_version_is_put_aside(file, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT - 1)
        checkpoint.save(file, {"step": 3})
    assert checkpoint.load(file, CPU) is None
    assert "is from another version of dog-bench" in caplog.text


def draws():
    return random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist()


def test_generators_go_on_where_they_were(file):
    np.random.standard_normal()  # of which numpy keeps a second one
    checkpoint.save(file, {"gain": np.float64(0.5)})
    expected = draws(), np.random.standard_normal()
    loaded = checkpoint.load(file, CPU)
    assert (draws(), np.random.standard_normal()) == expected
    assert loaded == {"gain": 0.5} and type(loaded["gain"]) is float


class Gpus:
    """The generators of some GPUs, the first of which is the run's."""

    def __init__(self, monkeypatch, count):
        self.states = [torch.full((16,), i, dtype=torch.uint8) for i in range(count)]
        for name in ("get_rng_state", "set_rng_state", "get_rng_state_all", "set_rng_state_all"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: count > 0)

    def get_rng_state(self, device="cuda"):
        return self.states[torch.device(device).index or 0]

    def set_rng_state(self, state, device="cuda"):
        self.states[torch.device(device).index or 0] = state

    def get_rng_state_all(self):
        return self.states

    def set_rng_state_all(self, states):
        for i, state in enumerate(states):
            self.states[i] = state  # IndexError, as torch has it


@pytest.mark.parametrize("count", [0, 1, 2])
def test_checkpoint_of_a_machine_with_two_gpus_loads_on_one_with_fewer(file, monkeypatch, count):
    before = Gpus(monkeypatch, 2)
    checkpoint.save(file, {"step": 3})
    content = torch.load(file, weights_only=True)
    assert torch.equal(content["generators"]["cuda"], before.states[0])  # and no other's
    after = Gpus(monkeypatch, count)
    device = torch.device("cuda") if count else CPU
    loading = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **_: loading(file, weights_only=True))
    assert checkpoint.load(file, device) == {"step": 3}
    assert [state[0].item() for state in after.states] == list(range(count))


def test_checkpoint_is_not_copied_in_memory(file):
    content = {"network": torch.zeros(8_000_000)}
    tracemalloc.start()
    try:
        checkpoint.save(file, content)
        _, peak_of_saving = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        checkpoint.load(file, CPU)
        _, peak_of_loading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.stat().st_size > 32_000_000
    assert max(peak_of_saving, peak_of_loading) < 8_000_000


def test_a_checkpoint_is_read_on_the_cpu_so_that_a_full_gpu_does_not_damage_it(file, monkeypatch):
    checkpoint.save(file, {"step": 3})
    load, asked = torch.load, []
    monkeypatch.setattr(
        torch,
        "load",
        lambda *args, **more: asked.append(more["map_location"]) or load(*args, **more),
    )
    assert checkpoint.load(file, torch.device("cuda"))["step"] == 3
    assert asked == ["cpu"]


def test_adams_numbers_of_steps_stay_on_the_cpu_when_its_state_goes_to_a_gpu():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([p])
    p.grad = torch.ones(3)
    optimizer.step()
    state = _placed(optimizer.state_dict() | {"of all": torch.ones(1)}, torch.device("meta"))
    devices = {name: value.device.type for name, value in state["state"][0].items()}
    assert devices == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}
    assert state["of all"].device.type == "meta" and state["param_groups"][0]["lr"] == 1e-3
