"""AdaGrad-Norm: its equation, and torch's Adagrad on a single number, where they are the same."""

import math

import pytest
import torch
from torch import nn

from rivals.adagrad_norm import AdaGradNorm


def test_first_steps_by_hand():
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = AdaGradNorm([p], lr=2.0, b0=0.5)
    x, b2 = [3.0, 4.0], 0.25
    for g in ([0.6, 0.8], [1.0, 0.0], [-2.0, 1.0]):
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        b2 += g[0] ** 2 + g[1] ** 2
        x = [x[i] - 2 / math.sqrt(b2) * g[i] for i in range(2)]
        assert p.tolist() == pytest.approx(x, rel=1e-12)
        (numbers,) = optimizer.telemetry()
        assert numbers == pytest.approx({"eta": 2 / math.sqrt(b2), "b": math.sqrt(b2)})


def test_one_number_steps_as_with_torchs_adagrad():
    p, q = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    ours = AdaGradNorm([p], lr=0.3, b0=0.1)
    theirs = torch.optim.Adagrad([q], lr=0.3, initial_accumulator_value=0.01, eps=0.0)
    for t in range(20):
        p.grad = q.grad = torch.full((1,), math.sin(t) + 0.1, dtype=torch.float64)
        ours.step()
        theirs.step()
        assert p.item() == pytest.approx(q.item(), rel=1e-12)


def test_weight_decay_joins_the_gradient():
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    p.grad = torch.tensor([1.0, 2.0])
    optimizer = AdaGradNorm([p], weight_decay=0.5)
    optimizer.step()
    assert p.grad.tolist() == [1.0, 2.0]
    assert optimizer.telemetry()[0]["b"] == pytest.approx(math.hypot(2.5, 4.0))


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"b0": 0.0}, {"weight_decay": -1.0}])
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ValueError, match="must be positive"):
        AdaGradNorm([nn.Parameter(torch.zeros(1))], **options)
