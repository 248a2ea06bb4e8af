"""The paper's theory where it can be computed: DoG runs away where T-DoG does not."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from dog import DoG, TDoG

R_EPSILON = 1e-3


def worst_case(make, steps, dimension=20_000):
    """Return r̄ after each step on f(x) = max_i max([x]_i, −[x]_i / √m), from x_0 = 10 r_ε / √m.

    The subgradient is that of the active coordinate of the smallest index.
    """
    m = dimension
    p = nn.Parameter(torch.full((m,), 10 * R_EPSILON / math.sqrt(m), dtype=torch.float64))
    reps_rel = R_EPSILON / (1 + p.detach().norm().item())
    optimizer = make([p], reps_rel=reps_rel, eps=0.0)
    d0 = p.detach().norm().item()  # the minimum is at 0
    rbar = []
    for _ in range(steps):
        values = torch.maximum(p.detach(), -p.detach() / math.sqrt(m))
        i = int((values >= values.max() * (1 - 1e-12)).nonzero()[0])
        p.grad = torch.zeros_like(p)
        p.grad[i] = 1.0 if p[i] > 0 else -1 / math.sqrt(m)
        optimizer.step()
        rbar.append(optimizer.telemetry()[0]["rbar"])
    return np.array(rbar), d0


def test_dog_grows_without_bound_as_the_paper_proves():
    steps = 400
    rbar, _ = worst_case(DoG, steps)
    t = np.arange(1, steps + 1)
    # r̄ at the start of step t (from 1) is that of the t − 1 steps before.
    np.testing.assert_allclose(rbar, R_EPSILON * np.sqrt(np.maximum(t, 2) / 2), rtol=1e-6)


@pytest.mark.parametrize("lipschitz", [0.0, 1.0])
def test_tdog_stays_within_three_times_the_distance(lipschitz):
    rbar, d0 = worst_case(partial(TDoG, steps=400, lipschitz=lipschitz), 400)
    assert rbar.max() <= 3 * d0


def test_tdog_follows_its_equation():
    p = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)).double())
    steps, delta, L = 12, 0.05, 0.7
    optimizer = TDoG([p], steps=steps, reps_rel=1e-1, delta=delta, lipschitz=L)
    x0 = p.detach().numpy().copy()
    x, G, rbar = x0.copy(), 0.0, 1e-1 * (1 + np.linalg.norm(x0))
    theta = np.log(60 * np.log(6 * steps) / delta)
    for t in range(steps):
        g = np.tanh(x - t)
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        rbar = max(rbar, np.linalg.norm(x - x0))
        dampened = 8**4 * theta * (1 + np.log(t + 1)) ** 2 * (G + 16 * theta * max(g @ g, L**2))
        G += g @ g
        x = x - rbar / np.sqrt(dampened) * g
        np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-12)


@pytest.mark.parametrize(
    "arguments", [{"steps": 0}, {"delta": 0.0}, {"delta": 1.0}, {"lipschitz": -1.0}]
)
def test_impossible_arguments_of_tdog_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TDoG([nn.Parameter(torch.ones(2))], **({"steps": 10} | arguments))
