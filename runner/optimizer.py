"""A run's optimizer: how it is built and stepped, and what is logged of it, as its yaml says.

Any ``torch.optim.Optimizer`` will do. What a published class lacks (a state that can be saved, a
step for parameters without a gradient) is mended by a subclass in ``rivals/``, never here.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from statistics import median
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from runner.specs import OptimizerSpec
from tasks.errors import UserError

# What is logged of a step size: the learning rate that was set, and what optimizers tell.
LOGGED = ("lr", "eta", "rbar", "G", "gradient_norm", "distance", "skipped")


def build_optimizer(opt: OptimizerSpec, network: nn.Module) -> Optimizer:
    """Return the optimizer of a network's parameters that are trained.

    Raises:
        UserError: if its package is not installed, it refuses its arguments, or its yaml does not
            say what the class needs.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    module, _, name = opt.target.rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"opt={opt.name}: there is no {opt.target} here ({error}); packages of other "
            "optimizers: pip install -c constraints.txt -e '.[rivals]'"
        ) from error
    try:
        optimizer = kind(parameters, **opt.arguments)
    except (TypeError, ValueError) as error:
        texts = [f" opt.{key}={v}" for key, v in opt.arguments.items() if isinstance(v, str)]
        if isinstance(error, TypeError) and texts:  # of a text that is compared with a number
            raise UserError(f"opt={opt.name} cannot take{','.join(texts)}: {error}") from error
        raise UserError(f"opt={opt.name}: {error}") from error
    _check(opt, optimizer)
    if opt.averages_itself:
        optimizer.train()
    return optimizer


def _check(opt: OptimizerSpec, optimizer: Any) -> None:
    """Refuse a yaml that would let the run be scored at other weights, or steps, than it says."""
    has_modes = all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))
    if has_modes and opt.averages_itself is None:
        raise UserError(
            f"opt={opt.name}: its class has train() and eval(): its yaml must say "
            "averages_itself: true if eval() puts its own average in place, or false"
        )
    if opt.averages_itself and not has_modes:
        raise UserError(
            f"opt={opt.name}: averages_itself: true needs a class with train() and eval()"
        )
    groups = optimizer.param_groups
    if not all("lr" in group for group in groups) and (opt.schedule != "constant" or opt.warmup):
        raise UserError(
            f"opt={opt.name}: its class has no learning rate, so its schedule must be constant "
            "and its warmup 0"
        )
    if opt.step_size is not None and not all(opt.step_size in group for group in groups):
        raise UserError(f"opt={opt.name}: step_size: its param groups have no {opt.step_size}")


def take_step(
    optimizer: Any, opt: OptimizerSpec, loss: Tensor, closure: Callable[[], Tensor]
) -> None:
    """Call an optimizer's step in the way that it needs.

    Args:
        loss: of the batch, detached.
        closure: computes the loss of the batch and its gradients anew.
    """
    match opt.step:
        case "plain":
            optimizer.step()
        case "loss":
            optimizer.step(loss=loss)
        case "closure":
            optimizer.step(closure)


def step_sizes(optimizer: Any, opt: OptimizerSpec) -> Sequence[Mapping[str, float]]:
    """Return the numbers of each step size (`LOGGED`), in the order of the param groups.

    They are the optimizer's own ``telemetry()``, or of each group its learning rate and, where the
    yaml names its factor, the step size η that it amounts to. Reading waits for the device.
    """
    if hasattr(optimizer, "telemetry"):
        return optimizer.telemetry()
    found = []
    for group in optimizer.param_groups:
        numbers = {"lr": float(group["lr"])} if "lr" in group else {}
        if opt.step_size is not None:
            numbers["eta"] = numbers.get("lr", 1.0) * float(group[opt.step_size])
        found.append(numbers)
    return found


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what is logged of several step sizes: the median of each number, the range of η."""
    if not rows:  # no parameter has had a gradient yet
        return {}
    numbers = {name: median(row[name] for row in rows) for name in LOGGED if name in rows[0]}
    if len(rows) > 1 and "eta" in numbers:
        etas = [row["eta"] for row in rows]
        numbers |= {"eta_min": min(etas), "eta_max": max(etas)}
    return numbers
