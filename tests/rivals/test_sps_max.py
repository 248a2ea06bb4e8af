"""SPS_max: its equation, its bound, and where it gets the loss from."""

import pytest
import torch
from torch import nn

from rivals.sps_max import SPSMax


def stepped(gradient, loss, **options):
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    p.grad = torch.tensor(gradient, dtype=torch.float64)
    optimizer = SPSMax([p], **options)
    optimizer.step(loss=torch.tensor(loss))
    (numbers,) = optimizer.telemetry()
    return p.tolist(), numbers["eta"]


def test_step_size_is_polyaks():
    x, eta = stepped([3.0, 1.0], 2.5, c=0.5, f_star=0.5, eta_max=10.0)
    assert eta == pytest.approx((2.5 - 0.5) / (0.5 * 10))
    assert x == pytest.approx([3 - 0.4 * 3, 4 - 0.4])


def test_step_size_is_bounded():
    assert stepped([0.3, 0.1], 2.5, eta_max=2.0) == (pytest.approx([2.4, 3.8]), 2.0)


def test_step_size_grows_at_most_by_its_factor():
    p = nn.Parameter(torch.zeros(1))
    optimizer, etas = SPSMax([p], growth=1.5), []
    for gradient in (2.0, 4.0, 1.0, 0.0, 1.0, 1.0):
        p.grad = torch.tensor([gradient])
        optimizer.step(loss=0.5)
        etas.append(optimizer.telemetry()[0]["eta"])
    assert etas == pytest.approx([1 / 4, 1 / 16, 1.5 / 16, 1.5 / 16, 2.25 / 16, 3.375 / 16])


def test_loss_below_its_minimum_gives_no_step():
    assert stepped([3.0, 1.0], 0.25, f_star=0.5) == ([3.0, 4.0], 1.0)


def test_gradient_of_zero_gives_no_step():
    for loss in (0.0, 2.5):
        assert stepped([0.0, 0.0], loss) == ([3.0, 4.0], 1.0)


def test_exact_steps_reach_the_minimum_of_a_parabola_at_once():
    """With c = 1/2 and f = ‖x‖² / 2, η is 1, and the step leads to the minimum."""
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = SPSMax([p], c=0.5)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum() / 2
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 12.5
    assert p.tolist() == [0.0, 0.0]


def test_all_groups_share_one_step_size():
    p, q = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    p.grad, q.grad = torch.ones(1), 2 * torch.ones(1)
    optimizer = SPSMax([{"params": [p]}, {"params": [q]}])
    optimizer.step(loss=1.0)
    assert optimizer.telemetry() == [{"eta": pytest.approx(1 / (0.5 * 5))}]
    assert [p.item(), q.item()] == pytest.approx([-0.4, -0.8])


def test_options_of_the_first_group_count():
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.ones(1)
    optimizer = SPSMax([{"params": [p], "c": 2.0, "eta_max": 10.0}])
    optimizer.step(loss=4.0)
    assert optimizer.telemetry() == [{"eta": 2.0}]


def test_step_without_a_loss_says_what_it_needs():
    with pytest.raises(ValueError, match=r"step\(loss=loss\)"):
        SPSMax([nn.Parameter(torch.zeros(1))]).step()


@pytest.mark.parametrize(
    "options", [{"c": 0.0}, {"eta_max": 0.0}, {"f_star": float("nan")}, {"growth": 1.0}]
)
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ValueError, match="must be positive"):
        SPSMax([nn.Parameter(torch.zeros(1))], **options)
