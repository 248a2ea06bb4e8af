"""Iterate averaging: DoG's step size does not decay, so its last iterate is noisy."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

BatchNorm = Literal["paper", "copy", "recompute"]
BATCH_NORM: tuple[BatchNorm, ...] = ("paper", "copy", "recompute")


class Averaging(Protocol):
    """A running average x̄ = (1 − w) x̄ + w x that an optimizer keeps of its parameters."""

    model: nn.Module | None  # whose batch normalization is meant
    batch_norm: BatchNorm
    averages_previous_iterate: bool  # whether a step averages x_t, from which it starts, or x_{t+1}

    def weight(self, row: dict[str, Tensor]) -> Tensor:
        """Return w, [R], from the rows' numbers after the step (dog.equations.SCALARS).

        ``step`` is the same for all rows: the largest number of steps that one has taken.
        """
        ...


def weight_of(averaging: Averaging, numbers: dict[str, Tensor], present: Tensor) -> Tensor:
    """Return what share the weights of this step get in the averages of each row, float64 [R].

    ``numbers`` are those of the rows; ``present`` says which rows have a gradient.
    """
    # One clock for all, so that a tensor that has no gradient any more is averaged, too.
    clock = numbers["step"].max().expand_as(numbers["step"])
    weight = averaging.weight({**numbers, "step": clock}).double()
    # Weights that are a row's own stand still where it does.
    return weight * present if averaging.averages_previous_iterate else weight


def _check_batch_norm(batch_norm: str, model: nn.Module | None) -> None:
    if batch_norm not in BATCH_NORM:
        raise ValueError(f"batch_norm must be one of {', '.join(BATCH_NORM)}; got {batch_norm!r}")
    if batch_norm != "copy" and model is None:
        raise ValueError(f'batch_norm="{batch_norm}" needs model, whose buffers are meant')


def _check_gamma(gamma: float) -> None:
    if not gamma >= 0:
        raise ValueError(f"gamma must not be negative; got {gamma}")


@dataclass
class PolynomialDecay:
    r"""Polynomially weighted averaging, for an optimizer's ``averaging=``.

    .. math:: \bar x_t = (1 - w_t)\,\bar x_{t-1} + w_t x_t, \qquad
              w_t = \frac{1 + \gamma}{t + \gamma}, \qquad t = 1, 2, \ldots

    so the first step copies (Shamir & Zhang 2013, section 4; Ivgi et al. 2023 use γ = 8).

    Args:
        gamma: γ; larger values forget the early iterates faster. Default: 8.
        model: the model in training; needed where ``batch_norm`` is not ``"copy"``, and for one
            that FSDP2's ``fully_shard`` has sharded.
        batch_norm: what ``optimizer.eval()`` evaluates batch normalization with: ``"copy"``, the
            statistics of the model in training as they are; ``"paper"``, their average with the
            same weights, as in the paper's runs; ``"recompute"``, those of the averaged weights on
            batches that you give to ``eval(batches)``. Default: ``"copy"``.

    Raises:
        ValueError: if gamma is negative, batch_norm unknown, or model missing.
    """

    gamma: float = 8.0
    model: nn.Module | None = None
    batch_norm: BatchNorm = "copy"
    averages_previous_iterate = False

    def __post_init__(self) -> None:
        _check_gamma(self.gamma)
        _check_batch_norm(self.batch_norm, self.model)

    def weight(self, row: dict[str, Tensor]) -> Tensor:
        """Return w_t."""
        return (1 + self.gamma) / (row["step"] + self.gamma)


@dataclass
class DistanceWeighted:
    r"""The theory's average, for an optimizer's ``averaging=``.

    .. math:: \bar x_T = \frac{\sum_{t<T} \bar r_t x_t}{\sum_{t<T} \bar r_t}

    It is the one that the guarantees are about (Ivgi et al. 2023, equation (3)); in practice
    :class:`PolynomialDecay` does as well or better (appendix of the same). Arguments and errors
    are those of :class:`PolynomialDecay`.
    """

    model: nn.Module | None = None
    batch_norm: BatchNorm = "copy"
    averages_previous_iterate = True

    def __post_init__(self) -> None:
        _check_batch_norm(self.batch_norm, self.model)

    def weight(self, row: dict[str, Tensor]) -> Tensor:
        """Return r̄_t / Σ_{k≤t} r̄_k."""
        # Both are 0 on a first step with init_eta, which then copies.
        return torch.where(row["rbar_sum"] > 0, row["rbar"] / row["rbar_sum"], 1.0)


class PolynomialDecayAverager:
    r"""Keep a polynomially weighted running average of a model's weights.

    For any optimizer, as in ``dog-optimizer``: a copy of the model, and a pass of its own over
    memory. DoG's own ``averaging=PolynomialDecay()``, with the same formula, needs neither.

    Call :meth:`step` after every ``optimizer.step()`` and evaluate :attr:`averaged_model`.
    Integer and boolean buffers are copied. A tensor that the model uses under several names is
    averaged once. Averages of 16-bit weights are kept in float32 beside the averaged model. A layer
    that is added later, or a tensor that takes another shape, starts its average as a copy; where
    layers come or go :attr:`averaged_model` is another object afterwards.

    Args:
        model: the model in training. It is copied, so the average costs as much memory again.
        gamma: γ; larger values forget the early iterates faster. Default: 8.
        batch_norm: what becomes of floating-point buffers (batch normalization's statistics):
            ``"paper"``, averaged with the weights, as in ``dog-optimizer`` and the paper's runs;
            ``"copy"``, copied; ``"recompute"``, copied until you call
            :meth:`recompute_batch_norm`. Default: ``"paper"``.

    Raises:
        ValueError: if gamma is negative or batch_norm unknown.
    """

    def __init__(
        self, model: nn.Module, gamma: float = 8.0, batch_norm: BatchNorm = "paper"
    ) -> None:
        _check_gamma(gamma)
        _check_batch_norm(batch_norm, model)
        self.t = 1
        self.model = model
        self.av_model = _copied(model)
        self.gamma = gamma
        self.batch_norm = batch_norm
        self._wide: dict[str, Tensor] = {}  # float32 averages of 16-bit tensors

    @torch.no_grad()
    def step(self) -> None:
        """Take the model's present weights into the average."""
        weight = (1 + self.gamma) / (self.t + self.gamma)  # w_t
        tensors, averages = _tensors(self.model), _tensors(self.av_model)
        if tensors.keys() != averages.keys():
            self._follow()
            averages = _tensors(self.av_model)
        mixed: list[Tensor] = []
        added: list[Tensor] = []
        for name, x in tensors.items():
            average = averages[name]
            if average.device != x.device:  # the model was moved after the averager was made
                average.data = average.data.to(x.device)
            same_shape = average.shape == x.shape
            if not same_shape:
                average.data = torch.empty_like(x, dtype=average.dtype)
            if weight < 1 and same_shape and self._is_averaged(x):
                kept = self._widened(name, average)
                if not x.requires_grad:  # what has not changed stays, also a mask's infinity
                    kept.copy_(torch.where(kept == x, kept, kept.lerp(x.to(kept.dtype), weight)))
                elif kept.dtype == x.dtype:
                    mixed.append(kept)
                    added.append(x)
                else:  # one by one: a copy of all weights would need as much memory again
                    kept.lerp_(x.to(kept.dtype), weight)
            else:  # a copy forgets even an average that is not finite
                average.copy_(x)
                self._wide.pop(name, None)
        if mixed:
            torch._foreach_lerp_(mixed, added, weight)
        for name, kept in self._wide.items():
            averages[name].copy_(kept)
        self.t += 1

    def _follow(self) -> None:
        """Copy a model that has got or lost layers anew, and keep the averages of what stays."""
        before, evaluates = _tensors(self.av_model), not self.av_model.training
        self.av_model = _copied(self.model)
        if evaluates:
            self.av_model.eval()
        averages = _tensors(self.av_model)
        for name in before.keys() & averages.keys():
            averages[name].data = before[name].data
        self._wide = {name: kept for name, kept in self._wide.items() if name in averages}

    def _is_averaged(self, x: Tensor) -> bool:
        is_meant = isinstance(x, nn.Parameter) or self.batch_norm == "paper"
        return is_meant and (x.is_floating_point() or x.is_complex())

    def _widened(self, name: str, average: Tensor) -> Tensor:
        """Return what the average is kept in: itself, or for 16-bit tensors a float32 one."""
        if average.dtype not in (torch.float16, torch.bfloat16):
            return average
        if name not in self._wide:
            self._wide[name] = average.to(torch.float32)
        return self._wide[name]

    def recompute_batch_norm(
        self, batches: Iterable[Any], device: torch.device | None = None
    ) -> None:
        """Set the averaged model's batch normalization to the statistics of these batches.

        ``batches`` are inputs, or tuples that begin with them
        (:func:`torch.optim.swa_utils.update_bn`).
        """
        update_bn(batches, self.av_model, device)

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

        Averages of 16-bit tensors come as they are kept, in float32, under ``wide``. To save
        weights for use, take ``averager.averaged_model.state_dict()``.
        """
        state = {"t": self.t, "av_model": self.av_model.state_dict()}
        return state | {"wide": dict(self._wide)} if self._wide else state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` (here or in ``dog-optimizer``) returned."""
        self.t = state_dict["t"]
        self.av_model.load_state_dict(state_dict["av_model"])
        devices = {name: x.device for name, x in _tensors(self.av_model).items()}
        self._wide = {
            name: kept.to(devices[name], copy=True)
            for name, kept in state_dict.get("wide", {}).items()
        }


def recompute_batch_norm(model: nn.Module, batches: Iterable[Any]) -> None:
    """Set the model's batch normalization to the statistics of these batches, and leave its modes.

    ``batches`` are inputs, or tuples that begin with them.
    """
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(m, m.momentum) for m in model.modules() if hasattr(m, "momentum")]
    try:
        update_bn(batches, model)
    finally:
        for module, mode in modes:  # not train(), which sets all that are within
            module.training = mode
        for module, momentum in momenta:
            module.momentum = momentum


@contextmanager
def recomputed_batch_norm(model: nn.Module, batches: Iterable[Any]) -> Iterator[None]:
    """Within, the model's batch normalization has the statistics of these batches.

    ``batches`` are inputs, or tuples that begin with them. Afterwards, also after an exception,
    all buffers are as they were, bit for bit.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        recompute_batch_norm(model, batches)
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def float_buffers(model: nn.Module | None) -> list[Tensor]:
    """Return the model's buffers that are averaged under ``batch_norm="paper"``, each once."""
    if model is None:
        return []
    return [b for b in model.buffers() if b.is_floating_point() or b.is_complex()]


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy, also of a model that keeps weights which it computes from its parameters.

    ``torch.nn.utils.weight_norm`` does; deepcopy refuses such tensors.
    """
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, computed)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's parameters and buffers by name, each once however many names it has."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
