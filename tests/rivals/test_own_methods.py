"""What every rival that is written here keeps: state, groups, missing gradients, no waiting."""

import io
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks.counting import Traffic
from rivals.adagrad_norm import AdaGradNorm
from rivals.adam_plus_plus import AdamPlusPlus
from rivals.muon import Muon
from rivals.sps_max import SPSMax

METHODS = {
    "AdaGrad-Norm": partial(AdaGradNorm, weight_decay=0.1),
    "Adam++": partial(AdamPlusPlus, reps_rel=1e-2, weight_decay=0.1),
    "SPS_max": SPSMax,
    "Muon": partial(Muon, lr=1e-2),
    "NAdamW": partial(torch.optim.NAdam, lr=1e-2, decoupled_weight_decay=True),
}
EVERY = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Linear(4, 2))


def groups(model):
    """Two groups, in an order that is not the model's."""
    return [
        {"params": [*model[3].parameters(), model[2].bias]},
        {"params": [*model[0].parameters(), model[2].weight]},
    ]


def step(optimizer, loss):
    return optimizer.step(loss=loss) if isinstance(optimizer, SPSMax) else optimizer.step()


def train(model, optimizer, steps, without=()):
    for t in steps:
        optimizer.zero_grad()
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(t))
        loss = (model(x) - 1).pow(2).mean()
        loss.backward()
        for p in without:
            p.grad = None
        step(optimizer, loss.detach())


@EVERY
def test_learns(make):
    model = network()
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    before = (model(x) - 1).pow(2).mean().item()
    train(model, make(model.parameters()), range(200))
    assert (model(x) - 1).pow(2).mean().item() < before / 4


@EVERY
@pytest.mark.parametrize("split", [False, True], ids=["one group", "two groups"])
def test_resumes_bit_for_bit(make, split):
    form = groups if split else nn.Module.parameters
    for k in range(4):
        model = network()
        optimizer = make(form(model))
        train(model, optimizer, range(k))
        buffer = io.BytesIO()
        torch.save([model.state_dict(), optimizer.state_dict()], buffer)
        buffer.seek(0)
        weights, state = torch.load(buffer, weights_only=True)
        other = network()
        other.load_state_dict(weights)
        resumed = make(form(other))
        resumed.load_state_dict(state)
        train(model, optimizer, range(k, 6))
        train(other, resumed, range(k, 6))
        assert all(map(torch.equal, model.parameters(), other.parameters()))
        if hasattr(optimizer, "telemetry"):
            assert optimizer.telemetry() == resumed.telemetry()


@EVERY
def test_parameters_without_a_gradient_stay_and_may_begin_late(make):
    model = network()
    optimizer = make(model.parameters())
    late = [model[0].weight, model[2].bias]
    before = [p.detach().clone() for p in late]
    train(model, optimizer, range(3), without=late)
    assert all(map(torch.equal, late, before))
    train(model, optimizer, range(3, 6))
    assert not any(map(torch.equal, late, before))
    assert all(p.isfinite().all() for p in model.parameters())


@EVERY
def test_step_without_any_gradient_changes_nothing(make):
    model = network()
    step(make(model.parameters()), torch.ones(()))
    assert all(map(torch.equal, model.parameters(), network().parameters()))


@EVERY
def test_gradients_stay_as_they_were(make):
    model = network()
    optimizer = make(model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    step(optimizer, torch.ones(()))
    assert all((p.grad == 1).all() for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "SPS_max"])
def test_groups_are_independent(name):
    together, alone = network(), network()
    optimizer = METHODS[name](groups(together))
    separate = [METHODS[name](group["params"]) for group in groups(alone)]
    for t in range(4):
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            p.grad = q.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(t))
        for each in (optimizer, *separate):
            each.step()
    assert all(map(torch.equal, together.parameters(), alone.parameters()))


@pytest.mark.parametrize("name", ["AdaGrad-Norm", "Adam++", "SPS_max"])
def test_telemetry_is_the_step_size_that_was_used(name):
    """The weights moved by eta times the direction: of SGD the gradient, of Adam++ m / s."""
    model = network()
    optimizer = METHODS[name](
        model.parameters(), **{"weight_decay": 0.0} if name != "SPS_max" else {}
    )
    assert optimizer.telemetry() == []
    train(model, optimizer, range(3))
    p, before = model[2].weight, model[2].weight.detach().clone()
    train(model, optimizer, [3])
    direction = p.grad
    if name == "Adam++":
        direction = optimizer.state[p]["m"] / (1e-8 + optimizer.state[p]["g2_sum"].sqrt())
    (numbers,) = optimizer.telemetry()
    assert numbers["eta"] > 0
    torch.testing.assert_close(before - p, numbers["eta"] * direction, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["AdaGrad-Norm", "Adam++", "SPS_max"])
def test_step_does_not_wait_for_the_device(name):
    model = network()
    optimizer = METHODS[name](model.parameters())
    train(model, optimizer, range(2))
    with Traffic() as traffic:
        step(optimizer, torch.ones(()))
    assert traffic.syncs == 0 and traffic.calls > 0
