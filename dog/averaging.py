"""Iterate averaging: DoG's step size does not decay, so its last iterate is noisy."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class PolynomialDecayAverager:
    r"""Keep a polynomially weighted running average of a model's weights.

    .. math:: \bar x_t = (1 - w_t)\,\bar x_{t-1} + w_t x_t, \qquad
              w_t = \frac{1 + \gamma}{t + \gamma}, \qquad t = 1, 2, \ldots

    so the first step copies (Shamir & Zhang 2013, "Stochastic Gradient Descent for Non-smooth
    Optimization", section 4; Ivgi et al. 2023 use γ = 8).

    Call :meth:`step` after every ``optimizer.step()`` and evaluate :attr:`averaged_model`.
    Floating-point buffers (batch normalization's statistics) are averaged with the weights, as in
    ``dog-optimizer`` and the paper's runs; integer and boolean ones are copied. A tensor that
    the model uses under several names is averaged once.

    Args:
        model: the model in training. It is copied, so the average costs as much memory again.
        gamma: γ; larger values forget the early iterates faster. Default: 8.

    Raises:
        ValueError: if gamma is negative.
    """

    def __init__(self, model: nn.Module, gamma: float = 8.0) -> None:
        if not gamma >= 0:
            raise ValueError(f"gamma must not be negative; got {gamma}")
        self.t = 1
        self.model = model
        self.av_model = copy.deepcopy(model)
        self.gamma = gamma

    @torch.no_grad()
    def step(self) -> None:
        """Take the model's present weights into the average."""
        weight = (1 + self.gamma) / (self.t + self.gamma)  # w_t
        averages = _tensors(self.av_model)
        for name, x in _tensors(self.model).items():
            average = averages[name]
            if average.device != x.device:  # the model was moved after the averager was made
                average.data = average.data.to(x.device)
            if weight < 1 and (x.is_floating_point() or x.is_complex()):
                average.mul_(1 - weight).add_(x, alpha=weight)
            else:  # a copy forgets even an average that is not finite
                average.copy_(x)
        self.t += 1

    def reset(self) -> None:
        """Start the average anew: the next step copies the model's weights."""
        self.t = 1

    @property
    def averaged_model(self) -> nn.Module:
        """The averaged model: evaluate and save this one."""
        return self.av_model

    @property
    def base_model(self) -> nn.Module:
        """The model in training."""
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs: ``t`` and ``av_model``, the averaged model's state dict.

        To save weights for use, take ``averager.averaged_model.state_dict()``.
        """
        return {"t": self.t, "av_model": self.av_model.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` (here or in ``dog-optimizer``) returned."""
        self.t = state_dict["t"]
        self.av_model.load_state_dict(state_dict["av_model"])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's persistent tensors by name, each once however many names it has."""
    named: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            named.setdefault(id(value), (name, value))
    return dict(named.values())
