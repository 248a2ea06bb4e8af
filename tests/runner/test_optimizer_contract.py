"""Every optimizer that configs/opt holds keeps the contract; a new yaml is found by itself."""

import json
import math
import signal

import pytest
import torch
from conftest import LONG_ONLY, QUIET, stop_at
from hydra.utils import get_object
from torch import nn

from runner import config
from runner.errors import Stopped
from runner.optimizer import build_optimizer, step_sizes, summary, take_step
from runner.record import RunFolder
from runner.run import run
from sweeps.replicas import ReplicaGroup, run_together

OPTIMIZERS = config.options("opt")
# Those kinds of problem that differ in what an optimizer meets: kernels of four dimensions and
# vectors; embeddings and matrices; one matrix of float64 that starts at zero.
KINDS = ["mnist_scratch", "cola", "logistic_wine"]
# The others meet the same, with batch normalization, as regression, and on features.
KINDS += [pytest.param(task, marks=LONG_ONLY) for task in ("cifar", "stsb", "probe_newsgroups")]


def made_up(folder, optimizer, *words, task="probe_newsgroups"):
    """A run that gets somewhere in few steps.

    Of an optimizer that is tuned it has a rate from the middle of its grid; of one that begins with
    a step of a length that is set, a long one.
    """
    words = [f"task={task}", f"opt={optimizer}", *QUIET, f"runs_dir={folder}", *words]
    opt = config.load(words).spec.opt
    if rates := sorted(opt.grid.get("lr", [])):
        words.append(f"opt.lr={rates[len(rates) // 3]}")
    if opt.reps_rel is not None:
        words.append("opt.reps_rel=0.01")
    return config.load(words)


def lines_of(loaded):
    folder = RunFolder(loaded.execution.runs, loaded.spec.task.name, loaded.spec.run_id)
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_learns_and_is_scored(task, optimizer, tmp_path):
    # All examples in each batch, so that the loss tells of the weights alone.
    words = ["train.batch_size=64", "train.steps=12", "train.eval_every=12", "log_every=1"]
    loaded = made_up(tmp_path, optimizer, *words, task=task)
    record = run(loaded)
    assert record.status == "finished" and record.settings["opt"]["name"] == optimizer
    for scores in (record.results.validation, record.results.test):
        assert math.isfinite(scores.last)
        assert (scores.averaged is None) == bool(loaded.spec.opt.averages_itself)
    lines = [line for line in lines_of(loaded) if "loss" in line]
    # A method that finds its step size may overshoot on its way.
    assert min(line["loss"] for line in lines[1:]) < lines[0]["loss"]
    for line in lines:
        assert "eta" in line or loaded.spec.opt.role == "tuned"  # the step size that was found
        size = line.get("eta", line.get("lr"))
        assert math.isfinite(size) and size > 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_run_ends_in_the_same_record_bit_for_bit(optimizer, tmp_path, monkeypatch):
    ends = []
    for part in ("whole", "stopped"):
        words = ["train.steps=12", "train.eval_every=5", "log_every=1"]
        loaded = made_up(tmp_path / part, optimizer, *words)
        if part == "stopped":
            with monkeypatch.context() as patch, pytest.raises(Stopped):
                stop_at(patch, 7)
                run(loaded)
        ends.append((run(loaded).results, lines_of(loaded)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replicas_give_what_each_gives_alone(optimizer, tmp_path):
    def configs(part):
        return [
            made_up(tmp_path / part, optimizer, "train.steps=12", f"seed={seed}", "log_every=1")
            for seed in (0, 1)
        ]

    together, alone = configs("together"), configs("alone")
    if not together[0].spec.opt.can_train_in_group:
        pytest.skip("its runs are no replicas")
    records = dict(run_together(together))
    for place, each in enumerate(alone):
        assert records[place].results == run(each).results
        assert lines_of(together[place]) == lines_of(each)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stopped_replicas_end_in_what_each_gives_alone(optimizer, tmp_path, monkeypatch):
    words = ["train.steps=12", "checkpoint_seconds=1000", "log_every=1"]
    together, alone = (
        [made_up(tmp_path / part, optimizer, *words, f"seed={seed}") for seed in (0, 1)]
        for part in ("together", "alone")
    )
    if not together[0].spec.opt.can_train_in_group:
        pytest.skip("its runs are no replicas")
    log = ReplicaGroup.log

    def stopped(self):
        log(self)
        if self.step == 7:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(ReplicaGroup, "log", stopped)
        assert all(isinstance(end, Stopped) for _, end in run_together(together))
    records = dict(run_together(together))
    for place, each in enumerate(alone):
        assert records[place].results == run(each).results
        assert lines_of(together[place]) == lines_of(each)


class Unused(nn.Module):
    """A network with parameters that the loss does not depend on."""

    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, inputs):
        return self.layer(inputs).square().mean()


def steps_of(opt, network, optimizer, number):
    """Take some steps on one batch; return the losses."""
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    losses = []

    @torch.enable_grad()
    def closure():
        optimizer.zero_grad()
        loss = network(inputs)
        loss.backward()
        return loss.detach()

    for _ in range(number):
        losses.append(float(closure()))
        take_step(optimizer, opt, torch.tensor(losses[-1]), closure)
    return losses


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_without_a_gradient_stay(optimizer, tmp_path):
    torch.manual_seed(0)
    opt, network = made_up(tmp_path, optimizer).spec.opt, Unused()
    before = [p.detach().clone() for p in network.unused.parameters()]
    losses = steps_of(opt, network, build_optimizer(opt, network), 5)
    assert losses[-1] < losses[0]
    assert all(map(torch.equal, network.unused.parameters(), before))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_param_groups_both_move(optimizer, tmp_path):
    torch.manual_seed(0)
    opt, network = made_up(tmp_path, optimizer).spec.opt, nn.Sequential(Unused(), nn.Identity())
    layers = [network[0].layer.weight], [network[0].layer.bias]
    kind = get_object(opt.target)
    groups = kind([{"params": layer} for layer in layers], **opt.arguments)
    if opt.averages_itself:
        groups.train()
    before = [layer[0].detach().clone() for layer in layers]
    losses = steps_of(opt, network, groups, 5)
    assert losses[-1] < losses[0]
    for (layer,), value in zip(layers, before, strict=True):
        assert not torch.equal(layer, value)
    assert summary(step_sizes(groups, opt))
