"""Low precision, the guard against what is not finite, and gradient clipping."""

import copy
import math

import pytest
import torch
from torch import nn

from dog import DistanceWeighted, DoG, LDoG, PolynomialDecay

BOTH = pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
EVERY = pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])


def quadratic(dtype, x0, steps, optimizer_class, **options):
    """Distances from the start on a quadratic whose gradient is taken at the exact weights."""
    (p,) = [nn.Parameter(x0.to(dtype, copy=True))]
    optimizer = optimizer_class([p], **options)
    target = x0.double() + torch.linspace(-1, 1, x0.numel()).double().reshape(x0.shape)
    trace = []
    for _ in range(steps):
        x = p.detach().double()
        if "compensation" in optimizer.state.get(p, {}):
            x = x + optimizer.state[p]["compensation"].double()
        p.grad = (x - target).to(dtype)
        optimizer.step()
        trace.append(optimizer.telemetry()[0])
    return trace


@EVERY
@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("reps_rel", [1e-4, 1e-6, 1e-8])
def test_16_bits_are_within_one_percent_of_float64(
    optimizer_class, reps_rel, dtype, implementation
):
    # Weights that 16 bits hold exactly, so that both start from the same place. Most are as small
    # as those of a network.
    x0 = 0.05 * torch.randn(4000, generator=torch.Generator().manual_seed(0)).to(dtype)
    options = {"reps_rel": reps_rel, "implementation": implementation}
    low = quadratic(dtype, x0, 150, optimizer_class, **options)
    high = quadratic(torch.float64, x0, 150, optimizer_class, **options)
    for a, b in zip(low, high, strict=True):
        assert a["rbar"] == pytest.approx(b["rbar"], rel=0.01)
        assert a["eta"] == pytest.approx(b["eta"], rel=0.01)
    assert high[-1]["rbar"] > 100 * high[0]["rbar"]  # it has moved


def test_without_compensation_bfloat16_stands_still():
    x0 = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    trace = quadratic(torch.bfloat16, x0, 50, DoG, reps_rel=1e-6, compensate=False)
    assert trace[-1]["distance"] == 0


@EVERY
def test_compensated_float32_follows_float64_from_the_first_step(implementation):
    x0 = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    options = {"reps_rel": 1e-8, "implementation": implementation}
    low = quadratic(torch.float32, x0, 40, DoG, compensate=True, **options)
    high = quadratic(torch.float64, x0, 40, DoG, **options)
    assert low[-1]["distance"] == pytest.approx(high[-1]["distance"], rel=1e-4)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_16_bit_gradients_neither_stall_nor_overflow(dtype, implementation):
    p = nn.Parameter(torch.zeros(100, dtype=dtype))
    optimizer = DoG([p], implementation=implementation)
    for t in range(300):
        p.grad = torch.full_like(p, 100.0 * (-1) ** t)  # ‖g‖² = 1e6, more than float16 holds
        optimizer.step()
    assert optimizer.telemetry()[0]["G"] == pytest.approx(300 * 1e6, rel=1e-3)


def test_average_of_16_bit_parameters_is_float32_and_goes_on_moving():
    p = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    optimizer = DoG([p], averaging=PolynomialDecay(gamma=0), reps_rel=1e-2)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(20):
        p.grad = torch.randn(8, generator=generator).to(torch.bfloat16)
        optimizer.step()
        seen.append(p.detach().double() + optimizer.state[p]["compensation"].double())
    average = optimizer.state[p]["average"]
    assert average.dtype == torch.float32
    torch.testing.assert_close(average.double(), torch.stack(seen).mean(0), rtol=1e-6, atol=1e-7)


def stored(tensor, **options):
    p = nn.Parameter(tensor)
    optimizer = DoG([p], **options)
    p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer.state[p]["x0"]


def test_start_takes_no_more_memory_than_it_needs():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(64, 32, generator=generator)
    for tensor, bytes_kept in (
        (torch.ones(64, 32), 4),
        (values.to(torch.bfloat16).float(), 2 * 2048),
        (values.to(torch.float16).float(), 2 * 2048),
        (values, 4 * 2048),
        (values.to(torch.bfloat16), 2 * 2048),
    ):
        x0 = stored(tensor.clone())
        assert x0.untyped_storage().nbytes() == bytes_kept
        assert torch.equal(x0.to(tensor.dtype).expand(tensor.shape), tensor)


@EVERY
@BOTH
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_step_with_a_gradient_that_is_not_finite_never_was(optimizer_class, implementation, bad):
    def train(with_bad_steps):
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]
        optimizer = optimizer_class(
            parameters, reps_rel=1e-2, averaging=PolynomialDecay(), implementation=implementation
        )
        for t in range(6):
            if with_bad_steps and t in (0, 3):
                for p in parameters:
                    p.grad = torch.ones_like(p)
                parameters[1].grad[2] = bad
                optimizer.step()
            for p in parameters:
                p.grad = torch.tanh(p.detach() - t)
            optimizer.step()
        return parameters, optimizer

    (clean, clean_optimizer), (hit, hit_optimizer) = train(False), train(True)
    for p, q in zip(clean, hit, strict=True):
        assert torch.equal(p, q)
        a, b = clean_optimizer.state[p], hit_optimizer.state[q]
        assert torch.equal(a["average"], b["average"])
    for a, b in zip(clean_optimizer.telemetry(), hit_optimizer.telemetry(), strict=True):
        assert (a.pop("skipped"), b.pop("skipped")) == (0, 2)
        assert a == b


@EVERY
@pytest.mark.parametrize("unscale_first", [False, True])
def test_grad_scaler_gives_the_steps_of_unscaled_gradients(implementation, unscale_first):
    def train(scaler):
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        optimizer = DoG(
            model.parameters(), reps_rel=1e-2, weight_decay=0.1, implementation=implementation
        )
        for t in range(8):
            optimizer.zero_grad()
            loss = (model(torch.ones(4, 6) * t) - 1).pow(2).mean()
            if scaler is None:
                loss.backward()
                optimizer.step()
                continue
            scaler.scale(loss).backward()
            if t == 4:
                model.weight.grad[0, 0] = math.inf
            if unscale_first:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            if t == 4:  # skipped: the same batch again, as if it never was
                optimizer.zero_grad()
                scaler.scale((model(torch.ones(4, 6) * t) - 1).pow(2).mean()).backward()
                scaler.step(optimizer)
                scaler.update()
        return model, optimizer

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plain, _ = train(None)
    scaled, optimizer = train(scaler)
    torch.testing.assert_close(scaled.weight, plain.weight, rtol=1e-5, atol=1e-7)
    assert scaler.get_scale() == 2.0**9  # the scaler has seen the overflow
    assert optimizer.telemetry()[0]["step"] == 8


@EVERY
@BOTH
def test_max_grad_norm_is_clipping_before_the_step(optimizer_class, implementation):
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]
    theirs = copy.deepcopy(ours)
    clipping = optimizer_class(
        ours, reps_rel=1e-2, max_grad_norm=1.0, implementation=implementation
    )
    plain = optimizer_class(theirs, reps_rel=1e-2, implementation=implementation)
    for t in range(6):
        for parameters in (ours, theirs):
            for p in parameters:
                p.grad = (p.detach() - 1) * (0.05 + t)
        before = [p.grad.clone() for p in ours]
        clipping.step()
        nn.utils.clip_grad_norm_(theirs, 1.0)
        plain.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(ours, before, strict=True))
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert clipping.telemetry()[0]["G"] == pytest.approx(plain.telemetry()[0]["G"], rel=1e-4)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_impossible_max_grad_norm_is_refused(value):
    with pytest.raises(ValueError, match="max_grad_norm"):
        DoG([nn.Parameter(torch.ones(2))], max_grad_norm=value)


@EVERY
def test_theorys_average_weighs_the_iterates_by_their_distance(implementation):
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(6).double())
    optimizer = DoG([p], reps_rel=1e-1, averaging=DistanceWeighted(), implementation=implementation)
    total, weights = torch.zeros(6).double(), 0.0
    for t in range(10):
        x = p.detach().clone()
        p.grad = torch.tanh(x - t)
        optimizer.step()
        rbar = optimizer.telemetry()[0]["rbar"]
        total, weights = total + rbar * x, weights + rbar
    torch.testing.assert_close(optimizer.state[p]["average"], total / weights)
