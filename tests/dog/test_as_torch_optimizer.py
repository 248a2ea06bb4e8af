"""What torch promises of an optimizer: param groups and state are everybody's to change.

Whatever may be done to them with AdamW may be done with DoG, so AdamW goes through it all, too.
"""

import copy
import gc
import io
import weakref
from collections import defaultdict

import pytest
import torch
import warm
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.optim.lr_scheduler import ExponentialLR

from dog import DoG, LDoG, PolynomialDecay, TDoG

OURS = {
    "DoG": lambda p, **o: DoG(p, **o),
    "L-DoG": lambda p, **o: LDoG(p, **o),
    "T-DoG": lambda p, **o: TDoG(p, steps=20, **o),
    "global": lambda p, **o: DoG(p, scope="global", **o),
    "averaging": lambda p, **o: DoG(p, averaging=PolynomialDecay(), **o),
}
ALL = OURS | {"AdamW": lambda p, **o: torch.optim.AdamW(p, 1e-2)}
EVERY = pytest.mark.parametrize("make", OURS.values(), ids=OURS)
EVERY_AND_ADAMW = pytest.mark.parametrize("make", ALL.values(), ids=ALL)
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])


def tensors(*sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in sizes or (4, 3)]


def members(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def train(optimizer, steps):
    """Give each parameter a gradient that depends on its weights, its place and the step."""
    for t in steps:
        for i, p in enumerate(members(optimizer)):
            if p.requires_grad:
                p.grad = torch.tanh(p.detach() - i - t)
        optimizer.step()


def numbers(optimizer):
    return optimizer.telemetry() if hasattr(optimizer, "telemetry") else None


def assert_as_if_nothing_had_been(make, change, **options):
    """Train with and without a change between two steps, which is to change no bit."""
    runs = []
    for changed in (False, True):
        optimizer = make(tensors(), reps_rel=1e-2, **options)
        train(optimizer, range(3))
        if changed:
            change(optimizer)
        train(optimizer, range(3, 8))
        runs.append(optimizer)
    for p, q in zip(*map(members, runs), strict=True):
        assert torch.equal(p, q)
        a, b = runs[0].state[p], runs[1].state[q]
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert numbers(runs[0]) == numbers(runs[1])
    saved = runs[1].state_dict()["state"]
    assert all(
        torch.equal(saved[i][name], value)
        for i, p in enumerate(members(runs[1]))
        for name, value in runs[1].state[p].items()
    )


def replace(optimizer):
    for group in optimizer.param_groups:
        for i, p in enumerate(group["params"]):
            q = nn.Parameter(p.detach().clone())
            optimizer.state[q] = optimizer.state.pop(p)
            group["params"][i] = q


def swap(optimizer):
    for p in members(optimizer):
        p.grad = None
        torch.utils.swap_tensors(p, nn.Parameter(p.detach().clone()))


def clone_state(optimizer):
    for p in members(optimizer):
        for name, value in list(optimizer.state[p].items()):
            optimizer.state[p][name] = value.clone()


def move_data_of_state(optimizer):
    for state in optimizer.state.values():
        for value in state.values():
            value.data = value.data.clone()


def new_dicts(optimizer):
    optimizer.state = {p: dict(state) for p, state in optimizer.state.items()}
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]


def look(optimizer):
    optimizer.state_dict()
    repr(optimizer)
    numbers(optimizer)
    _ = optimizer.state[nn.Parameter(torch.ones(1))]
    optimizer.state.popitem()


def reload(optimizer):
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    optimizer.load_state_dict(torch.load(buffer, weights_only=True))


CHANGES = [replace, swap, clone_state, move_data_of_state, new_dicts, look, reload]


@EVERY_AND_ADAMW
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_goes_on_after_a_change_that_keeps_the_values(make, change):
    assert_as_if_nothing_had_been(make, change)


@IMPLEMENTATIONS
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_goes_on_after_a_change_with_every_implementation(implementation, change):
    assert_as_if_nothing_had_been(OURS["averaging"], change, implementation=implementation)


@EVERY_AND_ADAMW
def test_state_that_is_moved_away_is_freed_at_once(make):
    optimizer = make(tensors(), reps_rel=1e-2)
    train(optimizer, range(3))
    whole = [
        v for p in members(optimizer) for v in optimizer.state[p].values() if v.shape == p.shape
    ]
    kept = [weakref.ref(value) for value in whole]
    del whole
    gc.disable()
    try:
        clone_state(optimizer)
        assert kept and not any(reference() is not None for reference in kept)
        for p in members(optimizer):
            optimizer.state[p] = {}
        removed = weakref.ref(optimizer.param_groups[0]["params"][0])
        optimizer.param_groups[0]["params"].pop(0)
        optimizer.state.clear()
        del p
        assert removed() is None
    finally:
        gc.enable()


@EVERY_AND_ADAMW
@pytest.mark.parametrize("how", ["empty entries", "clear", "new dict"])
def test_emptied_state_starts_anew(make, how):
    optimizer = make(tensors(), reps_rel=1e-2)
    train(optimizer, range(3))
    fresh = make(copy.deepcopy(members(optimizer)), reps_rel=1e-2)
    if how == "empty entries":
        for p in members(optimizer):
            optimizer.state[p] = {}
    elif how == "clear":
        optimizer.state.clear()
    else:
        optimizer.state = defaultdict(dict)
    optimizer.state_dict()
    for each in (optimizer, fresh):
        train(each, range(3, 6))
    for p, q in zip(members(optimizer), members(fresh), strict=True):
        assert torch.equal(p, q)
    assert numbers(optimizer) == numbers(fresh)


def test_emptied_state_of_one_parameter_starts_it_where_it_is():
    optimizer = DoG(tensors(), reps_rel=1e-2)
    train(optimizer, range(3))
    p, _ = members(optimizer)
    optimizer.state[p] = {}
    before = optimizer.telemetry()[0]
    x0 = p.detach().clone()
    train(optimizer, range(3, 4))
    assert torch.equal(optimizer.state[p]["x0"], x0)
    after = optimizer.telemetry()[0]
    assert after["step"] == 4 and after["G"] > before["G"] and after["rbar"] >= before["rbar"]


@EVERY_AND_ADAMW
def test_state_may_be_looked_at_before_the_first_step(make):
    looked, plain = (make(tensors(), reps_rel=1e-2) for _ in range(2))
    for p in members(looked):
        assert looked.state[p] == {}
    looked.load_state_dict(looked.state_dict())
    for each in (looked, plain):
        numbers(each)
        train(each, range(3))
    for p, q in zip(members(looked), members(plain), strict=True):
        assert torch.equal(p, q)


@EVERY_AND_ADAMW
def test_reordered_parameters_go_on(make):
    runs = []
    for reorder in (False, True):
        parameters = tensors(4, 3, 2)
        optimizer = make(list(parameters), reps_rel=1e-2)
        for t in range(8):
            if reorder and t == 3:
                optimizer.param_groups[0]["params"].reverse()
            for i, p in enumerate(parameters):
                p.grad = torch.tanh(p.detach() - i - t)
            optimizer.step()
        runs.append(parameters)
    for p, q in zip(*runs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@EVERY_AND_ADAMW
def test_weights_that_were_loaded_with_assign_go_on(make):
    models = nn.Linear(3, 2), nn.Linear(3, 2)
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make(model.parameters(), reps_rel=1e-2) for model in models]
    for optimizer in optimizers:
        train(optimizer, range(3))
    old = list(models[1].parameters())
    weights = {name: x.clone() for name, x in models[1].state_dict().items()}
    models[1].load_state_dict(weights, assign=True)
    optimizers[1].param_groups[0]["params"] = list(models[1].parameters())
    for p, q in zip(old, models[1].parameters(), strict=True):
        optimizers[1].state[q] = optimizers[1].state.pop(p)
    for optimizer in optimizers:
        train(optimizer, range(3, 6))
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(p, q)


@EVERY_AND_ADAMW
def test_deep_copy_of_changed_state_goes_on_by_itself(make):
    optimizer = make(tensors(), reps_rel=1e-2)
    train(optimizer, range(3))
    replace(optimizer)
    optimizer.state[members(optimizer)[0]]["slow"] = torch.ones(2)
    twin = copy.deepcopy(optimizer)
    assert torch.equal(twin.state[members(twin)[0]]["slow"], torch.ones(2))
    for each in (optimizer, twin):
        train(each, range(3, 6))
    for p, q in zip(members(optimizer), members(twin), strict=True):
        assert p is not q and torch.equal(p, q)


@IMPLEMENTATIONS
def test_start_that_is_replaced_is_measured_from(implementation):
    optimizer = DoG(tensors(), reps_rel=1e-2, implementation=implementation)
    train(optimizer, range(3))
    for p in members(optimizer):
        del optimizer.state[p]["x0"]
        optimizer.state[p]["x0"] = p.detach() - 1
    train(optimizer, range(3, 4))
    assert optimizer.telemetry()[0]["distance"] == pytest.approx(7**0.5)


@pytest.mark.filterwarnings("ignore:param groups that differ")
def test_parameter_that_joins_another_group_takes_part_in_its_step_size():
    a, b = tensors(4, 3)
    optimizer = DoG([{"params": [a]}, {"params": [b], "reps_rel": 1e-1}], reps_rel=1e-2)
    train(optimizer, range(3))
    first, second = optimizer.telemetry()
    assert first["G"] != second["G"]
    optimizer.param_groups[0]["params"].append(optimizer.param_groups[1]["params"].pop())
    (joined,) = optimizer.telemetry()
    assert joined == first
    train(optimizer, range(3, 4))
    (joined,) = optimizer.telemetry()
    assert joined["step"] == 4
    assert joined["distance"] > max(first["distance"], second["distance"])


def test_other_strides_of_a_parameter_are_seen():
    p, q = (nn.Parameter(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
            for _ in range(2))  # fmt: skip
    optimizers = DoG([p], reps_rel=1e-2), DoG([q], reps_rel=1e-2)
    for t in range(6):
        if t == 3:
            q.grad = None
            q.data = q.data.contiguous(memory_format=torch.channels_last)
        for x, optimizer in zip((p, q), optimizers, strict=True):
            x.grad = torch.tanh(x.detach() - t)
            optimizer.step()
    torch.testing.assert_close(p, q)
    assert not optimizers[1]._layout._plans.keys() - optimizers[0]._layout._plans.keys()


# State dicts and hooks ----------------------------------------------------------------------------


class Lookahead:
    """A wrapper that keeps slow weights in the state of the optimizer that it wraps."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups

    @torch.no_grad()
    def step(self):
        self.optimizer.step()
        for p in members(self.optimizer):
            state = self.optimizer.state[p]
            slow = state.setdefault("slow", p.detach().clone())
            p.copy_(slow.lerp_(p, 0.5))


@EVERY_AND_ADAMW
def test_wrapper_that_keeps_its_weights_in_the_state_resumes_right(make):
    straight = Lookahead(make(tensors(), reps_rel=1e-2))
    train(straight, range(6))
    first = Lookahead(make(tensors(), reps_rel=1e-2))
    train(first, range(3))
    again = Lookahead(make(copy.deepcopy(members(first)), reps_rel=1e-2))
    again.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    again.param_groups = again.optimizer.param_groups
    train(again, range(3, 6))
    for p, q in zip(members(straight), members(again), strict=True):
        assert torch.equal(p, q)


@EVERY_AND_ADAMW
def test_what_others_keep_in_the_state_survives_saving_and_starting(make):
    optimizer = make(tensors(), reps_rel=1e-2)
    p, q = members(optimizer)
    if "AdamW" not in str(type(optimizer)):  # whose first step takes any entry for its own
        optimizer.state[p]["early"] = torch.ones(1)
    train(optimizer, range(2))
    optimizer.state["anything"] = {"a": 1}
    optimizer.state[q]["late"] = p.detach().clone()
    again = make(tensors(), reps_rel=1e-2)
    again.load_state_dict(saved := copy.deepcopy(optimizer.state_dict()))
    assert saved["state"]["anything"] == again.state["anything"] == {"a": 1}
    for here, there in zip((p, q), members(again), strict=True):
        assert optimizer.state[here].keys() == again.state[there].keys()
    assert torch.equal(again.state[members(again)[1]]["late"], p)


@EVERY_AND_ADAMW
def test_hooks_of_state_dict_and_caller_see_the_same(make):
    constant = nn.Parameter(torch.ones(4))  # whose x_0 is kept as one element
    optimizer = make([constant, *tensors()], reps_rel=1e-2)
    train(optimizer, range(2))
    seen = []

    def before(optimizer):
        optimizer.state["test"] = 1

    def after(optimizer, state_dict):
        seen.append(copy.deepcopy(state_dict))
        state_dict["state"].pop("test")
        return {
            **state_dict,
            "state": {key: {n: v.clone() for n, v in entry.items()}
                      for key, entry in state_dict["state"].items()},
        }  # fmt: skip

    optimizer.register_state_dict_pre_hook(before)
    optimizer.register_state_dict_post_hook(after)
    got = optimizer.state_dict()
    assert seen[0]["state"].pop("test") == 1 and "test" not in got["state"]
    for key, entry in got["state"].items():
        for name, value in entry.items():
            assert torch.equal(seen[0]["state"][key][name], value)
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


@EVERY_AND_ADAMW
def test_hooks_of_load_state_dict_get_a_copy_and_may_replace_it(make):
    optimizer = make(tensors(), reps_rel=1e-2)
    train(optimizer, range(2))
    saved = optimizer.state_dict()
    given, order = [], []

    def first(optimizer, state_dict):
        given.append(state_dict)
        state_dict["mine"] = 1
        order.append("first")

    def second(optimizer, state_dict):
        assert state_dict["mine"] == 1
        order.append("second")
        return {**state_dict, "param_groups": copy.deepcopy(state_dict["param_groups"])}

    again = make(tensors(), reps_rel=1e-2)
    again.register_load_state_dict_pre_hook(second)
    again.register_load_state_dict_pre_hook(first, prepend=True)
    again.register_load_state_dict_post_hook(lambda o: order.append(len(o.state)))
    again.load_state_dict(saved)
    assert given[0] is not saved and "mine" not in saved
    assert order == ["first", "second", 2]


@pytest.mark.parametrize("make", [OURS["DoG"], OURS["L-DoG"], OURS["global"]])
def test_state_dict_has_the_numbers_that_readers_of_the_published_package_read(make):
    optimizer = make(tensors(), reps_rel=1e-2)
    assert not {"rbar", "G", "eta"} & set(optimizer.state_dict()["param_groups"][0])
    train(optimizer, range(3))
    (group,) = optimizer.state_dict()["param_groups"]
    rows = optimizer.telemetry()
    # As its example reads them: L-DoG has a vector.
    for name in ("rbar", "G"):
        expected = sum(row[name] for row in rows) / len(rows)
        assert torch.mean(group[name].detach()).item() == pytest.approx(expected)
        assert group[name].dim() == (len(rows) > 1)
    etas = torch.stack(group["eta"])
    assert etas.tolist() == [row["eta"] for row in rows] * (2 // len(rows))
    train(optimizer, range(3, 4))
    assert torch.stack(group["eta"]).equal(etas)  # a copy
    again = make(tensors(), reps_rel=1e-2)
    again.load_state_dict(optimizer.state_dict())
    assert not {"rbar", "G", "eta"} & set(again.param_groups[0])
    assert again.telemetry() == optimizer.telemetry()


def test_numbers_of_tensors_that_take_no_part_are_0_where_each_has_its_own():
    optimizer = LDoG(tensors(), reps_rel=1e-2)
    members(optimizer)[0].requires_grad_(False)
    train(optimizer, range(3))
    (group,) = optimizer.state_dict()["param_groups"]
    (row,) = optimizer.telemetry()
    assert group["rbar"].tolist() == [0, row["rbar"]]
    assert [eta.item() for eta in group["eta"]] == [0, row["eta"]]


# Types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved", "loads"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float16),
    ],
    ids=str,
)
def test_state_of_more_precise_parameters_is_refused(saved, loads):
    """Rounding them would count as distance from the start."""
    optimizer = DoG(tensors(dtype=saved))
    train(optimizer, range(3))
    other = DoG(tensors(dtype=loads))
    train(other, range(2))
    before = other.telemetry()
    with pytest.raises(ValueError, match=f"of {saved} parameters.*{loads}"):
        other.load_state_dict(optimizer.state_dict())
    assert other.telemetry() == before


@pytest.mark.parametrize("loads", [torch.float32, torch.float64], ids=str)
def test_state_of_less_precise_parameters_goes_on_from_what_was_stored(loads):
    optimizer = DoG(tensors(1000, dtype=torch.bfloat16))
    train(optimizer, range(5))
    wide = [nn.Parameter(p.detach().to(loads)) for p in members(optimizer)]
    other = DoG(wide)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, other):
        train(each, range(5, 6))
    (ours,), (theirs,) = other.telemetry(), optimizer.telemetry()
    assert ours["distance"] == pytest.approx(theirs["distance"], rel=1e-5)
    assert ours["distance"] < 1e-3


def test_parameter_that_became_less_precise_is_refused():
    optimizer = DoG(tensors())
    train(optimizer, range(3))
    for i, p in enumerate(members(optimizer)):
        q = nn.Parameter(p.detach().bfloat16())
        optimizer.state[q] = optimizer.state.pop(p)
        optimizer.param_groups[0]["params"][i] = q
    with pytest.raises(RuntimeError, match="final shapes and types"):
        train(optimizer, range(3, 4))


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"reps_rel": 0.0}, {"weight_decay": -1.0}, {"eps": -1.0}], ids=str
)
@pytest.mark.parametrize("make", [DoG, LDoG, OURS["T-DoG"]])
def test_impossible_default_is_refused_where_every_group_has_its_own(make, wrong):
    right = {"lr": 1.0, "reps_rel": 1e-3, "weight_decay": 0.0, "eps": 0.0}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make([{"params": tensors(), **right}], **wrong)


@pytest.mark.parametrize("name", ["lr", "reps_rel", "weight_decay", "eps", "init_eta"])
def test_tensor_of_more_than_one_number_is_refused(name):
    with pytest.raises(ValueError, match=f"Tensor {name} must be 1-element"):
        DoG(tensors(), **{name: torch.tensor([0.1, 0.1])})
    with pytest.raises(ValueError, match=f"Tensor {name} must be 1-element"):
        DoG([{"params": tensors(), name: torch.tensor([0.1, 0.1])}])


@pytest.mark.parametrize("averaging", [PolynomialDecay, "polynomial"], ids=["class", "word"])
def test_averaging_that_is_none_is_refused_when_it_is_given(averaging):
    with pytest.raises(TypeError, match=r"averaging=PolynomialDecay\(\)"):
        DoG(tensors(), averaging=averaging)


def test_torchs_own_list_of_wrong_inputs_is_refused_as_torch_does():
    """In a process of its own: importing torch's tests changes flags of torch for good."""
    code = """
import sys, types, unittest, warnings
stand_in = types.ModuleType("expecttest")  # of which torch's module wants a base class
stand_in.TestCase = unittest.TestCase
sys.modules.setdefault("expecttest", stand_in)
import torch
from torch.testing._internal import common_optimizers as cases
from dog import DoG, LDoG, TDoG

warnings.simplefilter("error")
wrong = cases.get_error_inputs_for_all_optims("cpu", torch.float32)
for make in (DoG, LDoG, lambda p, **o: TDoG(p, steps=10, **o)):
    for case in wrong:
        given = case.optimizer_error_input
        params = given.params or [torch.nn.Parameter(torch.ones(1))]
        with unittest.TestCase().assertRaisesRegex(case.error_type, case.error_regex):
            make(params, **given.kwargs)
print(len(wrong))
"""
    done = warm.run(["-c", code], check=True)
    assert int(done.stdout) >= 5


# Steps --------------------------------------------------------------------------------------------


@EVERY
def test_schedule_names_hooks_and_printing_are_torchs(make):
    model = nn.Linear(3, 2)
    optimizer = make(model.named_parameters(), reps_rel=1e-2)
    schedule = ExponentialLR(optimizer, 0.5)
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    for t in range(2):
        train(optimizer, range(t, t + 1))
        schedule.step()
    assert calls == ["before", "after"] * 2
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    assert "lr: 0.25" in repr(optimizer)


def test_compiled_step_is_one_graph_for_each_of_many_optimizers():
    """Torch keeps 8 graphs of a function, and with fullgraph it does not take a ninth."""
    torch._dynamo.reset()
    graphs = CompileCounter()
    for count in range(1, 6):
        optimizer, plain = (DoG(tensors(), implementation="fused") for _ in range(2))
        for each in (optimizer, plain):
            train(each, range(1))
        step = torch.compile(optimizer.step, fullgraph=True, backend=graphs)
        for _ in range(2):
            step()
            plain.step()
        assert optimizer.telemetry() == plain.telemetry()
        assert graphs.frame_count == count


def test_compiled_step_sees_what_was_replaced():
    runs = []
    for compiled in (False, True):
        torch._dynamo.reset()
        optimizer = DoG(tensors(), reps_rel=1e-2)
        train(optimizer, range(1))
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for change in (None, replace, clone_state):
            gradients = [p.grad for p in members(optimizer)]
            if change is not None:
                change(optimizer)
            for p, gradient in zip(members(optimizer), gradients, strict=True):
                p.grad = gradient
            for _ in range(2):
                step()
        runs.append(optimizer)
    for a, b in zip(*(optimizer.telemetry() for optimizer in runs), strict=True):
        assert a == pytest.approx(b)
    torch._dynamo.reset()  # whose graphs of parts a whole one would be taken from
    whole = torch.compile(optimizer.step, fullgraph=True, backend="eager")
    replace(optimizer)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="_bind"):
        whole()
