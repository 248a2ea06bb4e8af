"""Train and eval mode: the averages in place of the weights, and the training weights back.

Param groups and state say which mode it is and have what is not in place, so that it is saved and
copied with them: the state of a parameter its ``training_weights``, in eval mode; the first group
its model's ``training_buffers``, in eval mode, and their ``averaged_buffers``.
"""

from collections.abc import Iterable
from typing import Any, TypeGuard

import torch
from torch import Tensor

from dog.averaging import Averaging, float_buffers, recompute_batch_norm
from dog.distributed import let_go_of_gathered, local
from dog.kernels.bundle import sent
from dog.layout import Members
from dog.storage import NARROW

Groups = list[dict[str, Any]]


def in_eval_mode(groups: Groups) -> bool:
    """Return whether the averages are in place of the weights."""
    return any("training_buffers" in group for group in groups)


def put_averages_in_place(
    averaging: Averaging, groups: Groups, members: Members, batches: Iterable[Any] | None
) -> None:
    """Keep the training weights, and write the averages over them.

    ``batches`` are those for ``batch_norm="recompute"``. After an exception on the way
    :func:`put_weights_back` leaves all as it was.

    Raises:
        ValueError: if batches are needed and missing.
    """
    recompute = averaging.batch_norm == "recompute"
    if recompute and batches is None:
        raise ValueError('batch_norm="recompute" needs batches: eval(batches)')
    group = groups[0]
    if "averaged_buffers" in group:
        start_buffers(averaging, group)
    buffers = _replaced_buffers(averaging)
    pairs = list(zip(buffers, group.get("averaged_buffers", ()), strict=False))
    group["training_buffers"] = [buffer.clone() for buffer in buffers]
    for p, state in zip(members.params, members.states, strict=True):
        state["training_weights"] = p.detach().clone(memory_format=torch.preserve_format)
        pairs.append((local(p), local(state["average"])))
    for weights, average in pairs:
        weights.copy_(average)
    let_go_of_gathered(averaging.model)
    if recompute and averaging.model is not None and batches is not None:
        recompute_batch_norm(averaging.model, batches)


def put_weights_back(averaging: Averaging | None, groups: Groups, members: Members) -> None:
    """Write the training weights over the averages, bit for bit."""
    for p, state in zip(members.params, members.states, strict=True):
        if "training_weights" in state:
            local(p).copy_(local(state.pop("training_weights")))
    values = [b for group in groups for b in group.pop("training_buffers", ())]
    for buffer, value in zip(_replaced_buffers(averaging), values, strict=True):
        buffer.copy_(value)
    if averaging is not None:
        let_go_of_gathered(averaging.model)


def check_buffers(averaging: Averaging | None, groups: Groups) -> None:
    """Refuse a state of eval mode whose buffers could not be put back."""
    saved = [buffer.shape for group in groups for buffer in group.get("training_buffers", ())]
    if saved and saved != [buffer.shape for buffer in _replaced_buffers(averaging)]:
        raise ValueError(
            "the state was saved in eval mode with the buffers of another model, or another "
            "batch_norm: give the averaging that it was saved with"
        )


def start_buffers(averaging: Averaging | None, group: dict[str, Any]) -> None:
    """Start the averages of buffers, or drop those that are not wanted.

    They start anew where the model's buffers are others, or of another shape, by now.
    """
    if not _averages_buffers(averaging):
        group.pop("averaged_buffers", None)
        return
    buffers = float_buffers(averaging.model)
    shapes = [average.shape for average in group.get("averaged_buffers", ())]
    if "averaged_buffers" not in group or shapes != [b.shape for b in buffers]:
        group["averaged_buffers"] = [
            b.detach().to(torch.float32 if b.dtype in NARROW else b.dtype, copy=True)
            for b in buffers
        ]


def average_buffers(
    averaging: Averaging | None, group: dict[str, Any], take: Tensor, weight: Tensor | None
) -> None:
    """Take the model's buffers into their averages; the weights are those of each row, [R]."""
    if not _averages_buffers(averaging) or weight is None:
        return
    start_buffers(averaging, group)
    weight, averages = weight.max(), group["averaged_buffers"]
    for i, (average, b) in enumerate(zip(averages, float_buffers(averaging.model), strict=True)):
        average = averages[i] = average.to(b.device)
        w = sent(weight, b.device)
        # What has not changed stays: of a mask's infinity (1 - w) times and w times make no number.
        changes = sent(take, b.device) & (average != b)
        average.copy_(torch.where(changes, (1 - w) * average + w * b, average))


def _averages_buffers(averaging: Averaging | None) -> TypeGuard[Averaging]:
    return averaging is not None and averaging.batch_norm == "paper"


def _replaced_buffers(averaging: Averaging | None) -> list[Tensor]:
    """Return the model's buffers that eval mode writes to."""
    if averaging is None or averaging.model is None:
        return []
    if averaging.batch_norm == "recompute":
        return list(averaging.model.buffers())
    return float_buffers(averaging.model) if _averages_buffers(averaging) else []
