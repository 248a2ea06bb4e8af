"""Muon for the hidden matrices of a network, AdamW for the rest, with one learning rate.

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et al.,
"Muon is Scalable for LLM Training", arXiv 2502.16982, 2025, whose scale of the update lets Muon
have AdamW's learning rate and weight decay.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, muon
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from rivals.by_group import ByGroup

# A matrix of so many rows is the table of a vocabulary.
VOCABULARY = 10_000


class Muon(ByGroup):
    r"""torch's Muon, for all parameters of a network.

    With the momentum :math:`B_t = \mu B_{t-1} + (1 - \mu)\, g_t` of a matrix of A × B elements, and
    NS five steps of Newton and Schulz towards the nearest matrix whose singular values are all 1,

    .. math::
        x_{t+1} = (1 - \eta \lambda)\, x_t
            - 0.2\, \eta \sqrt{\max(A, B)}\; \mathrm{NS}\bigl((1 - \mu)\, g_t + \mu B_t\bigr).

    :class:`torch.optim.Muon` takes matrices alone. Here the filters of a convolution are a matrix
    with a row for each output channel, and AdamW trains what Muon is not meant for: vectors,
    embeddings (a matrix of 10 000 rows or more), and the head, which is the last matrix of a param
    group. A linear model has no hidden matrix, and AdamW trains all of it.

    Args:
        params: parameters in the order of the network, or dicts that define parameter groups. A
            parameter without a gradient is left as it is.
        lr: η, of both. Default: 1e-3.
        weight_decay: λ, decoupled, of both. Default: 0.01.
        momentum: μ, of Muon. Default: 0.95.
        betas: of AdamW. Default: 0.9 and 0.999.
        eps: of AdamW. Default: 1e-8.
        head: whether the last matrix of a group is the head. Default: true.

    Raises:
        ValueError: for an argument that is out of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        head: bool = True,
    ) -> None:
        if not (lr >= 0 and weight_decay >= 0 and eps >= 0):
            raise ValueError(
                "lr, weight_decay and eps must not be negative; "
                f"got lr={lr}, weight_decay={weight_decay}, eps={eps}"
            )
        if not all(0 <= decay < 1 for decay in (momentum, *betas)):
            raise ValueError(
                f"momentum and betas must be at least 0 and below 1; got {momentum}, {betas}"
            )
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, defaults | {"betas": tuple(betas), "eps": eps, "head": head})

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        matrices = [p for p in group["params"] if p.ndim >= 2]
        hidden = {p for p in matrices if len(p) < VOCABULARY}
        if group["head"] and matrices:
            hidden.discard(matrices[-1])
        self._muon(group, [p for p in params if p in hidden])
        self._adamw(group, [p for p in params if p not in hidden])

    def _muon(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                zeros = torch.zeros_like(p, memory_format=torch.contiguous_format)
                self.state[p]["momentum_buffer"] = zeros
        matrices = [p.flatten(1) for p in params]
        muon(
            matrices,
            [p.grad.flatten(1) for p in params if p.grad is not None],
            [self.state[p]["momentum_buffer"].flatten(1) for p in params],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            nesterov=True,
            ns_coefficients=(DEFAULT_A, DEFAULT_B, DEFAULT_C),
            ns_steps=5,
            eps=1e-7,
            adjust_lr_fn="match_rms_adamw",
            has_complex=False,
        )
        for p, matrix in zip(params, matrices, strict=True):
            if matrix.data_ptr() != p.data_ptr():  # a copy: p lies in another order (channels last)
                p.copy_(matrix.view_as(p))

    def _adamw(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p]["step"] = torch.zeros(())
                self.state[p] |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
        states = [self.state[p] for p in params]
        adamw(
            params,
            [p.grad for p in params if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
