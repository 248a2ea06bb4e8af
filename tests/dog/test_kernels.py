"""Every implementation of the step's passes against the plain one."""

import math
from functools import reduce
from operator import add

import pytest
import torch
from torch import nn

from dog.kernels import blocks, compiled, foreach, fused, reference
from dog.kernels.bundle import Bundle
from dog.storage import rest_type

SHAPES = [(3, 5), (), (0,), (700,), (130, 1100)]


@pytest.fixture(params=["foreach", "compiled", "blocks"])
def kernels(request, monkeypatch):
    """An implementation other than the reference."""
    if request.param == "foreach":
        return foreach
    if request.param == "compiled":
        if compiled.library() is None:
            pytest.skip("the installation had no C compiler")
    else:
        monkeypatch.setattr(compiled, "library", lambda: None)
        monkeypatch.setattr(blocks, "BLOCK", 1000)
    return fused


def bundle(dtype, seed=0, averages=False, compensations=False, x0=None, **options):
    generator = torch.Generator().manual_seed(seed)

    def tensors(scale=1.0, dtype=dtype):
        return [(scale * torch.randn(s, generator=generator)).to(dtype) for s in SHAPES]

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    starts = tensors() if x0 is None else x0
    return Bundle(
        index=list(range(len(SHAPES))),
        params=tensors(),
        grads=tensors(0.1),
        starts=starts,
        averages=tensors(dtype=wide) if averages else [],
        compensations=tensors(1e-3, rest_type(dtype)) if compensations else [],
        **options,
    )


def constants(dtype):
    return [torch.full((), 0.5, dtype=dtype).expand(s) for s in SHAPES]


CASES = {
    "float32": {"dtype": torch.float32},
    "float64": {"dtype": torch.float64, "averages": True, "weight_decay": 0.3},
    "float32, averages": {"dtype": torch.float32, "averages": True},
    "float32, averages of x_t": {
        "dtype": torch.float32, "averages": True, "averages_previous_iterate": True},
    "float32, decay": {"dtype": torch.float32, "weight_decay": 0.3, "averages": True},
    "float32, constant x_0": {"dtype": torch.float32, "x0": constants(torch.float32)},
    "float32, 16-bit x_0": {"dtype": torch.float32, "x0": [
        torch.randn(s).to(torch.bfloat16) for s in SHAPES]},
    "float32, half x_0": {"dtype": torch.float32, "x0": [
        torch.randn(s).to(torch.float16) for s in SHAPES]},
    "float32, compensated": {"dtype": torch.float32, "compensations": True, "averages": False},
    "bfloat16": {"dtype": torch.bfloat16, "compensations": True},
    "bfloat16, all": {"dtype": torch.bfloat16, "compensations": True, "averages": True,
                      "weight_decay": 0.3},
    "bfloat16, constant x_0": {"dtype": torch.bfloat16, "compensations": True,
                               "x0": constants(torch.bfloat16)},
    "float16": {"dtype": torch.float16, "compensations": True, "averages": True},
}  # fmt: skip
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


# Of what is kept: a number of two 16-bit ones, the second in bfloat16, holds more digits.
TOLERANCE = {torch.bfloat16: 2**-15, torch.float16: 2**-18, torch.float64: 1e-12}


def assert_close(ours, theirs, dtype):
    t = TOLERANCE.get(dtype, 2e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=t, atol=t)


@EVERY
@pytest.mark.parametrize("scale", [None, 8.0])
def test_gradient_norms_are_those_of_the_reference(kernels, case, scale):
    scale = None if scale is None else torch.tensor(scale)
    b = bundle(**case)
    torch.testing.assert_close(
        kernels.gradient2(b, scale), reference.gradient2(b, scale), rtol=1e-5, atol=1e-12
    )


@EVERY
def test_distances_are_those_of_the_reference(kernels, case):
    b = bundle(**case)
    torch.testing.assert_close(kernels.distance2(b), reference.distance2(b), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1e25], ids=["small", "large"])
def test_squares_that_float32_cannot_hold_are_summed(kernels, size):
    b = bundle(torch.float32)
    b.grads = [size * g for g in b.grads]
    b.params = [size * p for p in b.params]
    b.starts = [torch.zeros_like(p) for p in b.params]

    def assert_equal(ours, theirs):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0.0)

    assert_equal(kernels.gradient2(b), reference.gradient2(b))
    assert_equal(kernels.distance2(b), reference.distance2(b))
    eta = torch.full((len(SHAPES),), 0.1, dtype=torch.float64)
    after = kernels.update(b, eta, None, torch.tensor(True))
    if after is not None:
        assert_equal(after, reference.distance2(b))


@EVERY
@pytest.mark.parametrize("scale", [None, 8.0])
def test_update_is_that_of_the_reference(kernels, case, scale):
    scale = None if scale is None else torch.tensor(scale)
    ours, plain = bundle(**case), bundle(**case)
    eta = torch.linspace(0.1, 0.5, len(SHAPES), dtype=torch.float64)
    weight = torch.linspace(0.1, 1.0, len(SHAPES), dtype=torch.float64) if ours.averages else None
    after = kernels.update(ours, eta, weight, torch.tensor(True), scale)
    reference.update(plain, eta, weight, torch.tensor(True), scale)
    exact = [[reference.exact(b, i) for i in range(len(SHAPES))] for b in (ours, plain)]
    assert_close(*exact, case["dtype"])
    assert_close(ours.averages, plain.averages, case["dtype"])
    if after is not None:
        torch.testing.assert_close(after, reference.distance2(ours), rtol=1e-5, atol=1e-12)


@EVERY
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_step_that_is_not_taken_leaves_every_bit(kernels, case, bad):
    ours, before = bundle(**case), bundle(**case)
    ours.grads[-1][0, 0] = bad
    eta = torch.full((len(SHAPES),), bad, dtype=torch.float64)
    after = kernels.update(ours, eta, eta if ours.averages else None, torch.tensor(False))
    for name in ("params", "averages", "compensations"):
        for a, b in zip(getattr(ours, name), getattr(before, name), strict=True):
            assert torch.equal(a, b)
    if after is not None:
        torch.testing.assert_close(after, reference.distance2(before), rtol=1e-5, atol=1e-12)


@EVERY
def test_weight_one_makes_the_average_a_copy(kernels, case):
    b = bundle(**{**case, "averages": True, "averages_previous_iterate": False})
    ones = torch.ones(len(SHAPES), dtype=torch.float64)
    kernels.update(b, 0.1 * ones, ones, torch.tensor(True))
    for i, average in enumerate(b.averages):
        torch.testing.assert_close(
            average.double(), reference.exact(b, i).double(), rtol=2**-15, atol=2**-15
        )
        if not b.compensations:
            assert torch.equal(average, b.params[i].to(average.dtype))


@pytest.mark.skipif(compiled.library() is None, reason="the installation had no C compiler")
def test_number_of_threads_does_not_change_a_bit():
    results = []
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        generator = torch.Generator().manual_seed(0)
        p, g, x0 = (torch.randn(3_000_001, generator=generator) for _ in range(3))
        b = Bundle([0], [p], [g], [x0])
        eta = torch.tensor([0.1], dtype=torch.float64)
        after = fused.update(b, eta, None, torch.tensor(True))
        results.append((p, after, fused.gradient2(b)))
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def added_up(x):
    """Add up squares as cpu.c says: in 32 lanes for each piece of 512, in order, in float64."""
    total = 0.0
    for chunk in x.split(65536):
        of_chunk = 0.0
        for piece in chunk.double().square().split(512):
            rows = nn.functional.pad(piece, (0, -len(piece) % 32)).view(-1, 32).tolist()
            lanes = (reduce(add, lane, 0.0) for lane in zip(*rows, strict=True))
            of_chunk += reduce(add, lanes, 0.0)
        total += of_chunk
    return total


@pytest.mark.skipif(compiled.library() is None, reason="the installation had no C compiler")
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_sums_are_of_the_same_bits_in_whatever_order_memory_is_read(threads, monkeypatch):
    monkeypatch.setattr(compiled, "_SHARE", 1)  # so that small tensors are shared, too
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(0)
    sizes = (70_000, 0, 1, 33, 2049, 513, 20_000)
    grads = [torch.randn(n, generator=generator) for n in sizes]
    starts = [torch.zeros(n) for n in sizes]
    expected = [added_up(g) for g in grads]
    assert compiled.gradient2(grads, [], [], 0.0, None).tolist() == expected
    assert compiled.distance2(grads, [], starts).tolist() == expected
    eta = torch.zeros(len(sizes), dtype=torch.float64)
    for average in ([], [g.clone() for g in grads]):
        update = (grads, [], average, starts, starts, eta, eta, torch.tensor(True))
        assert compiled.update_(*update, 0.0, None, False).tolist() == expected


def test_gradient_of_another_layout_is_read_in_its_own_order(kernels):
    p = torch.randn(30, 50)
    transposed = torch.randn(50, 30).t()
    expanded = torch.tensor(2.0).expand(30, 50)
    for g in (transposed, expanded):
        b = Bundle([0], [p.clone()], [g], [torch.zeros(30, 50)])
        kernels.update(b, torch.tensor([0.5], dtype=torch.float64), None, torch.tensor(True))
        torch.testing.assert_close(b.params[0], p - 0.5 * g)


def test_operators_keep_torchs_contract():
    b = bundle(torch.float32, averages=True)
    eta = torch.full((len(SHAPES),), 0.1, dtype=torch.float64)
    torch.library.opcheck(torch.ops.dog.gradient2, (b.grads, [], [], 0.0, None))
    torch.library.opcheck(torch.ops.dog.distance2, (b.params, [], b.starts))
    torch.library.opcheck(
        torch.ops.dog.update_,
        (b.params, [], b.averages, b.grads, b.starts, eta, eta, torch.tensor(True), 0.0, None,
         False),
    )  # fmt: skip


@pytest.mark.skipif(compiled.library() is None, reason="the installation had no C compiler")
def test_kernels_compiled_from_other_sources_are_not_called(monkeypatch):
    """Their structs may be others: they would read and write somewhere else."""
    monkeypatch.setattr(compiled, "VERSION", compiled.VERSION + 1)
    with pytest.warns(UserWarning, match="install the package again"):
        assert compiled.library.__wrapped__() is None
