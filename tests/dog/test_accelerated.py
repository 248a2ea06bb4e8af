"""A-DoG: its equations by hand, its rate, and what is expected of all optimizers in dog/."""

import copy
import io
import math

import pytest
import torch
from torch import nn

from benchmarks.counting import Traffic
from dog import ADoG, DoG


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))


def train(model, optimizer, steps):
    for t in steps:
        optimizer.zero_grad()
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(t))
        (model(x) - 1).pow(2).mean().backward()
        optimizer.step()


def test_first_steps_by_hand():
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = ADoG([p], reps_rel=0.5, eps=0.0)
    x0 = [3.0, 4.0]
    gradients = [[0.6, 0.8], [1.0, 0.0], [-2.0, 1.0]]
    x, z, rbar = list(x0), list(x0), 0.5 * (1 + 5)
    rbar_sum, alpha, alpha_sum, G = rbar, 1.0, 1.0, 0.0
    for g in gradients:
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        G += alpha**2 * (g[0] ** 2 + g[1] ** 2)
        eta = rbar / math.sqrt(G)
        y = [x[i] - eta * g[i] for i in range(2)]
        z = [z[i] - alpha * eta * g[i] for i in range(2)]
        rbar = max(rbar, math.dist(z, x0))
        rbar_sum += rbar
        alpha = rbar_sum / rbar
        alpha_sum += alpha
        tau = alpha / alpha_sum
        x = [(1 - tau) * y[i] + tau * z[i] for i in range(2)]
        assert p.tolist() == pytest.approx(x, rel=1e-12)
        (numbers,) = optimizer.telemetry()
        assert numbers["eta"] == pytest.approx(eta, rel=1e-12)
        assert numbers["alpha"] == pytest.approx(alpha, rel=1e-12)
    assert numbers["rbar"] > 3  # the distance, not only r_ε, was looked at
    assert numbers["step"] == 3 and numbers["G"] == pytest.approx(G)


def test_first_step_has_the_length_r_epsilon():
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    p.grad = torch.tensor([5.0, -1.0])
    ADoG([p], reps_rel=1e-3).step()
    assert (p - torch.tensor([3.0, 4.0])).norm().item() == pytest.approx(6e-3, rel=1e-4)


def test_smooth_convex_rate_is_that_of_acceleration():
    """Between 100 and 1000 steps DoG gains about one power of t, and A-DoG two or more."""
    curvature = torch.arange(1, 201, dtype=torch.float64).pow(-2)  # of ever flatter directions

    def rate(kind):
        p = nn.Parameter(torch.zeros(200, dtype=torch.float64))
        optimizer, found = kind([p], reps_rel=1e-3), []
        for _ in range(1000):
            p.grad = curvature * (p.detach() - 1)
            optimizer.step()
            found.append((curvature * (p.detach() - 1) ** 2).sum().item())
        return math.log10(found[99] / found[999])

    assert 0.5 < rate(DoG) < 1.2
    assert rate(ADoG) > 1.9


def test_resumes_bit_for_bit_at_every_step():
    for k in range(4):
        model = network()
        optimizer = ADoG(model.parameters(), reps_rel=1e-2, weight_decay=0.1)
        train(model, optimizer, range(k))
        buffer = io.BytesIO()
        torch.save([model.state_dict(), optimizer.state_dict()], buffer)
        buffer.seek(0)
        weights, state = torch.load(buffer, weights_only=True)
        other = network()
        other.load_state_dict(weights)
        resumed = ADoG(other.parameters(), reps_rel=1e-2, weight_decay=0.1)
        resumed.load_state_dict(state)
        train(model, optimizer, range(k, 6))
        train(other, resumed, range(k, 6))
        assert all(map(torch.equal, model.parameters(), other.parameters()))
        assert optimizer.telemetry() == resumed.telemetry()


def test_copy_goes_on_alone():
    model = network()
    optimizer = ADoG(model.parameters(), reps_rel=1e-2)
    train(model, optimizer, range(3))
    other, copied = copy.deepcopy((model, optimizer))
    train(model, optimizer, range(3, 6))
    train(other, copied, range(3, 6))
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_groups_have_step_sizes_of_their_own():
    together, alone = network(), network()
    optimizer = ADoG([{"params": [*layer.parameters()]} for layer in together[::2]], reps_rel=1e-2)
    separate = [ADoG(layer.parameters(), reps_rel=1e-2) for layer in alone[::2]]
    for t in range(4):
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            p.grad = q.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(t))
        optimizer.step()
        for each in separate:
            each.step()
    assert all(map(torch.equal, together.parameters(), alone.parameters()))
    assert [len(optimizer.telemetry()), len(separate[0].telemetry())] == [2, 1]


def test_parameters_without_a_gradient_stay_and_may_begin_late():
    model = network()
    optimizer = ADoG(model.parameters(), reps_rel=1e-2)
    late = model[0].bias
    before = late.clone()
    for t in range(3):
        for p in model.parameters():
            p.grad = None if p is late else torch.ones_like(p) * (t + 1)
        optimizer.step()
    assert torch.equal(late, before)
    late.grad = torch.ones_like(late)
    optimizer.step()
    assert not torch.equal(late, before)
    assert torch.equal(optimizer.state[late]["x0"], before)


def test_gradient_stays_as_it_was_with_weight_decay():
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    p.grad = torch.tensor([1.0, 2.0])
    optimizer = ADoG([p], weight_decay=0.5)
    optimizer.step()
    assert p.grad.tolist() == [1.0, 2.0]
    assert optimizer.telemetry()[0]["gradient_norm"] == pytest.approx(math.hypot(2.5, 4.0))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_step_with_a_gradient_that_is_not_finite_is_skipped(broken):
    models = network(), network()
    optimizers = [ADoG(model.parameters(), reps_rel=1e-2) for model in models]
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, range(2))
    for p in models[0].parameters():
        p.grad = torch.ones_like(p)
    models[0][0].bias.grad[1] = broken
    optimizers[0].step()
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, range(2, 4))
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))
    assert [each.telemetry()[0]["skipped"] for each in optimizers] == [1, 0]


def test_gradients_of_zero_move_nothing():
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = ADoG([p], eps=0.0)
    for _ in range(2):
        p.grad = torch.zeros(2)
        optimizer.step()
    assert p.tolist() == [3.0, 4.0]


def test_closure_gives_gradients_and_loss():
    p = nn.Parameter(torch.tensor([3.0]))
    optimizer = ADoG([p], reps_rel=1e-2)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    assert p.item() < 3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"reps_rel": 0.0}, "reps_rel must be positive"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"eps": -1.0}, "eps must not be negative"),
    ],
)
def test_impossible_arguments_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        ADoG([nn.Parameter(torch.zeros(1))], **options)


def test_parameters_in_16_bits_are_refused():
    with pytest.raises(ValueError, match="float32 or float64"):
        ADoG([nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))])


def test_step_does_not_wait_for_the_device():
    model = network()
    optimizer = ADoG(model.parameters(), weight_decay=0.1)
    train(model, optimizer, range(2))
    with Traffic() as traffic:
        optimizer.step()
    assert traffic.syncs == 0 and traffic.calls > 0
