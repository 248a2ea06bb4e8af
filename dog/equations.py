"""The equations of DoG, T-DoG and the automatic start on the few numbers of a step size.

A *row* is a set of tensors that share one step size: a param group (DoG), all groups, or a single
tensor (L-DoG). The numbers of R rows are one float64 tensor [len(SCALARS), R] that stays on the
parameters' device; whatever depends on them is a predicate there, so that no step waits for the
device.

Source: Ivgi, Hinder, Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size
Schedule", arXiv 2302.12022, 2023.
"""

import math
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

# Steps in which the paper expects a first step that was too large to show itself.
EARLY_STEPS = 100

# What is kept of a row, in this order.
SCALARS = (
    "step",  # steps taken
    "G",  # G_t = ε + Σ_k ‖g_k‖²
    "rbar",  # r̄_t = max(r_ε, max_k ‖x_k − x_0‖)
    "rbar_sum",  # Σ_k r̄_k, for the theory's average
    "eta",  # η_t, the latest step size
    "gradient_norm",  # ‖g_t‖, weight decay included, before max_grad_norm
    "distance",  # ‖x_t − x_0‖
    "first_eta",  # the first η
    "early_eta",  # the largest η of the first EARLY_STEPS
    "highest_eta",  # the largest η of all; of these three, where the gradient was not 0
    "skipped",  # steps not taken because a gradient was not finite
    "r_epsilon",  # r_ε = reps_rel · (1 + ‖x_0‖); with init_eta the length of the first step
    "walk2",  # Σ_k η_k² ‖g_k‖²: what ‖x_t − x_0‖² of a random walk of these steps would be
    "fast_steps",  # steps in which an automatic start made the step size grow faster
)

# The automatic start: its r_ε relative to 1 + ‖x_0‖, and θ, how many times a random walk's
# ‖x_t − x_0‖² makes a straight way. On a convex loss whose gradients have no noise, such a way is
# no longer than 2 d_0 θ / (θ − 1), 12 d_0 here (docs/start.md).
AUTO_REPS_REL = 1e-4
STRAIGHT = 1.2

# From (‖g_t‖², G_{t−1}, t) to what η's denominator is the root of; None: G_t itself.
Dampening = Callable[[Tensor, Tensor, Tensor], Tensor]


def first_row(x0_norm: Tensor, reps_rel: float, eps: float) -> Tensor:
    """Return the row before the first step, float64 [len(SCALARS)].

    ``x0_norm`` is ‖x_0‖, 0-dim; r̄ starts as r_ε = reps_rel · (1 + ‖x_0‖) and G as ε.
    """
    row = torch.zeros(len(SCALARS), dtype=torch.float64, device=x0_norm.device)
    row[SCALARS.index("rbar")] = row[SCALARS.index("r_epsilon")] = reps_rel * (1 + x0_norm)
    row[SCALARS.index("G")] = eps
    return row


def advance(
    scalars: Tensor,
    gradient2: Tensor,
    distance2: Tensor,
    finite: Tensor,
    present: Tensor,
    *,
    lr: float | Tensor,
    init_eta: float | Tensor | None,
    shrink: Tensor | None = None,
    dampening: Dampening | None = None,
    auto_start: float | Tensor = 0.0,
) -> Tensor:
    """Take the norms of step t into ``scalars`` and return η_t, float64 [R].

    Args:
        scalars: [len(SCALARS), R], changed in place.
        gradient2: ‖g_t‖² of each row, [R].
        distance2: ‖x_t − x_0‖² of each row, [R].
        finite: whether the step is taken at all, bool, 0-dim; if not, it counts as skipped.
        present: whether a row has a gradient, bool [R]; the others keep their numbers.
        lr: the factor c, of all rows or of each, [R].
        init_eta: η itself until the weights have moved, of all rows or of each, [R]; 0 or None:
            what r_ε gives.
        shrink: factor that ``max_grad_norm`` has for the gradient, 0-dim; G takes the
            shortened gradient.
        dampening: T-DoG's G'_t in place of G_t.
        auto_start: how many times a random walk's ‖x_t − x_0‖² makes a straight way, on which G is
            forgotten, of all rows or of each, [R]; 0: never.
    """
    old = dict(zip(SCALARS, scalars, strict=True))
    distance = distance2.sqrt()
    used2 = gradient2 if shrink is None else gradient2 * shrink**2
    rbar = torch.maximum(old["rbar"], distance)  # r̄_t = max(r̄_{t−1}, ‖x_t − x_0‖)
    earlier, fast_steps = old["G"], old["fast_steps"]
    if isinstance(auto_start, Tensor) or auto_start > 0:
        # Steps that agree leave a straight way behind, and r̄ grows: gradients from when it was
        # shorter then count for less, as in DoWG (Khaled, Mishchenko, Jin 2023, algorithm 1).
        is_fast = (distance2 > auto_start * old["walk2"]) & (rbar > old["rbar"])
        if isinstance(auto_start, Tensor):
            is_fast = is_fast & (auto_start > 0)
        earlier = torch.where(is_fast, (old["rbar"] / rbar) ** 2 * earlier, earlier)
        fast_steps = fast_steps + is_fast
    G = earlier + used2  # G_t = G_{t−1} + ‖g_t‖²
    under = G if dampening is None else dampening(used2, earlier, old["step"])
    # η_t = c · r̄_t / √G_t. G is 0 only if every gradient was, and then any η will do.
    eta = torch.where(under > 0, lr * rbar / under.sqrt(), 0.0)
    if init_eta is not None:  # a first gradient of 0 moves nothing: the next is the first then
        eta = torch.where((rbar == 0) & (init_eta > 0) & (lr > 0), init_eta, eta)
    early = old["step"] < EARLY_STEPS
    # With a gradient of 0 any η makes the same step; before the first other one it is r̄ / √ε.
    telling = eta * (used2 > 0)
    new = {
        "step": old["step"] + 1,
        "G": G,
        "rbar": rbar,
        "rbar_sum": old["rbar_sum"] + rbar,
        "eta": eta,
        "gradient_norm": gradient2.sqrt(),
        "distance": distance,
        "first_eta": torch.where(old["first_eta"] > 0, old["first_eta"], telling),
        "early_eta": torch.where(early, telling.maximum(old["early_eta"]), old["early_eta"]),
        "highest_eta": telling.maximum(old["highest_eta"]),
        "walk2": torch.addcmul(old["walk2"], eta * eta, used2),
        "fast_steps": fast_steps,
    }
    if init_eta is not None:  # the length of the step by it, which r_ε is without it
        new["r_epsilon"] = torch.where(rbar == 0, telling * used2.sqrt(), old["r_epsilon"])
    taken = torch.stack([*(old | new).values()])  # in the order of SCALARS
    skipped = old["skipped"] + (present & ~finite)
    scalars.copy_(torch.where(present & finite, taken, scalars))
    old["skipped"].copy_(skipped)
    return eta


def guaranteed(steps: int, delta: float, lipschitz: float) -> Dampening:
    r"""Return T-DoG's dampening (Ivgi et al. 2023, section 3.3).

    .. math:: G'_t = 8^4\,\theta_{T,\delta}\,\log_+^2(t+1)\,
              \bigl(G_{t-1} + 16\,\theta_{T,\delta}\max(\|g_t\|^2, L^2)\bigr), \qquad
              \theta_{T,\delta} = \log\frac{60 \log(6T)}{\delta}, \quad \log_+ x = 1 + \log x
    """
    theta = math.log(60 * math.log(6 * steps) / delta)

    def dampening(gradient2: Tensor, earlier: Tensor, step: Tensor) -> Tensor:
        largest = gradient2.clamp(min=lipschitz**2)
        return 8**4 * theta * (1 + step.log1p()) ** 2 * (earlier + 16 * theta * largest)

    return dampening


def diagnoses(rows: list[dict[str, float]], option: str) -> list[str]:
    """Return what the signs of the paper and its authors' package say of a run, in words.

    Each row has the numbers of :data:`SCALARS` by name; of several, the median is looked at.
    ``option`` is the one that sets the first step: ``reps_rel`` or ``init_eta``.
    """
    if not rows:
        return []
    row = {name: median(numbers[name] for numbers in rows) for name in SCALARS}
    found = []
    # The first gradient may have been so short, on a batch without loss, that its η was never
    # reached again. A first step that was too small shows in r̄ as well: with gradients of one
    # length, η is above its first value as soon as r̄ is above r_ε √t.
    is_low = row["highest_eta"] <= row["first_eta"] > 0
    is_near = row["rbar"] <= row["r_epsilon"] * row["step"] ** 0.5
    if row["early_eta"] > 1000:
        found.append(
            f"η reached {row['early_eta']:.3g} within {EARLY_STEPS} steps: "
            f"the first step was too large; divide {option} by 100"
        )
    elif row["step"] >= 300 and is_low and is_near:
        found.append(
            f"η has not risen above its first value {row['first_eta']:.3g} in "
            f"{row['step']:.0f} steps: the first step was too small; multiply {option} by 100"
        )
    if row["skipped"] > 0 and row["skipped"] >= row["step"] / 100:
        found.append(
            f"{row['skipped']:.0f} steps were skipped because a gradient was not finite: "
            "look at the loss, or at the precision it is computed in"
        )
    return found
