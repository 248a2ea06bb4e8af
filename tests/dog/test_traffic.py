"""What a step costs: no wait for the device, and no more memory traffic than it must have."""

import weakref

import pytest
import torch
from torch import nn

from benchmarks.counting import Traffic
from dog import DoG, LDoG, PolynomialDecay, TDoG

EVERY = pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
N = 50_000


def stepped(optimizer, parameters):
    for p in parameters:
        p.grad = torch.randn_like(p) * 1e-3
    optimizer.step()
    for p in parameters:
        p.grad = torch.randn_like(p) * 1e-3


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    sizes = (N, N // 2, N // 2)
    return [nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in sizes]


@EVERY
@pytest.mark.parametrize("optimizer_class", [DoG, LDoG, TDoG])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_step_has_no_host_sync(optimizer_class, implementation, dtype):
    own = parameters(dtype)
    more = {"steps": 10} if optimizer_class is TDoG else {}
    optimizer = optimizer_class(
        own,
        weight_decay=0.1,
        max_grad_norm=1.0,
        averaging=PolynomialDecay(),
        implementation=implementation,
        **more,
    )
    stepped(optimizer, own)
    with Traffic() as traffic:
        optimizer.step()
    assert traffic.syncs == 0 and traffic.calls > 0


@pytest.mark.parametrize(
    ("averaging", "dtype", "budget"),
    [
        (None, torch.float32, 20),
        (PolynomialDecay(), torch.float32, 28),
        # Gradient twice, weights and compensation read and written, x_0: two bytes each.
        (None, torch.bfloat16, 14),
    ],
)
@pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
def test_fused_step_moves_no_more_than_its_budget(optimizer_class, averaging, dtype, budget):
    own = parameters(dtype)
    optimizer = optimizer_class(own, averaging=averaging, implementation="fused")
    stepped(optimizer, own)
    with Traffic() as traffic:
        optimizer.step()
    assert traffic.bytes / (2 * N) == budget


# The published step moves 40, and 60 with its averager.
@pytest.mark.parametrize(("averaging", "budget"), [(None, 32), (PolynomialDecay(), 44)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_foreach_step_moves_less_than_the_published_one(averaging, budget, weight_decay):
    own = parameters()
    optimizer = DoG(own, averaging=averaging, weight_decay=weight_decay, implementation="foreach")
    stepped(optimizer, own)
    with Traffic() as traffic:
        optimizer.step()
    # With weight decay ‖g + λx‖ needs a sum of its own.
    assert traffic.bytes / (2 * N) == budget + (12 if weight_decay else 0)
    assert traffic.calls < 60


@EVERY
def test_gradients_are_freed_by_zero_grad(implementation):
    own = parameters()
    optimizer = DoG(own, implementation=implementation)
    stepped(optimizer, own)
    optimizer.step()
    gradients = [weakref.ref(p.grad) for p in own]
    optimizer.zero_grad()
    assert [gradient() for gradient in gradients] == [None] * 3


def test_ever_other_gradients_do_not_fill_the_memory():
    own = [nn.Parameter(torch.ones(2)) for _ in range(8)]
    optimizer = DoG(own)
    for pattern in range(1, 200):
        for i, p in enumerate(own):
            p.grad = torch.ones(2) if pattern >> i & 1 else None
        optimizer.step()
    layout = optimizer._layout
    assert max(map(len, (layout._plans, layout._indices._made, layout._flags))) <= 64
    assert optimizer.telemetry()[0]["step"] == 199


def test_weights_that_fit_16_bits_are_read_in_two_bytes():
    own = [nn.Parameter(p.detach().to(torch.bfloat16).float()) for p in parameters()]
    optimizer = DoG(own, implementation="fused")
    stepped(optimizer, own)
    with Traffic() as traffic:
        optimizer.step()
    assert traffic.bytes / (2 * N) == 18


@EVERY
@pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
def test_compiled_step_is_one_graph_and_the_same(optimizer_class, implementation):
    torch._dynamo.reset()
    runs = []
    for compiled in (False, True):
        own = parameters()
        optimizer = optimizer_class(
            own, reps_rel=1e-2, averaging=PolynomialDecay(), implementation=implementation
        )
        torch.manual_seed(0)
        stepped(optimizer, own)  # the first step takes x_0, and looks at it
        optimizer.step()
        step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
        for _ in range(3):
            (step if compiled else optimizer.step)()
        runs.append((own, optimizer.telemetry()))
    for p, q in zip(runs[0][0], runs[1][0], strict=True):
        torch.testing.assert_close(p, q)
    for a, b in zip(runs[0][1], runs[1][1], strict=True):
        assert a == pytest.approx(b)


def test_a_rate_that_is_a_tensor_is_not_waited_for_in_the_global_scope():
    own = parameters()
    optimizer = DoG(own, lr=torch.tensor(1.0), init_eta=torch.tensor(1e-4), scope="global")
    stepped(optimizer, own)
    with Traffic() as traffic:
        optimizer.step()
    assert traffic.syncs == 0
