"""The Triton kernels do what the reference does: here without a GPU, in Triton's interpreter.

Triton has to know that it interprets before it is imported, so that is done in another process.
In this one the same kernels are compiled for CUDA, as they would be for a launch, and not launched.
"""

import copy
import importlib.util
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from benchmarks import kernel_cases
from benchmarks.kernel_cases import TOLERANCE, assert_close, assert_same_bits, numbers
from dog import DoG, LDoG
from dog.kernels import reference
from dog.kernels.bundle import Bundle

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs Triton, which is not installed"
)

BLOCK = 32
TRUE = torch.tensor(True)
EVERY_TYPE = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
COMPENSATED = pytest.mark.parametrize("compensated", [False, True], ids=["plain", "compensated"])


@pytest.fixture(scope="module")
def interpreter():
    """A function that calls another, of this module, where Triton interprets its kernels."""
    with ProcessPoolExecutor(1, get_context("spawn"), _interpret) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


def _interpret():
    assert "triton" not in sys.modules
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)
    kernels().BLOCK = BLOCK


def kernels():
    from dog.kernels import triton

    return triton


def bundle_of(dtype, averaged=False, compensated=False, **options):
    return kernel_cases.bundle_of(dtype, BLOCK, "cpu", averaged, compensated, **options)


def gradient2(bundle, grad_scale=None):
    decays = bundle.weight_decay != 0
    return kernels().gradient2(
        bundle.grads,
        bundle.params if decays else [],
        bundle.compensations if decays else [],
        bundle.weight_decay,
        grad_scale,
    )


def distance2(bundle):
    return kernels().distance2(bundle.params, bundle.compensations, bundle.starts)


def update(bundle, eta, average_weight, take=TRUE, grad_scale=None):
    return kernels().update_(
        bundle.params,
        bundle.compensations,
        bundle.averages,
        bundle.grads,
        bundle.starts,
        eta,
        average_weight,
        take,
        bundle.weight_decay,
        grad_scale,
        bundle.averages_previous_iterate,
    )


TRITON = SimpleNamespace(gradient2=gradient2, distance2=distance2, update=update)


# What is done in the interpreter -----------------------------------------------------------------


def compare_measures(dtype, compensated, weight_decay, grad_scale):
    bundle = bundle_of(dtype, compensated=compensated, weight_decay=weight_decay)
    kernel_cases.compare_measures(TRITON, bundle, grad_scale)


def compare_step(dtype, compensated, averaging, weight_decay, grad_scale):
    averaged = averaging != "no average"
    options = {
        "weight_decay": weight_decay,
        "averages_previous_iterate": averaging == "average first",
    }
    bundle = bundle_of(dtype, averaged, compensated, **options)
    kernel_cases.compare_step(TRITON, bundle, averaged, grad_scale)


def refuse_step(dtype, compensated, averages_previous_iterate):
    bundle = bundle_of(
        dtype,
        True,
        compensated,
        weight_decay=0.1,
        averages_previous_iterate=averages_previous_iterate,
    )
    kernel_cases.refuse_step(TRITON, bundle)


def repeat():
    first = bundle_of(torch.float32, True, weight_decay=0.1)
    second = copy.deepcopy(first)
    assert torch.equal(gradient2(first), gradient2(second))
    assert torch.equal(update(first, *numbers(first)), update(second, *numbers(second)))
    assert_same_bits(first, second)


def share_eta():
    ours, theirs = (bundle_of(torch.float64, True) for _ in range(2))
    eta, weight = (t[:1].expand(len(ours.params)) for t in numbers(ours))
    update(ours, eta, weight)
    reference.update(theirs, eta, weight, TRUE)
    assert_close(ours.params + ours.averages, theirs.params + theirs.averages, 1e-14)


def copy_into_averages(dtype):
    bundle = bundle_of(dtype, True)
    eta = numbers(bundle)[0]
    update(bundle, eta, torch.ones_like(eta))
    for p, average in zip(bundle.params, bundle.averages, strict=True):
        assert torch.equal(p, average)


def see_overflow():
    bundle = bundle_of(torch.float32)
    bundle.grads[3][7] = torch.inf
    bundle.grads[5][-1] = torch.nan
    found = gradient2(bundle).isfinite().tolist()
    assert found == [i not in (3, 5) for i in range(len(found))]


def square_extremes(size):
    kernel_cases.square_extremes(TRITON, bundle_of(torch.float32), size)


def do_nothing():
    nothing, zero = [torch.empty(0)], torch.zeros(1, dtype=torch.float64)
    bundle = Bundle([0], nothing, nothing, nothing, nothing)
    assert torch.equal(gradient2(bundle), zero)
    assert torch.equal(distance2(bundle), zero)
    assert torch.equal(update(bundle, zero, zero), zero)


def read_odd_addresses():
    x = torch.randn(2 * BLOCK + 1)
    bundle = Bundle([0], [x[1 : BLOCK + 1]], [x[BLOCK + 1 :]], [torch.randn(BLOCK)])
    assert bundle.params[0].data_ptr() % 16
    assert_close([gradient2(bundle)], [reference.gradient2(bundle)], 1e-6)
    assert_close([distance2(bundle)], [reference.distance2(bundle)], 1e-6)


def keep_tables():
    tables = kernels()._tables
    tables.clear()
    bundle = bundle_of(torch.float32)
    for _ in range(3):
        gradient2(bundle)
    assert len(tables) == 1
    bundle.grads = [2 * g for g in bundle.grads]
    assert_close([gradient2(bundle)], [reference.gradient2(bundle)], 1e-6)
    assert len(tables) == 2
    kernels().TABLES = 4
    for g in torch.randn(6, BLOCK):
        gradient2(Bundle([0], [g], [g]))
    assert len(tables) == 4


def keep_what_graphs_copy_from():
    kept = kernels()._kept
    with patch.object(torch.Tensor, "pin_memory", torch.Tensor.clone):  # which needs a GPU
        first, again, other = (kept(torch.arange(n)) for n in (3, 3, 4))
    assert first is again and first is not other
    assert (first.tolist(), other.tolist()) == ([0, 1, 2], [0, 1, 2, 3])


def reuse_addresses():
    p, x0 = torch.randn(20), torch.arange(20.0)  # as bfloat16, every other one of them is 0
    for start in (x0, x0[:1].expand(20), x0.view(torch.bfloat16)[:20]):
        bundle = Bundle([0], [p], starts=[start])
        assert_close([distance2(bundle)], [reference.distance2(bundle)], 1e-6)
    bundle = Bundle([0], [p[:10]], starts=[x0[:10]])
    assert_close([distance2(bundle)], [reference.distance2(bundle)], 1e-6)


def train(optimizer_class, dtype, options):
    """Train with Triton's kernels in the place of those for the CPU, and with the reference."""
    library = torch.library.Library("dog", "IMPL")
    for name in ("gradient2", "distance2", "update_"):
        library.impl(name, getattr(kernels(), name), "CPU", allow_override=True)
    kernel_cases.compare_training(optimizer_class, dtype, "fused", **options)


# Tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compensated, weight_decay, grad_scale",
    [(False, 0.0, None), (False, 0.3, 3.0), (True, 0.3, 3.0)],  # decay is what reads them
)
@EVERY_TYPE
def test_norms_and_distances_are_the_references(
    interpreter, dtype, compensated, weight_decay, grad_scale
):
    interpreter(compare_measures, dtype, compensated, weight_decay, grad_scale)


@COMPENSATED
@pytest.mark.parametrize("averaging", ["no average", "average first", "average after"])
@EVERY_TYPE
def test_step_is_the_references(interpreter, dtype, compensated, averaging):
    interpreter(compare_step, dtype, compensated, averaging, 0.3, 3.0)


@pytest.mark.parametrize("weight_decay, grad_scale", [(0.0, None), (0.3, None), (0.0, 3.0)])
def test_step_without_decay_or_scale_is_the_references(interpreter, weight_decay, grad_scale):
    interpreter(compare_step, torch.float64, False, "average after", weight_decay, grad_scale)


@COMPENSATED
@pytest.mark.parametrize("averages_previous_iterate", [False, True], ids=["after", "first"])
@EVERY_TYPE
def test_step_not_taken_changes_no_bit_and_measures_the_distances(
    interpreter, dtype, compensated, averages_previous_iterate
):
    interpreter(refuse_step, dtype, compensated, averages_previous_iterate)


def test_same_call_gives_the_same_bits(interpreter):
    interpreter(repeat)


def test_one_eta_serves_all_tensors(interpreter):
    interpreter(share_eta)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_average_of_weight_one_is_the_parameter_exactly(interpreter, dtype):
    interpreter(copy_into_averages, dtype)


def test_gradient_that_is_not_finite_shows_in_its_own_norm_alone(interpreter):
    interpreter(see_overflow)


@pytest.mark.parametrize("size", [1e-30, 1e25], ids=["small", "large"])
def test_squares_that_float32_cannot_hold_are_summed(interpreter, size):
    interpreter(square_extremes, size)


def test_bundle_of_empty_tensors_has_norm_and_distance_zero(interpreter):
    interpreter(do_nothing)


def test_tensors_at_odd_addresses_are_read_right(interpreter):
    interpreter(read_odd_addresses)


def test_table_serves_while_addresses_stay_and_few_are_kept(interpreter):
    interpreter(keep_tables)


def test_graphs_that_are_captured_again_copy_from_where_the_first_did(interpreter):
    interpreter(keep_what_graphs_copy_from)


def test_other_form_or_size_at_the_same_address_is_noticed(interpreter):
    interpreter(reuse_addresses)


@pytest.mark.parametrize(
    "dtype, options",
    [(torch.float32, {}), (torch.float64, {"weight_decay": 0.1, "max_grad_norm": 1.0})],
    ids=str,
)
@pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
def test_optimizer_trains_as_with_the_reference(interpreter, optimizer_class, dtype, options):
    interpreter(train, optimizer_class, dtype, options)


class Cuda:
    """Stands for the driver of a GPU that is not there."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def compiled(monkeypatch, tmp_path_factory):
    """The kernels that would have been launched, compiled for CUDA."""
    from triton import knobs
    from triton.runtime.driver import driver

    if knobs.runtime.interpret:
        pytest.skip("needs Triton's compiler, and TRITON_INTERPRET is set")
    try:
        knobs.nvidia.ptxas.path  # noqa: B018
    except RuntimeError:
        pytest.skip("needs ptxas, which Triton came without")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "triton"))
    launched = []
    for kernel in (kernels()._walk, kernels()._total):

        def run(*arguments, run=kernel.run, **named):
            launched.append(run(*arguments, **{**named, "warmup": True}))

        monkeypatch.setattr(kernel, "run", run)
        kernel.device_caches.clear()
    driver.set_active(Cuda())
    yield launched
    driver.set_active(None)
    for kernel in (kernels()._walk, kernels()._total):
        kernel.device_caches.clear()


@pytest.mark.parametrize(
    "dtype, compensated",
    [
        (torch.float32, False),
        (torch.bfloat16, True),
        (torch.float16, False),
        (torch.float64, True),
    ],
    ids=str,
)
def test_every_pass_compiles_for_cuda_and_is_two_launches(compiled, dtype, compensated):
    bundle = bundle_of(dtype, True, compensated, weight_decay=0.1)
    scale = torch.tensor(2.0)
    gradient2(bundle, scale)
    distance2(bundle)
    update(bundle, *numbers(bundle), TRUE, scale)
    assert len(compiled) == 3 * 2
    assert all(kernel.asm["cubin"] for kernel in compiled)


def test_step_without_options_compiles_for_cuda(compiled):
    bundle = bundle_of(torch.float32)
    gradient2(bundle)
    update(bundle, numbers(bundle)[0], None)
    assert all(kernel.asm["cubin"] for kernel in compiled)


def test_16_bytes_are_moved_at_a_time_where_all_addresses_allow(compiled):
    size = kernels().BLOCK
    x = torch.randn(4, size + 4)
    for begin in (0, 1):
        tensors = ([row[begin : begin + size]] for row in x)
        update(Bundle([0], *tensors), torch.ones(1), torch.ones(1))
    even, _, odd, _ = (kernel.asm["ptx"] for kernel in compiled)
    assert x.data_ptr() % 16 == 0
    for instruction in ("ld.global.v4.b32", "st.global.v4.b32"):
        assert instruction in even
        assert instruction not in odd
