"""Many param groups: each as if it had an optimizer of its own, at little more than one's cost."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from dog import DistanceWeighted, DoG, LDoG, PolynomialDecay, TDoG

pytestmark = pytest.mark.filterwarnings("ignore:param groups each")
EVERY = pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
OPTIMIZERS = pytest.mark.parametrize(
    ("optimizer_class", "more"), [(DoG, {}), (LDoG, {}), (TDoG, {"steps": 100})]
)
OPTIONS = [
    {},
    {"lr": 0.5, "reps_rel": 1e-2},
    {"weight_decay": 0.1, "eps": 1e-3},
    {"init_eta": 0.05},
    {"lr": 2.0, "weight_decay": 0.1},
    {"reps_rel": 1e-1, "weight_decay": 0.3},
]
ALIKE, UNLIKE = [2] * 6, [2, 1, 2, 60, 5, 1]


def replicas(sizes):
    """Return so many tensors for each group; the first ones of all groups share memory, etc."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 7), (5,), (2, 3, 2)]
    stacked = [
        torch.randn(len(sizes), *shapes[i % 3], generator=generator) for i in range(max(sizes))
    ]
    return [[nn.Parameter(stacked[i][r]) for i in range(size)] for r, size in enumerate(sizes)]


def set_gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator) + p.detach()


def grouped(groups, options=OPTIONS):
    return [{"params": own, **more} for own, more in zip(groups, options, strict=True)]


def trained_together_and_alone(sizes, optimizer_class, length=6, missing=(), **options):
    """Train groups in one optimizer, and copies of them in one each; return tensors and both."""
    together, alone = replicas(sizes), replicas(sizes)
    one = optimizer_class(grouped(together), **options)
    many = [optimizer_class([group], **options) for group in grouped(alone)]
    for t in range(length):
        for r, pair in enumerate(zip(together, alone, strict=True)):
            for own in pair:
                set_gradients(own, 100 * t + r)
                for place in missing:
                    own[place].grad = None if (t + r) % 2 else own[place].grad
        for group, optimizer in zip(one.param_groups, many, strict=True):
            if t == 3:  # a schedule
                group["lr"] *= 0.7
                optimizer.param_groups[0]["lr"] *= 0.7
        one.step()
        for optimizer in many:
            optimizer.step()
    return together, alone, one, many


def assert_same(together, alone, one, many):
    for r, (ours, theirs) in enumerate(zip(together, alone, strict=True)):
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True)), f"group {r}"
    assert one.telemetry() == [numbers for optimizer in many for numbers in optimizer.telemetry()]
    assert one.telemetry()[0]["step"] > 0


@EVERY
@OPTIMIZERS
@pytest.mark.parametrize("sizes", [ALIKE, UNLIKE], ids=["alike", "unlike"])
def test_each_of_many_groups_goes_as_it_would_alone(optimizer_class, more, sizes, implementation):
    assert_same(
        *trained_together_and_alone(sizes, optimizer_class, implementation=implementation, **more)
    )


@EVERY
@pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
@pytest.mark.parametrize("missing", [[0], [0, 1]], ids=["a tensor", "a group"])
def test_gradients_that_are_missing_are_so_for_their_group_alone(
    optimizer_class, missing, implementation
):
    assert_same(
        *trained_together_and_alone(
            ALIKE, optimizer_class, missing=missing, implementation=implementation
        )
    )


@EVERY
@pytest.mark.parametrize("averaging", [PolynomialDecay(), DistanceWeighted()], ids=["w", "rbar"])
def test_averages_of_many_groups_are_those_of_each_alone(averaging, implementation):
    together, alone, one, many = trained_together_and_alone(
        UNLIKE, DoG, averaging=averaging, implementation=implementation
    )
    assert_same(together, alone, one, many)
    for ours, theirs, optimizer in zip(together, alone, many, strict=True):
        for p, q in zip(ours, theirs, strict=True):
            assert torch.equal(one.state[p]["average"], optimizer.state[q]["average"])


def test_rows_are_summed_as_each_is_alone():
    """Whatever the sizes: a sum in float64 depends on the order it is taken in."""
    sizes = [1, 300, 7, 300, 1, 33]
    together, alone, one, many = trained_together_and_alone(sizes, DoG, length=2)
    assert_same(together, alone, one, many)


def test_options_of_a_group_count_from_the_step_they_are_set_before():
    (own,) = replicas([2])
    optimizer = DoG(grouped([own[:1], own[1:]], OPTIONS[:2]), reps_rel=1e-2)
    for lr in (1.0, 3.0, torch.tensor(5.0), 1.0):
        optimizer.param_groups[1]["lr"] = lr
        optimizer.param_groups[1]["weight_decay"] = float(lr) / 10
        before = [p.detach().clone() for p in own]
        set_gradients(own, 0)
        optimizer.step()
        for p, x, decay, factor, numbers in zip(
            own, before, (0, float(lr) / 10), (1, float(lr)), optimizer.telemetry(), strict=True
        ):
            eta = factor * numbers["rbar"] / numbers["G"] ** 0.5
            assert numbers["eta"] == pytest.approx(eta, rel=1e-12)
            torch.testing.assert_close(p.detach(), x - eta * (p.grad + decay * x))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=["0-dim", "1 element", "matrix"])
def test_lr_of_a_group_may_be_a_tensor_of_one_element_of_any_shape(shape):
    together, alone = replicas(ALIKE), replicas(ALIKE)
    factors = [1.0, 0.5, 2.0, 3.0, 0.1, 1.0]
    tensors = [{"lr": torch.full(shape, factor)} for factor in factors]
    floats = [{"lr": float(torch.tensor(factor))} for factor in factors]
    one, many = DoG(grouped(together, tensors)), DoG(grouped(alone, floats))
    for t in range(3):
        for ours, theirs in zip(together, alone, strict=True):
            set_gradients(ours, t)
            set_gradients(theirs, t)
        one.step()
        many.step()
    assert_same(together, alone, one, [many])


@pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_lr_of_all_may_be_a_tensor_of_one_element_of_any_shape(shape, optimizer_class):
    (ours,), (theirs,) = replicas([2]), replicas([2])
    one, other = optimizer_class(ours, lr=torch.full(shape, 0.5)), optimizer_class(theirs, lr=0.5)
    for t in range(3):
        for parameters, optimizer in ((ours, one), (theirs, other)):
            set_gradients(parameters, t)
            optimizer.step()
    assert all(map(torch.equal, ours, theirs))


def test_float_counts_that_equals_what_the_tensor_before_it_has_become():
    (own,) = replicas([2])
    lr = torch.tensor(2.0)
    optimizer = DoG(grouped([own[:1], own[1:]], [{}, {"lr": lr}]))
    set_gradients(own, 0)
    optimizer.step()
    lr.fill_(3.0)
    optimizer.param_groups[1]["lr"] = 3.0
    optimizer.step()
    numbers = optimizer.telemetry()[1]
    assert numbers["eta"] == pytest.approx(3 * numbers["rbar"] / numbers["G"] ** 0.5, rel=1e-12)


def test_run_of_many_groups_that_was_saved_goes_on_bit_for_bit():
    together, _, one, _ = trained_together_and_alone(UNLIKE, DoG)
    again = copy.deepcopy(together)
    optimizer = DoG(grouped(again))
    optimizer.load_state_dict(copy.deepcopy(one.state_dict()))
    for t in range(3):
        for r, (ours, theirs) in enumerate(zip(together, again, strict=True)):
            set_gradients(ours, 100 * t + r)
            set_gradients(theirs, 100 * t + r)
        one.step()
        optimizer.step()
    assert_same(together, again, one, [optimizer])


class Calls(TorchDispatchMode):
    """Counts the calls of torch's operators."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += 1
        return function(*arguments, **named or {})


@pytest.mark.parametrize("sizes", [[2], [1, 2]], ids=["alike", "unlike"])
@OPTIMIZERS
def test_step_of_many_groups_makes_no_more_calls_than_that_of_a_few(optimizer_class, more, sizes):
    counts = []
    for groups in (6, 60):
        own = replicas(sizes * (groups // len(sizes)))
        options = [{"lr": 1 + r / 100, "weight_decay": r % 2 / 10} for r in range(groups)]
        optimizer = optimizer_class(grouped(own, options), averaging=PolynomialDecay(), **more)
        for _ in range(2):
            set_gradients([p for group in own for p in group], 0)
            optimizer.step()
        with Calls() as calls:
            optimizer.step()
        counts.append(calls.count)
    assert counts[1] == counts[0] > 0


@pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
def test_views_of_one_tensor_are_measured_once(optimizer_class):
    """A write to one view stamps all; the update has measured them itself."""
    own = replicas(ALIKE)
    optimizer = optimizer_class(grouped(own), implementation="fused")
    for _ in range(2):
        set_gradients([p for group in own for p in group], 0)
        optimizer.step()
    members = optimizer._members()
    layout = optimizer._bound(members)
    assert layout.stamps == layout._stamps(members)


def test_compiled_step_of_many_groups_is_one_graph_and_the_same():
    torch._dynamo.reset()
    together, _, one, _ = trained_together_and_alone(UNLIKE, DoG)
    again = copy.deepcopy(together)
    optimizer = DoG(grouped(again))
    optimizer.load_state_dict(copy.deepcopy(one.state_dict()))
    for own in (*together, *again):
        set_gradients(own, 0)
    one.step()
    optimizer.step()
    step = torch.compile(optimizer.step, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        one.step()
        step()
    for ours, theirs in zip(together, again, strict=True):
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize(
    ("scope", "factors"),
    [("group", (1.0, 1.0)), ("group", (1.0, 0.5)), ("tensor", (1.0, 0.5)), ("global", (1.0, 1.0))],
)
def test_schedule_does_not_compile_the_step_of_groups_anew(scope, factors):
    """Two graphs: in the second the lr, which had changed, is a variable."""
    torch._dynamo.reset()
    together, alone = replicas([2, 2]), replicas([2, 2])
    compiled, plain = (
        DoG(grouped(own, [{"lr": factor} for factor in factors]), scope=scope)
        for own in (together, alone)
    )
    for own in (*together, *alone):
        set_gradients(own, 0)
    compiled.step()
    plain.step()
    graphs = CompileCounter()
    step = torch.compile(compiled.step, fullgraph=True, backend=graphs)
    for t in range(12):
        for optimizer in (compiled, plain):
            for group, factor in zip(optimizer.param_groups, factors, strict=True):
                group["lr"] = factor * (1 - t / 12)
            (step if optimizer is compiled else plain.step)()
    assert graphs.frame_count == 2
    for ours, theirs in zip(compiled.telemetry(), plain.telemetry(), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12)
    for ours, theirs in zip(together, alone, strict=True):
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q)
