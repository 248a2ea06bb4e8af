"""An optimizer and its settings as code to paste into a training loop."""

import inspect
from importlib import import_module
from typing import Any

from runner.specs import OptimizerSpec, RunSpec


def code_of(spec: RunSpec, averaged: bool) -> str:
    """Return a training loop in plain PyTorch with a run's optimizer, of a plain step.

    `averaged`: with the average of the weights, which is what is used.
    """
    opt, train = spec.opt, spec.train
    module, _, name = opt.target.rpartition(".")
    imports = [f"from {module} import {name}"]
    if averaged and module == "dog":
        imports[0] = f"from dog import PolynomialDecayAverager, {name}"
    elif averaged:
        imports.append("from dog import PolynomialDecayAverager")
    arguments = ["model.parameters()", *_arguments(opt)]
    before = [f"optimizer = {name}({', '.join(arguments)})"]
    backward = ["optimizer.zero_grad()", "loss_function(model(inputs), targets).backward()"]
    after = ["optimizer.step()"]
    if opt.schedule != "constant" or opt.warmup:
        imports.append("from torch.optim.lr_scheduler import LambdaLR")
        before += _schedule(opt, train.steps)
        after.append("scheduler.step()")
    if opt.clip_norm is not None:
        imports.append("from torch.nn.utils import clip_grad_norm_")
        backward.append(f"clip_grad_norm_(model.parameters(), {opt.clip_norm:g})")
    if averaged:
        before.append(f"averager = PolynomialDecayAverager(model, gamma={train.averaging_gamma:g})")
        after.append("averager.step()")
    loop = [f"    {line}" for line in (*backward, *after)]
    batches = f"for inputs, targets in batches:  # {train.steps} of {train.batch_size} examples"
    model = "averager.averaged_model" if averaged else "model"
    standard = ["import math", ""] if "math." in "".join(before) else []
    return "\n".join(
        [*standard, *sorted(imports), "", *before, batches, *loop, f"evaluate({model})"]
    )


def _arguments(opt: OptimizerSpec) -> list[str]:
    """Return the arguments that are not the class's defaults."""
    module, _, name = opt.target.rpartition(".")
    signature = inspect.signature(getattr(import_module(module), name)).parameters
    found = []
    for key, value in opt.arguments.items():
        default: Any = signature[key].default if key in signature else inspect.Parameter.empty
        if isinstance(value, list):
            value = tuple(value)
        if value != default or (key == "lr" and opt.role == "tuned"):
            found.append(f"{key}={value!r}")
    return found


def _schedule(opt: OptimizerSpec, steps: int) -> list[str]:
    """Return the learning rate's schedule: `runner.schedule.factor` of these settings."""
    rising = round(opt.warmup * steps)
    factor = "1.0"
    if opt.schedule == "cosine":
        later = f"(step - {rising})" if rising else "step"
        factor = f"(1 + math.cos(math.pi * {later} / {steps - rising})) / 2"
    if rising:
        factor = f"(step + 1) / {rising + 1} if step < {rising} else {factor}"
    return [f"scheduler = LambdaLR(optimizer, lambda step: {factor})"]
