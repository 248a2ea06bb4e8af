"""Adam++: its equations by hand."""

import math

import pytest
import torch
from torch import nn

from rivals.adam_plus_plus import AdamPlusPlus


def test_first_steps_by_hand():
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = AdamPlusPlus([p], reps_rel=0.1, eps=0.01)
    x0 = x = [3.0, 4.0]
    eta, m, sums = 0.1 * (1 + 5) / math.sqrt(2), [0.0, 0.0], [0.0, 0.0]
    etas = []
    for g in ([0.6, 0.8], [1.0, 0.4], [2.0, 1.0], *[[1.0, 1.0]] * 20):
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        eta = max(eta, math.dist(x, x0) / math.sqrt(2))
        etas.append(eta)
        m = [0.9 * m[i] + 0.1 * g[i] for i in range(2)]
        sums = [sums[i] + g[i] ** 2 for i in range(2)]
        x = [x[i] - eta * m[i] / (0.01 + math.sqrt(sums[i])) for i in range(2)]
        assert p.tolist() == pytest.approx(x, rel=1e-12)
        assert optimizer.telemetry() == [{"eta": pytest.approx(eta, rel=1e-12)}]
    assert etas[-1] > etas[0]  # the distance, not only the initial one, was looked at


def test_step_size_never_falls():
    p = nn.Parameter(torch.zeros(3))
    optimizer, etas = AdamPlusPlus([p], reps_rel=1e-2), []
    for _ in range(100):
        p.grad = 2 * (p.detach() - 1)
        optimizer.step()
        etas.append(optimizer.telemetry()[0]["eta"])
    assert etas == sorted(etas) and etas[-1] > 10 * etas[0]
    assert (p.detach() - 1).abs().max() < 0.5


def test_lr_is_a_factor_of_the_step_size():
    ends = []
    for lr in (1.0, 0.5):
        p = nn.Parameter(torch.zeros(3))
        p.grad = torch.ones(3)
        optimizer = AdamPlusPlus([p], lr=lr)
        optimizer.step()
        ends.append((p[0].item(), optimizer.telemetry()[0]["eta"]))
    assert ends[1] == pytest.approx([number / 2 for number in ends[0]])


@pytest.mark.parametrize(
    "options", [{"reps_rel": 0.0}, {"lr": -1.0}, {"eps": 0.0}, {"weight_decay": -1.0}, {"beta": 1}]
)
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        AdamPlusPlus([nn.Parameter(torch.zeros(1))], **options)
