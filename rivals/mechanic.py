"""Mechanic (Cutkosky, Defazio, Mehta, arXiv 2306.00144), of the package ``mechanic-pytorch``."""

import copy
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from mechanic_pytorch import mechanize
from torch import Tensor

_Optimizer: Any = torch.optim.Optimizer  # Any: its state has keys that are not tensors


class _Resumable(_Optimizer):
    """Saves Mechanic's state, which the package keys by tensors, by the number of the parameter.

    The package's own state_dict loads without a word, and the next step raises KeyError.
    """

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without tensors as keys."""
        saved: dict[str, Any] = super().state_dict()
        if "_mechanic" in self.state:
            numbers = {p: number for number, p in enumerate(self._parameters())}
            saved["state"]["_mechanic"] = {
                numbers[key] if isinstance(key, Tensor) else key: value
                for key, value in self.state["_mechanic"].items()
            }
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to where the state was saved."""
        super().load_state_dict(state_dict)
        if "_mechanic" in self.state:
            parameters = self._parameters()
            self.state["_mechanic"] = {
                parameters[key] if isinstance(key, int) else key: value
                for key, value in copy.deepcopy(self.state["_mechanic"]).items()
            }

    def telemetry(self) -> list[dict[str, float]]:
        """Return of each group s · lr, which multiplies the base's steps since x_0. Reads s."""
        if "_mechanic" not in self.state:
            return []
        s = self.state["_mechanic"]["s"].sum().item()
        return [{"lr": group["lr"], "eta": s * group["lr"]} for group in self.param_groups]


@cache
def _mechanized(base: type[torch.optim.Optimizer], s_init: float | None) -> Any:
    options = {} if s_init is None else {"s_init": s_init}
    return type(
        f"Mechanic{base.__name__}",
        (_Resumable, mechanize(base, store_delta=True, **options)),
        {"__doc__": f"Mechanic over torch's {base.__name__}."},
    )


def mechanic_sgd(
    params: Iterable[Any],
    lr: float = 1.0,
    s_init: float | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Return Mechanic over torch's SGD.

    Args:
        params: parameters, or param groups.
        lr: SGD's: times `s_init` it sets the first steps, later the factor makes up for it.
        s_init: what Mechanic's first factor is proportional to; None: the package's 1e-8.
        momentum: SGD's.
        weight_decay: SGD's.
    """
    kind = _mechanized(torch.optim.SGD, s_init)
    optimizer: torch.optim.Optimizer = kind(
        params, lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    return optimizer


def mechanic_adamw(
    params: Iterable[Any],
    lr: float = 1.0,
    s_init: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> torch.optim.Optimizer:
    """Return Mechanic over torch's AdamW; its arguments are AdamW's, and :func:`mechanic_sgd`'s."""
    kind = _mechanized(torch.optim.AdamW, s_init)
    optimizer: torch.optim.Optimizer = kind(
        params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay
    )
    return optimizer
