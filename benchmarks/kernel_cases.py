"""Kernels compared with the reference on awkward tensors, wherever they run.

``passes`` is whatever has ``gradient2``, ``distance2`` and ``update`` as
:mod:`dog.kernels.reference` has them.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dog import DoG, PolynomialDecay
from dog.kernels import reference
from dog.kernels.bundle import Bundle
from dog.storage import rest_type

# Of parameters by themselves. In Triton's interpreter bfloat16 is cut off and not rounded.
TOLERANCE = {
    torch.float64: 1e-14,
    torch.float32: 1e-6,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
}
# Of two 16-bit numbers together, the second in bfloat16, which hold more digits.
TOGETHER = {torch.float16: 2**-16, torch.bfloat16: 2**-13}


def bundle_of(
    dtype: torch.dtype,
    block: int,
    device: torch.device | str = "cpu",
    averaged: bool = False,
    compensated: bool = False,
    **options: Any,
) -> Bundle:
    """Return tensors of several sizes around that of a block, orders in memory and forms of x_0."""
    forms: dict[tuple[int, ...], torch.dtype | str] = {
        (): dtype,
        (0,): torch.bfloat16,
        (1,): torch.float16,
        (block,): dtype,
        (2, 3, 2, 4): torch.float64,
        (block + 5,): "constant",
        (3 * block - 1,): torch.bfloat16,
    }
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0) -> Tensor:
        x = (scale * torch.randn(shape, generator=generator).to(dtype)).to(device)
        return x.to(memory_format=torch.channels_last) if len(shape) == 4 else x

    bundle = Bundle(**options)
    for i, (shape, form) in enumerate(forms.items()):
        bundle.add(
            i,
            drawn(shape, dtype),
            drawn(shape, dtype),
            drawn(shape, form)
            if isinstance(form, torch.dtype)
            else torch.tensor(0.25, dtype=dtype, device=device).expand(shape),
            drawn(shape, torch.promote_types(dtype, torch.float32)) if averaged else None,
            drawn(shape, rest_type(dtype), 1e-4) if compensated else None,
        )
    return bundle


def numbers(bundle: Bundle) -> tuple[Tensor, Tensor]:
    """Return η and the average's weight of each parameter."""
    n, options = len(bundle.params), {"dtype": torch.float64, "device": bundle.params[0].device}
    return torch.linspace(0.01, 0.1, n, **options), torch.linspace(0.1, 1.0, n, **options)


def exact(bundle: Bundle) -> list[Tensor]:
    """Return the parameters with their compensations."""
    return [reference.exact(bundle, i) for i in range(len(bundle.params))]


def assert_close(ours: Iterable[Tensor], theirs: Iterable[Tensor], tolerance: float) -> None:
    """Compare tensors one by one."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, check_dtype=False)


def assert_same_bits(bundle: Bundle, other: Bundle) -> None:
    """Compare all that a step changes."""
    for name in ("params", "compensations", "averages"):
        for a, b in zip(getattr(bundle, name), getattr(other, name), strict=True):
            assert torch.equal(a, b), f"{name} have changed"


def compare_measures(passes: Any, bundle: Bundle, grad_scale: float | None = None) -> None:
    """Compare norms and distances."""
    like = bundle.params[0]
    scale = None if grad_scale is None else torch.tensor(grad_scale, device=like.device)
    tolerance = 1e-12 if like.dtype == torch.float64 else 1e-5
    measured = passes.gradient2(bundle, scale), passes.distance2(bundle)
    expected = reference.gradient2(bundle, scale), reference.distance2(bundle)
    assert_close(measured, expected, tolerance)


def compare_step(
    passes: Any, bundle: Bundle, average: bool = True, grad_scale: float | None = None
) -> None:
    """Compare a step; without ``average`` the bundle has none."""
    theirs = copy.deepcopy(bundle)
    dtype, device = bundle.params[0].dtype, bundle.params[0].device
    eta, weight = numbers(bundle)
    scale = None if grad_scale is None else torch.tensor(grad_scale, device=device)
    take = torch.tensor(True, device=device)
    measured = passes.update(bundle, eta, weight if average else None, take, scale)
    reference.update(theirs, eta, weight if average else None, take, scale)

    alone = TOLERANCE[dtype]
    compensated = bool(bundle.compensations)
    together = TOGETHER.get(dtype, alone) if compensated else alone
    assert_close(bundle.params, theirs.params, alone)
    assert_close(exact(bundle), exact(theirs), together)
    loose = compensated or not bundle.averages_previous_iterate
    assert_close(bundle.averages, theirs.averages, together if loose else 1e-6)
    if measured is not None:
        tolerance = 1e-12 if alone < 1e-12 else 1e-5
        assert_close([measured], [reference.distance2(bundle)], tolerance)


def refuse_step(passes: Any, bundle: Bundle) -> None:
    """Let a step that is not taken, of gradients that are not finite, change no bit."""
    for i, value in ((3, torch.inf), (5, torch.nan)):
        bundle.grads[i].view(-1)[0] = value
    before = copy.deepcopy(bundle)
    device = bundle.params[0].device
    scale, take = torch.tensor(4.0, device=device), torch.tensor(False, device=device)
    eta, weight = numbers(bundle)
    measured = passes.update(bundle, eta, weight if bundle.averages else None, take, scale)
    assert_same_bits(bundle, before)
    if measured is not None:
        assert torch.equal(measured, passes.distance2(bundle))


def square_extremes(passes: Any, bundle: Bundle, size: float) -> None:
    """Compare sums of squares that float32 cannot hold."""
    bundle.grads = [size * g for g in bundle.grads]
    bundle.params = [size * p for p in bundle.params]
    bundle.starts = [torch.zeros_like(p) for p in bundle.params]
    pairs = [
        (passes.gradient2(bundle), reference.gradient2(bundle)),
        (passes.distance2(bundle), reference.distance2(bundle)),
    ]
    take = torch.tensor(True, device=bundle.params[0].device)
    measured = passes.update(bundle, numbers(bundle)[0], None, take)
    if measured is not None:
        pairs.append((measured, reference.distance2(bundle)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0.0)


def compare_training(
    optimizer_class: type[DoG],
    dtype: torch.dtype,
    implementation: Any,
    device: torch.device | str = "cpu",
    **options: Any,
) -> None:
    """Train a network with an implementation and with the reference; a step is skipped."""
    runs = []
    for each in (implementation, "reference"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(device, dtype)
        averaging = PolynomialDecay()
        optimizer = optimizer_class(
            model.parameters(), reps_rel=1e-2, averaging=averaging, implementation=each, **options
        )
        runs.append((model, optimizer))
    for step in range(5):
        inputs = torch.randn(16, 6).to(device, dtype)
        targets = torch.randint(3, (16,)).to(device)
        for model, optimizer in runs:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            (loss * torch.inf if step == 2 else loss).backward()
            optimizer.step()
    (ours, our_optimizer), (theirs, their_optimizer) = runs
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    assert_close(ours.parameters(), theirs.parameters(), tolerance)
    rows = zip(our_optimizer.telemetry(), their_optimizer.telemetry(), strict=True)
    for our_row, their_row in rows:
        assert (our_row["step"], our_row["skipped"]) == (4, 1)
        for name, value in their_row.items():
            assert abs(our_row[name] - value) <= tolerance * abs(value), (name, our_row, their_row)
    with our_optimizer.averaged(), their_optimizer.averaged():
        assert_close(ours.parameters(), theirs.parameters(), tolerance)
