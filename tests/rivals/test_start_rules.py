"""The rules that find DoG's start, on losses of one number where the start is known."""

import copy

import pytest
import torch

from dog import DoG
from rivals.start_rules import LADDER, RACERS, RULES, DoGByRule

X0 = 8.0  # of f(x) = 3 x² / 2: the distance to the minimum is 8, the gradient 24, f 96


def steps(rule, count, loss=lambda x: 1.5 * x.square().sum(), x0=X0):
    """Take some steps; return the optimizer, the parameter and how many gradients were computed."""
    x = torch.nn.Parameter(torch.tensor([x0], dtype=torch.float64))
    optimizer, calls = DoGByRule([x], rule=rule), []

    def closure():
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        calls.append(float(x.detach()))
        return value

    for _ in range(count):
        optimizer.step(closure)
    return optimizer, x, calls


def start(optimizer):
    return optimizer.telemetry()[0]["r_epsilon"]


@pytest.mark.parametrize(("rule", "length"), [("polyak_1", 4.0), ("polyak_0.1", 0.4)])
def test_polyak_is_the_loss_over_the_gradients_norm(rule, length):
    optimizer, x, calls = steps(rule, 1)
    assert start(optimizer) == pytest.approx(length)
    assert float(x.detach()) == pytest.approx(X0 - length)  # the first step has this length
    assert len(calls) == 1


def test_curvature_steps_to_the_minimum_of_a_quadratic():
    optimizer, x, calls = steps("curvature", 1)
    assert start(optimizer) == pytest.approx(8.0, rel=1e-6)
    assert float(x.detach()) == pytest.approx(0.0, abs=1e-5)
    assert len(calls) == 3


def test_probe_takes_the_best_length_of_its_ladder():
    optimizer, _, calls = steps("probe_0.3", 4)
    nearest = min((part * (1 + X0) for part in LADDER), key=lambda length: abs(X0 - length))
    assert start(optimizer) == pytest.approx(0.3 * nearest)
    assert len(calls) == 1 + 3 * (1 + len(LADDER)) + 1


def test_fall_back_divides_a_start_that_made_the_loss_jump():
    # Polyak's length with c = 10 is 40: x jumps to −32, where the loss is 16 times as high.
    optimizer, _, calls = steps("fall_back_10", 10)
    assert start(optimizer) == pytest.approx(4.0)
    assert -32 in [round(at, 3) for at in calls]


def test_race_goes_on_from_the_start_whose_late_losses_are_lowest():
    alone = {}  # by the start: where DoG is after 10 steps, and its last five losses
    for c in RACERS:
        x = torch.nn.Parameter(torch.tensor([X0], dtype=torch.float64))
        dog, losses = DoG([x], reps_rel=4 * c / (1 + X0)), []
        for _ in range(10):
            losses.append(1.5 * float(x.detach()) ** 2)
            x.grad = 3 * x.detach()
            dog.step()
        alone[4 * c] = float(x.detach()), sum(losses[5:])
    best = min(alone, key=lambda length: alone[length][1])
    optimizer, x, calls = steps("race", 10)
    assert len(calls) == 1 + 5 * 10
    assert start(optimizer) == pytest.approx(best)
    assert float(x.detach()) == pytest.approx(alone[best][0], abs=1e-9)


def test_switch_forgets_until_the_distance_no_longer_grows():
    optimizer, x, _ = steps("switch", 120)
    assert optimizer.telemetry()[0]["fast_steps"] > 10
    assert optimizer.param_groups[0]["auto_start"] == 0
    assert abs(float(x.detach())) < 1


def test_the_automatic_starts_constants_are_moved():
    for rule, constant in (("auto_from_1e-5", 1e-5), ("auto_straight_3", 1e-4)):
        optimizer, _, _ = steps(rule, 1)
        assert start(optimizer) == pytest.approx(constant * (1 + X0))
    assert optimizer.param_groups[0]["auto_start"] == 3


def test_a_copy_goes_on_once_the_start_is_found():
    optimizer, x, _ = steps("polyak_1", 0)
    with pytest.raises(TypeError, match="generator"):
        copy.deepcopy(optimizer)
    optimizer, x, _ = steps("polyak_1", 1)
    copied, y = copy.deepcopy((optimizer, x))
    for each, p in ((optimizer, x), (copied, y)):
        p.grad = 3 * p.detach()
        each.step(None)
    assert torch.equal(x, y) and copied.telemetry() == optimizer.telemetry()


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match=f"rule must be one of {next(iter(RULES))}"):
        DoGByRule([torch.nn.Parameter(torch.zeros(1))], rule="best")
