"""The automatic start, reps_rel="auto": DoWG's weighting while the way is no random walk."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dog import DoG, LDoG, TDoG
from dog.equations import AUTO_REPS_REL, STRAIGHT


def trained(gradients, reps_rel, x0, optimizer_class=DoG, **options):
    """Take a step with each gradient; return the optimizer and the parameter."""
    x = torch.nn.Parameter(torch.as_tensor(x0, dtype=torch.float64).clone())
    optimizer = optimizer_class([x], reps_rel=reps_rel, **options)
    for gradient in gradients:
        x.grad = torch.as_tensor(gradient(x.detach().numpy()) if callable(gradient) else gradient)
        optimizer.step()
    return optimizer, x


def written_out(gradients, x0, theta):
    """The iterates of docs/start.md, in numpy."""
    iterates, G, walk2 = [np.asarray(x0)], 1e-8, 0.0
    rbar = AUTO_REPS_REL * (1 + np.linalg.norm(x0))
    for gradient in gradients:
        distance = np.linalg.norm(iterates[-1] - x0)
        earlier, rbar = rbar, max(rbar, distance)
        if distance**2 > theta * walk2:
            G *= (earlier / rbar) ** 2
        G += gradient @ gradient
        eta = rbar / np.sqrt(G)
        walk2 += eta**2 * gradient @ gradient
        iterates.append(iterates[-1] - eta * gradient)
    return iterates


@pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
def test_steps_are_those_of_the_rule(implementation):
    rng = np.random.default_rng(0)
    common = rng.standard_normal(50)
    gradients = [0.3 * common + rng.standard_normal(50) for _ in range(80)]
    optimizer, x = trained(gradients, "auto", np.ones(50), implementation=implementation)
    expected = written_out(gradients, np.ones(50), STRAIGHT)[-1]
    np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-9)
    assert 0 < optimizer.telemetry()[0]["fast_steps"] < 80  # both kinds of step are tested


def test_gradients_that_agree_make_a_small_start_as_good_as_a_large_one():
    gradients = [np.ones(10)] * 60
    rbar = {
        start: trained(gradients, start, np.zeros(10))[0].telemetry()[0]["rbar"]
        for start in ("auto", AUTO_REPS_REL)
    }
    assert rbar["auto"] > 1e6 * rbar[AUTO_REPS_REL]


def test_in_pure_noise_it_is_dog():
    rng = np.random.default_rng(1)
    gradients = list(rng.standard_normal((200, 2000)))
    auto, _ = trained(gradients, "auto", np.zeros(2000))
    plain, _ = trained(gradients, AUTO_REPS_REL, np.zeros(2000))
    assert auto.telemetry()[0]["rbar"] < 1.5 * plain.telemetry()[0]["rbar"]
    assert auto.telemetry()[0]["fast_steps"] < 10


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from(["quadratic", "absolute", "logistic"]), st.floats(-6, 3)
)
def test_on_convex_losses_it_is_never_fast_beyond_12_distances_to_a_minimum(seed, kind, scale):
    """Docs/start.md derives it: for any step sizes, if ⟨g, x − x*⟩ ≥ 0."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((8, 5)) * 10.0 ** rng.uniform(-2, 2, 5)
    minimum = rng.standard_normal(5) * 10.0**scale
    derivative = {"quadratic": lambda u: u, "absolute": np.sign, "logistic": np.tanh}[kind]
    x = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = DoG([x], reps_rel="auto")
    d0, fast = np.linalg.norm(minimum), 0
    for _ in range(60):
        at = x.detach().numpy().copy()
        x.grad = torch.from_numpy(matrix.T @ derivative(matrix @ (at - minimum)))
        optimizer.step()
        now = optimizer.telemetry()[0]["fast_steps"]
        if now > fast:
            assert np.linalg.norm(at) <= 2 * STRAIGHT / (STRAIGHT - 1) * d0 * (1 + 1e-9)
        fast = now


def test_each_tensor_of_ldog_decides_by_itself():
    rng = np.random.default_rng(2)
    steady, noisy = (torch.nn.Parameter(torch.zeros(500, dtype=torch.float64)) for _ in range(2))
    optimizer = LDoG([steady, noisy], reps_rel="auto")
    for _ in range(60):
        steady.grad = torch.ones(500, dtype=torch.float64)
        noisy.grad = torch.from_numpy(rng.standard_normal(500))
        optimizer.step()
    fast = [row["fast_steps"] for row in optimizer.telemetry()]
    assert fast[0] > 50
    assert fast[1] < 10


def test_groups_may_have_starts_of_their_own():
    both = [torch.nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(2)]
    groups = [{"params": both[:1], "reps_rel": "auto"}, {"params": both[1:], "reps_rel": 1e-3}]
    optimizer = DoG(groups, scope="group")
    for _ in range(20):
        for x in both:
            x.grad = torch.ones(3, dtype=torch.float64)
        optimizer.step()
    assert [row["fast_steps"] > 0 for row in optimizer.telemetry()] == [True, False]
    assert [row["r_epsilon"] for row in optimizer.telemetry()] == [AUTO_REPS_REL, 1e-3]
    _, x = trained([np.ones(3)] * 20, "auto", np.zeros(3))
    assert torch.equal(both[0], x)


def test_a_saved_state_goes_on_bit_for_bit():
    rng = np.random.default_rng(3)
    gradients = [1 + rng.standard_normal(20) for _ in range(40)]
    _, whole = trained(gradients, "auto", np.zeros(20))
    first, x = trained(gradients[:15], "auto", np.zeros(20))
    second = DoG([x], reps_rel="auto")
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for gradient in gradients[15:]:
        x.grad = torch.from_numpy(gradient)
        second.step()
    assert torch.equal(x, whole)


def test_with_init_eta_the_start_is_given():
    optimizer, _ = trained([np.ones(3)] * 5, "auto", np.zeros(3), init_eta=0.1)
    assert optimizer.telemetry()[0]["first_eta"] == 0.1
    assert optimizer.telemetry()[0]["fast_steps"] == 0


def test_diagnose_names_the_start_that_auto_has():
    # The first gradient is 0.001 times the others, so that η begins above 1000.
    gradients = [np.full(3, 1e-9), *[np.ones(3)] * 5]
    optimizer, _ = trained(gradients, "auto", np.full(3, 1e3))
    (advice,) = optimizer.diagnose()
    assert 'divide reps_rel, which "auto" sets to 0.0001, by 100' in advice


@pytest.mark.parametrize("start", ["automatic", "", -1.0])
def test_other_words_for_the_start_are_refused(start):
    with pytest.raises(ValueError, match='reps_rel must be positive, or "auto"'):
        DoG([torch.nn.Parameter(torch.zeros(1))], reps_rel=start)


def test_tdog_has_a_guarantee_that_needs_a_number():
    with pytest.raises(ValueError, match="needs a number for reps_rel"):
        TDoG([torch.nn.Parameter(torch.zeros(1))], steps=10, reps_rel="auto")


def test_a_compiled_step_is_the_same():
    rng = np.random.default_rng(4)
    gradients = [torch.from_numpy(1 + rng.standard_normal(20)) for _ in range(12)]
    _, plain = trained(gradients, "auto", np.zeros(20))
    x = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
    optimizer = DoG([x], reps_rel="auto")
    step = torch.compile(optimizer.step, backend="eager")
    for gradient in gradients:
        x.grad = gradient
        step()
    assert torch.equal(x, plain)
    assert optimizer.telemetry()[0]["fast_steps"] > 0
