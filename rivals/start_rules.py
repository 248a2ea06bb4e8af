"""Rules that find DoG's initial step length: what the automatic start was compared with.

docs/start.md has where each comes from, and what came out.
"""

import math
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dog import DoG
from dog.closure import loss_of
from dog.equations import AUTO_REPS_REL, SCALARS, STRAIGHT

Closure: TypeAlias = Callable[[], Any]
# Gets the closure of each step until the start is found, and yields the step's loss.
Rule: TypeAlias = Generator[Any, Closure, None]

# A loss that is so many times the start's shows that the first steps were too long.
JUMP = 1.2
FALL_BACK_STEPS = 6
RACE_STEPS = 10
RACERS = (0.01, 0.1, 1.0, 10.0, 100.0)  # times the Polyak length
PROBE_BATCHES = 3
LADDER = [10 ** (k / 2) for k in range(-12, 1)]  # of lengths, relative to 1 + ‖x_0‖


class DoGByRule(DoG):
    """DoG whose initial step length a rule finds in the first steps.

    It cannot be saved or copied until then. All parameters share the length; as L-DoG
    (``scope="tensor"``) each tensor gets the part of it that it has of the gradient's norm.

    Args:
        params: parameters, or dicts that define parameter groups.
        rule: a name in :data:`RULES`.
        options: those of :class:`dog.DoG`, but ``reps_rel``.

    Raises:
        ValueError: for an unknown rule, or an argument that is out of its range.
    """

    _options = (*DoG._options, "_rule")

    def __init__(self, params: ParamsT, rule: str = "polyak_0.1", **options: Any) -> None:
        if rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}; got {rule!r}")
        super().__init__(params, AUTO_REPS_REL, **options)
        if self.scope == "tensor":  # a length of its own is a param group's
            groups = [{**g, "params": [p]} for g in self.param_groups for p in g["params"]]
            self.param_groups = groups
        make, constants = RULES[rule]
        self._rule: Rule | None = make(self, **constants)
        next(self._rule)

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:  # type: ignore[override]
        """Update the parameters, or compare starts; return the loss.

        Args:
            closure: clears the gradients, computes the loss and the gradients, returns the loss.
        """
        if self._rule is None:
            return super().step(closure)
        try:
            return self._rule.send(closure)
        except StopIteration as last:
            self._rule = None
            return last.value

    @property
    def trained(self) -> list[Tensor]:
        """The parameters that are trained."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def take(self, loss: Any) -> Any:
        """Take DoG's step with the gradients at hand; return the loss."""
        super().step()
        return loss

    def start(self, length: float) -> None:
        """Begin anew from here, with this length of the first step."""
        self.state.clear()
        self._layout = None
        share = 1.0
        for group in self.param_groups:
            size = norm(self.trained)
            if self.scope == "tensor":
                size = norm(group["params"])
                share = norm(gradients(group["params"])) / norm(gradients(self.trained))
            group["reps_rel"] = max(length * share, 1e-12) / (1 + size)


def fixed(opt: DoGByRule, reps_rel: float, straight: float) -> Rule:
    """The automatic start with other constants."""
    closure = yield
    for group in opt.param_groups:
        group |= {"reps_rel": reps_rel, "auto_start": straight}
    return opt.take(loss_of(closure))


def polyak(opt: DoGByRule, c: float) -> Rule:
    """Polyak's bound of the distance to a solution: c · f(x_0) / ‖g(x_0)‖, of one batch."""
    closure = yield
    loss = loss_of(closure)
    opt.start(polyak_length(opt, loss, c))
    return opt.take(loss)


def fall_back(opt: DoGByRule, c: float) -> Rule:
    """Polyak's bound, and back to x_0 with a tenth of it when a batch's loss has jumped."""
    closure = yield
    start, length = copies(opt.trained), math.inf
    steps = 0
    while steps < FALL_BACK_STEPS:
        if steps > 0:
            here = copies(opt.trained)
            put(opt.trained, start)
            bound = JUMP * float(loss_of(closure))
            put(opt.trained, here)
        loss = loss_of(closure)
        if steps > 0 and not float(loss) <= bound:
            put(opt.trained, start)
            loss, steps, length = loss_of(closure), 0, length / 10
        if steps == 0:
            length = min(length, polyak_length(opt, loss, c))
            opt.start(length)
        steps += 1
        closure = yield opt.take(loss)
    return opt.take(loss_of(closure))


def probe(opt: DoGByRule, kappa: float) -> Rule:
    """κ times the length along −g of a batch that is best for the mean loss of other batches."""
    closure = yield
    loss = loss_of(closure)
    start, gradient = copies(opt.trained), copies(gradients(opt.trained))
    lengths = [0.0, *(part * (1 + norm(start)) for part in LADDER)]
    sums = [0.0] * len(lengths)
    for _ in range(PROBE_BATCHES):
        closure = yield loss
        for i, length in enumerate(lengths):
            put(opt.trained, start)
            torch._foreach_add_(opt.trained, gradient, alpha=-length / norm(gradient))
            sums[i] += float(loss_of(closure))
    best = lengths[min(range(len(sums)), key=lambda i: (math.isnan(sums[i]), sums[i]))]
    put(opt.trained, start)
    loss = loss_of(closure)
    opt.start(kappa * best or AUTO_REPS_REL * (1 + norm(start)))
    return opt.take(loss)


def curvature(opt: DoGByRule, c: float) -> Rule:
    """c / L of a gradient step, with L from the gradients at x_0 and a little further."""
    closure = yield
    loss_of(closure)
    start, gradient = copies(opt.trained), copies(gradients(opt.trained))
    distance = 1e-5 * (1 + norm(start))
    torch._foreach_add_(opt.trained, gradient, alpha=-distance / norm(gradient))
    loss_of(closure)
    change = norm([*torch._foreach_sub(gradients(opt.trained), gradient)])
    put(opt.trained, start)
    loss = loss_of(closure)
    opt.start(c * norm(gradient) * distance / change)
    return opt.take(loss)


def switch(opt: DoGByRule, reps_rel: float) -> Rule:
    """DoWG's weighting until r̄ has not grown by 5 % for 10 steps, then DoG's."""
    closure = yield
    for group in opt.param_groups:
        group |= {"reps_rel": reps_rel, "auto_start": STRAIGHT}
    loss, growing, rbar = opt.take(loss_of(closure)), 0, 0.0
    while growing < 10:
        closure = yield loss
        loss = opt.take(loss_of(closure))
        largest = max(row["rbar"] for row in opt.telemetry())
        growing = 0 if largest > 1.05 * rbar else growing + 1
        rbar = largest if growing == 0 else rbar
        for scalars in {id(s["scalars"]): s["scalars"] for s in opt.state.values()}.values():
            scalars[SCALARS.index("walk2")] = 0.0  # any way is straight then
    closure = yield loss
    for group in opt.param_groups:
        group["auto_start"] = 0.0
    return opt.take(loss_of(closure))


def race(opt: DoGByRule) -> Rule:
    """Ten steps with each of five starts on the same batches; go on from the best."""
    closure = yield
    loss = loss_of(closure)
    unit = polyak_length(opt, loss)
    start = copies(opt.trained)
    racers: list[tuple[DoG, list[Tensor], list[float]]] = []
    for c in RACERS:
        opt.start(c * unit)
        groups = [{**group, "params": list(group["params"])} for group in opt.param_groups]
        racers.append((DoG(groups, scope=opt.scope), copies(start), []))
    for step in range(RACE_STEPS):
        if step > 0:
            closure = yield loss
        for racer, weights, losses in racers:
            put(opt.trained, weights)
            losses.append(float(loss_of(closure)))
            racer.step()
            put(weights, opt.trained)
        loss = min(losses[-1] for _, _, losses in racers)
    racer, weights, _ = min(racers, key=lambda entry: _late_loss(entry[2]))
    put(opt.trained, weights)
    opt.load_state_dict(racer.state_dict())
    return loss


def polyak_length(opt: DoGByRule, loss: Any, c: float = 1.0) -> float:
    """Return c · f / ‖g‖ of the gradients at hand."""
    return c * float(loss) / norm(gradients(opt.trained))


def _late_loss(losses: list[float]) -> float:
    late = sum(losses[RACE_STEPS // 2 :])
    return late if math.isfinite(late) else math.inf


def norm(tensors: list[Tensor]) -> float:
    """Return the norm of tensors as one vector."""
    return math.sqrt(
        sum(float(torch.linalg.vector_norm(t, dtype=torch.float64)) ** 2 for t in tensors)
    )


def gradients(params: list[Tensor]) -> list[Tensor]:
    """Return the gradient of each parameter; 0 where it has none."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in params]


def copies(tensors: list[Tensor]) -> list[Tensor]:
    """Return copies."""
    return [t.detach().clone() for t in tensors]


def put(params: list[Tensor], values: list[Tensor]) -> None:
    """Write values to parameters."""
    torch._foreach_copy_(params, values)


# The candidates, with their constants.
RULES: dict[str, tuple[Callable[..., Rule], dict[str, float]]] = {
    "polyak_0.1": (polyak, {"c": 0.1}),
    "polyak_1": (polyak, {"c": 1.0}),
    "polyak_10": (polyak, {"c": 10.0}),
    "fall_back_1": (fall_back, {"c": 1.0}),
    "fall_back_10": (fall_back, {"c": 10.0}),
    "probe_0.3": (probe, {"kappa": 0.3}),
    "probe_1": (probe, {"kappa": 1.0}),
    "curvature": (curvature, {"c": 1.0}),
    "switch": (switch, {"reps_rel": 1e-6}),
    "race": (race, {}),
    "auto_from_1e-5": (fixed, {"reps_rel": 1e-5, "straight": STRAIGHT}),
    "auto_from_1e-3": (fixed, {"reps_rel": 1e-3, "straight": STRAIGHT}),
    "auto_straight_1.02": (fixed, {"reps_rel": AUTO_REPS_REL, "straight": 1.02}),
    "auto_straight_3": (fixed, {"reps_rel": AUTO_REPS_REL, "straight": 3.0}),
}
