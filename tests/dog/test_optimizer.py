"""DoG and L-DoG against the paper's equations written out in numpy, and in awkward settings."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dog import DoG, LDoG
from dog.kernels import compiled

BOTH = pytest.mark.parametrize("optimizer_class", [DoG, LDoG])


@pytest.fixture(autouse=True, params=["reference", "foreach", "fused", "fused without a compiler"])
def implementation(request, monkeypatch):
    """Every test here holds for every implementation."""
    if request.param == "fused without a compiler":
        monkeypatch.setattr(compiled, "library", lambda: None)
    name = request.param.split()[0]
    monkeypatch.setitem(DoG.__init__.__kwdefaults__, "implementation", name)
    return name


def paper_iterates(x0, gradient, steps, reps_rel, c, eps, weight_decay, eta0):
    """x_0 … x_steps by the equations of Ivgi et al., section 2, for one vector."""
    iterates, G = [np.asarray(x0, dtype=np.float64)], eps
    rbar = 0.0 if eta0 else reps_rel * (1 + np.linalg.norm(x0))
    for t in range(steps):
        x = iterates[-1]
        g = gradient(x, t) + weight_decay * x
        G += g @ g
        rbar = max([rbar, *(np.linalg.norm(past - iterates[0]) for past in iterates)])
        eta = eta0 if eta0 and t == 0 else c * rbar / np.sqrt(G)
        iterates.append(x - eta * g)
    return iterates


def curved(x, t):
    """The gradient of a convex function, with noise that depends on t alone."""
    return np.tanh(x - 1.0) + 0.3 * np.sin(np.arange(x.size) + 7.0 * t)


def train(optimizer, blocks, steps, gradient=curved):
    """Give the tensors of each block the gradient of their concatenation, and step."""
    for t in range(steps):
        for block in blocks:
            flat = torch.cat([p.detach().reshape(-1) for p in block]).double().numpy()
            parts = torch.from_numpy(gradient(flat, t)).split([p.numel() for p in block])
            for p, part in zip(block, parts, strict=True):
                p.grad = part.reshape(p.shape).to(p.dtype)
        optimizer.step()


def tensors(*shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    reps_rel=st.floats(1e-8, 1.0),
    c=st.floats(0.1, 3.0),
    eps=st.floats(0.0, 1.0),
    weight_decay=st.sampled_from([0.0, 0.01, 1.0]),
    eta0=st.none() | st.floats(1e-6, 1.0),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_step_follows_the_papers_equation(reps_rel, c, eps, weight_decay, eta0, sizes, seed):
    arguments = {
        "reps_rel": reps_rel, "lr": c, "eps": eps, "weight_decay": weight_decay, "init_eta": eta0
    }  # fmt: skip
    for optimizer_class in (DoG, LDoG):
        parameters = tensors(*sizes, seed=seed)
        blocks = [parameters] if optimizer_class is DoG else [[p] for p in parameters]
        starts = [torch.cat([p.detach() for p in block]).numpy() for block in blocks]
        train(optimizer_class(parameters, **arguments), blocks, steps=12)
        for block, start in zip(blocks, starts, strict=True):
            expected = paper_iterates(start, curved, 12, reps_rel, c, eps, weight_decay, eta0)[-1]
            np.testing.assert_allclose(
                torch.cat([p.detach() for p in block]).numpy(), expected, rtol=1e-9, atol=1e-9
            )


@pytest.mark.filterwarnings("ignore:param groups each")
def test_param_groups_are_independent_optimizers():
    a, b = tensors(3, 4)
    twin_a, twin_b = copy.deepcopy([a, b])
    together = DoG([{"params": [a], "weight_decay": 0.1}, {"params": [b], "reps_rel": 1e-3}])
    train(together, [[a], [b]], 10)
    train(DoG([twin_a], weight_decay=0.1), [[twin_a]], 10)
    train(DoG([twin_b], reps_rel=1e-3), [[twin_b]], 10)
    assert torch.equal(a, twin_a) and torch.equal(b, twin_b)


def test_first_step_has_the_length_r_epsilon():
    parameters = tensors(6, 2)
    x0 = torch.cat([p.detach() for p in parameters])
    train(DoG(parameters, reps_rel=1e-3, eps=0.0), [parameters], 1)
    moved = torch.cat([p.detach() for p in parameters]) - x0
    torch.testing.assert_close(moved.norm(), 1e-3 * (1 + x0.norm()))


def test_one_tensor_makes_ldog_and_dog_the_same():
    (p,), (q,) = tensors((3, 2)), tensors((3, 2))
    train(DoG([p]), [[p]], 20)
    train(LDoG([q]), [[q]], 20)
    assert torch.equal(p, q)


@BOTH
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations(range(4)))
def test_order_of_parameters_does_not_matter(optimizer_class, order):
    results = []
    for arrangement in (range(4), order):
        parameters = tensors(2, 3, 4, 5)
        optimizer = optimizer_class([parameters[i] for i in arrangement], reps_rel=1e-2)
        train(optimizer, [[p] for p in parameters], 8)
        results.append(torch.cat([p.detach() for p in parameters]))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@BOTH
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
def test_power_of_two_loss_scale_gives_the_same_trajectory(optimizer_class, scale):
    plain, scaled = tensors(4, 3), tensors(4, 3)
    train(optimizer_class(plain, eps=0.0), [plain], 15)
    train(optimizer_class(scaled, eps=0.0), [scaled], 15, lambda x, t: scale * curved(x, t))
    for p, q in zip(plain, scaled, strict=True):
        assert torch.equal(p, q)


@BOTH
def test_gradients_are_bit_identical_after_a_step_with_weight_decay(optimizer_class):
    parameters = tensors(4, 3)
    optimizer = optimizer_class(parameters, weight_decay=0.5)
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in parameters)


@BOTH
def test_parameters_without_gradients_are_left_alone(optimizer_class):
    used, frozen, unused = tensors(3, 4, 5)
    frozen.requires_grad_(False)
    before = copy.deepcopy([frozen, unused])
    alone = copy.deepcopy(used)
    optimizer = optimizer_class([used, frozen, unused], init_eta=0.1)
    train(optimizer, [[used]], 5)
    train(optimizer_class([alone], init_eta=0.1), [[alone]], 5)
    assert torch.equal(frozen, before[0]) and torch.equal(unused, before[1])
    assert torch.equal(used, alone)
    assert frozen not in optimizer.state


@BOTH
def test_step_without_any_gradient_does_nothing(optimizer_class):
    parameters = tensors(3)
    before = copy.deepcopy(parameters)
    optimizer = optimizer_class(parameters)
    optimizer.step()
    assert torch.equal(parameters[0], before[0]) and optimizer.telemetry() == []


def test_weights_that_are_loaded_after_a_step_without_gradients_are_the_start():
    (p,) = tensors(3)
    optimizer = DoG([p], reps_rel=1e-2)
    optimizer.step()  # some call it before a scheduler's first step
    with torch.no_grad():
        p += 100
    norm = p.norm().item()
    p.grad = torch.ones_like(p)
    optimizer.step()
    (row,) = optimizer.telemetry()
    assert row["distance"] == 0
    assert row["rbar"] == pytest.approx(1e-2 * (1 + norm))


def test_frozen_parameters_do_not_enlarge_the_first_step():
    used, frozen = tensors(3, 1000)
    frozen.requires_grad_(False)
    alone = copy.deepcopy(used)
    train(DoG([used, frozen]), [[used]], 3)
    train(DoG([alone]), [[alone]], 3)
    assert torch.equal(used, alone)


def test_late_gradient_joins_the_vector():
    early, late = tensors(3, 3)
    late_start = late.detach().clone()
    optimizer = DoG([early, late], reps_rel=1e-2)
    train(optimizer, [[early]], 5)
    assert torch.equal(late, late_start)
    rbar = optimizer.telemetry()[0]["rbar"]
    train(optimizer, [[early], [late]], 1)
    late_distance = (late - late_start).norm()
    train(optimizer, [[early], [late]], 1)
    assert late_distance > 0 and optimizer.telemetry()[0]["rbar"] > rbar


@BOTH
@pytest.mark.parametrize(
    "parameter",
    [
        torch.zeros(0),
        torch.tensor(2.0),
        torch.randn(4, 6).t()[::2],
        torch.randn(3, dtype=torch.complex64),
        torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    ],
    ids=["empty", "0-dim", "non-contiguous", "complex", "channels-last"],
)
def test_any_form_of_tensor_is_updated_like_its_flat_self(optimizer_class, parameter):
    parameter = parameter.detach().requires_grad_()
    flat = parameter.detach().clone().reshape(-1).requires_grad_()
    for p in (parameter, flat):
        optimizer = optimizer_class([p], reps_rel=1e-2)
        for t in range(5):
            p.grad = (p.detach() - 1.0 - 0.1 * t).clone(memory_format=torch.preserve_format)
            optimizer.step()
    torch.testing.assert_close(parameter.detach().reshape(-1), flat.detach())


def test_complex_parameter_moves_like_its_real_and_imaginary_parts():
    z = torch.randn(4, dtype=torch.complex128).requires_grad_()
    parts = torch.view_as_real(z.detach()).clone().requires_grad_()
    ours, real = DoG([z], reps_rel=1e-2), DoG([parts], reps_rel=1e-2)
    for _ in range(5):
        z.grad, parts.grad = z.detach() * 2, parts.detach() * 2
        ours.step()
        real.step()
    torch.testing.assert_close(torch.view_as_real(z.detach()), parts.detach())


def test_conjugate_that_is_not_computed_yet_is_a_gradient():
    z, flat = (torch.ones(4, dtype=torch.complex64).requires_grad_() for _ in range(2))
    z.grad = torch.full_like(z, 1 + 2j).conj()
    flat.grad = z.grad.resolve_conj()
    assert z.grad.is_conj() and not flat.grad.is_conj()
    for p in (z, flat):
        DoG([p], reps_rel=1e-2).step()
    assert torch.equal(z, flat)


@pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
def test_negative_that_is_not_computed_yet_is_a_gradient(implementation):
    p, plain = (torch.ones(3).requires_grad_() for _ in range(2))
    p.grad = torch._neg_view(torch.ones(3))  # as autograd gives for imaginary parts of conjugates
    plain.grad = p.grad.resolve_neg()
    assert p.grad.is_neg() and not plain.grad.is_neg()
    for each in (p, plain):
        DoG([each], reps_rel=1e-2, implementation=implementation).step()
    assert torch.equal(p, plain)


@BOTH
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_gradient_of_one_element_expanded_counts_as_all_its_elements(optimizer_class, weight_decay):
    expanded, whole = (torch.arange(6.0).view(2, 3).requires_grad_() for _ in range(2))
    (expanded.grad,) = torch.autograd.grad(expanded.sum(), expanded)
    whole.grad = expanded.grad.clone(memory_format=torch.contiguous_format)
    assert expanded.grad.stride() == (0, 0)
    for p in (expanded, whole):
        optimizer = optimizer_class([p], reps_rel=1e-2, weight_decay=weight_decay)
        for _ in range(3):
            optimizer.step()
    assert torch.equal(expanded, whole)


def test_tied_weights_are_one_parameter():
    embedding, head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    model = torch.nn.Sequential(embedding, head)
    optimizer = DoG(model.parameters(), reps_rel=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.arange(5)).pow(2).sum().backward()
        optimizer.step()
    assert len(optimizer.state) == 1 and model[0].weight is model[1].weight


def test_zero_gradients_with_eps_zero_do_nothing():
    (p,) = tensors(3)
    before = p.detach().clone()
    p.grad = torch.zeros_like(p)
    DoG([p], eps=0.0).step()
    assert torch.equal(p, before)


@BOTH
def test_first_gradient_of_zero_leaves_init_eta_to_the_next(optimizer_class):
    whole, late = tensors(4, 3), tensors(4, 3)
    train(optimizer_class(whole, init_eta=0.05), [whole], 8)
    optimizer = optimizer_class(late, init_eta=0.05)
    train(optimizer, [late], 2, lambda x, t: np.zeros_like(x))
    train(optimizer, [late], 8)
    assert all(torch.equal(p, q) for p, q in zip(whole, late, strict=True))


def test_ldog_with_init_eta_trains_lora_whose_b_starts_at_zero():
    generator = torch.Generator().manual_seed(0)
    inputs, wanted = torch.randn(64, 6, generator=generator), torch.randn(6, 5, generator=generator)
    a = (0.3 * torch.randn(6, 2, generator=generator)).requires_grad_()
    b = torch.zeros(2, 5, requires_grad=True)
    start = a.detach().clone()
    optimizer = LDoG([a, b], init_eta=1e-3)
    losses = []
    for _ in range(400):
        optimizer.zero_grad()
        loss = (inputs @ (a @ b - wanted)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    best = torch.linalg.svdvals(wanted)[2:].square().sum() / 5  # roughly: of rank 2
    assert losses[-1] < 2 * best and not torch.equal(a, start)


@BOTH
def test_gradient_norm_that_float32_cannot_square_is_no_reason_to_skip(optimizer_class):
    (p,) = tensors(3, dtype=torch.float32)
    before = p.detach().clone()
    optimizer = optimizer_class([p], reps_rel=1e-2)
    p.grad = torch.full_like(p, 1e25)
    optimizer.step()
    (seen,) = optimizer.telemetry()
    assert (seen["step"], seen["skipped"]) == (1, 0)
    torch.testing.assert_close((p - before).norm(), 1e-2 * (1 + before.norm()))


def test_sparse_gradient_is_refused():
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        DoG(embedding.parameters()).step()


def test_closure_runs_with_gradients_and_its_loss_is_returned():
    (p,) = tensors(3)
    optimizer = DoG([p])

    def closure():
        optimizer.zero_grad()
        loss = p.pow(2).sum()
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    assert loss.item() > 0 and p.grad is not None


@pytest.mark.parametrize(
    "arguments",
    [
        {"lr": 0.0}, {"lr": float("nan")}, {"reps_rel": 0.0}, {"reps_rel": -1e-6},
        {"weight_decay": -0.1}, {"eps": -1e-8}, {"init_eta": 0.0},
    ],
)  # fmt: skip
def test_impossible_arguments_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DoG(tensors(2), **arguments)


def reloaded(optimizer, parameters):
    """A new optimizer with the state that torch.save has written."""
    fresh = type(optimizer)(parameters)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    return fresh


@BOTH
@pytest.mark.parametrize("k", range(5))
def test_saved_and_loaded_at_any_step_goes_on_bit_for_bit(optimizer_class, k):
    whole, parts = tensors(4, (2, 3)), tensors(4, (2, 3))
    train(optimizer_class(whole, weight_decay=0.1), [whole], 9)
    optimizer = optimizer_class(parts, weight_decay=0.1)
    train(optimizer, [parts], k)
    loaded = reloaded(optimizer, parts)
    # The noise of step t depends on t, so go on at k.
    train(loaded, [parts], 9 - k, lambda x, t: curved(x, t + k))
    for p, q in zip(whole, parts, strict=True):
        assert torch.equal(p, q)


@BOTH
@pytest.mark.parametrize("carry", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_deepcopied_and_pickled_optimizers_go_on(optimizer_class, carry):
    parameters = tensors(4, 3)
    optimizer = optimizer_class(parameters)
    train(optimizer, [parameters], 3)
    twin = carry(optimizer)
    twin_parameters = twin.param_groups[0]["params"]
    train(optimizer, [parameters], 3)
    train(twin, [twin_parameters], 3)
    for p, q in zip(parameters, twin_parameters, strict=True):
        assert p is not q and torch.equal(p, q)


@BOTH
def test_group_added_in_mid_run_starts_anew(optimizer_class):
    first, second = tensors(3, 4)
    alone = copy.deepcopy(second)
    optimizer = optimizer_class([first])
    train(optimizer, [[first]], 3)
    optimizer.add_param_group({"params": [second]})
    train(optimizer, [[first], [second]], 3)
    train(optimizer_class([alone]), [[alone]], 3)
    assert torch.equal(second, alone)


def test_telemetry_shows_the_papers_quantities():
    (p,) = tensors(3)
    x0 = p.detach().clone()
    optimizer = DoG([p], reps_rel=1e-2)
    train(optimizer, [[p]], 4)
    before = p.detach().clone()
    train(optimizer, [[p]], 1, lambda x, t: curved(x, 4))
    (seen,) = optimizer.telemetry()
    assert seen["distance"] == pytest.approx((before - x0).norm().item())
    assert seen["gradient_norm"] == pytest.approx(p.grad.norm().item())
    assert seen["eta"] == pytest.approx(seen["rbar"] / seen["G"] ** 0.5)
    torch.testing.assert_close(p.detach(), before - seen["eta"] * p.grad)


def test_telemetry_of_ldog_has_an_entry_a_tensor_and_outlives_zero_grad():
    parameters = tensors(3, 4)
    optimizer = LDoG(parameters)
    train(optimizer, [[p] for p in parameters], 2)
    optimizer.zero_grad()
    assert len(optimizer.telemetry()) == 2
