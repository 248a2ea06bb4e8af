"""DoG by a dotted path, as diffusion trainers take it: `python examples/diffusion_trainers.py`.

kohya's sd-scripts and what follows it: `--optimizer_type dog.DoG --learning_rate 1
--lr_scheduler constant --max_grad_norm 0 --optimizer_args reps_rel=1e-6 'scope="global"'`. For
averages put this file beside the script and say `diffusion_trainers.DoGScheduleFree`.
"""

import ast
import importlib

import torch

from dog import DoG, PolynomialDecay


class DoGScheduleFree(DoG):
    """DoG with averages, by a name that ends as sd-scripts wants it to call train() and eval()."""

    def __init__(self, params, lr: float = 1.0, gamma: float = 8, **options) -> None:
        super().__init__(params, lr=lr, averaging=PolynomialDecay(gamma=gamma), **options)


def resolve(optimizer_type: str, optimizer_args: list[str], params, lr: float):
    """Return an optimizer as those trainers make it: a class by its path, literals as options."""
    module, name = optimizer_type.rsplit(".", 1)
    words = dict(arg.split("=") for arg in optimizer_args)
    options = {key: ast.literal_eval(value) for key, value in words.items()}
    return getattr(importlib.import_module(module), name)(params, lr=lr, **options)


if __name__ == "__main__":
    weights = torch.nn.Parameter(torch.ones(4))
    optimizer = resolve("dog.DoG", ["reps_rel=1e-4", 'scope="global"'], [weights], lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        weights.square().sum().backward()
        optimizer.step()
    print("weights", weights.tolist(), *optimizer.telemetry())
