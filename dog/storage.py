"""How an optimizer keeps x_0 and reads state: in as little memory as loses nothing."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from dog.distributed import Processes, is_sharded, local
from dog.equations import SCALARS
from dog.kernels.bundle import is_constant

NARROW = (torch.bfloat16, torch.float16)

# What the state has of a parameter that is ours; others may keep more there.
OURS = ("x0", "scalars", "average", "compensation", "training_weights", "average_in_place")
# What a saved param group has for readers of dog-optimizer's.
PUBLISHED = ("rbar", "G", "eta")


def compressed(tensors: list[Tensor], processes: Processes) -> list[Tensor]:
    """Return copies of x_0 that hold its exact values and keep its layout.

    A constant tensor becomes one element, expanded; a wider one whose values all fit a 16-bit
    float becomes that; any other, and a complex one, stays as it is. Of a tensor that is spread
    over processes all parts are kept in the same type. Looks at the values, so the device is waited
    for, once.
    """
    if not tensors:
        return []
    tensors = [x.detach() for x in tensors]
    home = local(tensors[0]).device
    misfits = torch.stack([_misfits(x).to(home) for x in tensors])
    # Plain shards of one parameter differ in size, and may be constant in one process alone.
    misfits[:, 0] += torch.tensor(
        [float(is_sharded(x) or processes.plain_are_shards) for x in tensors], device=home
    )
    return [
        _copied(x, form) for x, form in zip(tensors, processes.sum(misfits).tolist(), strict=True)
    ]


def _misfits(x: Tensor) -> Tensor:
    """Return whether x is not constant, not of values in bfloat16, not in float16; float32 [3]."""
    if x.is_complex():  # expanded, its real and imaginary parts would be no single element
        return torch.ones(1 + len(NARROW), device=x.device)
    x = local(x)
    constant = x.numel() > 1 and (x == x[(0,) * x.dim()]).all()
    flags = [~torch.as_tensor(constant, device=x.device)]
    for dtype in NARROW:
        wider = x.dtype in (torch.float32, torch.float64)
        flags.append(~((x.to(dtype).to(x.dtype) == x).all() & wider))
    return torch.stack(flags).float()


def _copied(x: Tensor, misfits: list[float]) -> Tensor:
    if not misfits[0]:
        return x[(0,) * x.dim()].clone().expand(x.shape)
    for dtype, misfit in zip(NARROW, misfits[1:], strict=True):
        if not misfit:
            return x.to(dtype)
    return x.clone(memory_format=torch.preserve_format)


def restored(x0: Tensor, p: Tensor) -> Tensor:
    """Return x_0 in the type and shape of its parameter, as state dicts have it.

    A checkpoint is read into the state of a new optimizer in place, so that has to be whole.
    """
    if x0.dtype == p.dtype and not is_constant(x0):
        return x0
    return torch.empty_like(p, requires_grad=False).copy_(x0)


def rest_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which to keep what rounding takes from parameters of a type.

    float16 has no number between 0 and 6e-8, and DoG's first steps are shorter in each element.
    """
    return torch.bfloat16 if dtype == torch.float16 else dtype


def rounds(x0: Tensor, p: Tensor) -> bool:
    """Return whether a parameter's type is less precise than that of its x_0."""
    return torch.promote_types(x0.dtype, p.dtype) != p.dtype


def published_numbers(states: list[dict[str, Any]], scope: str) -> dict[str, Any]:
    """Return r̄, G and η as a param group of ``dog-optimizer`` has them, copied.

    η is one for each parameter, r̄ and G are so for L-DoG alone; 0 where one takes no part.
    """
    rows = [state["scalars"] for state in states if "scalars" in state]
    if not rows:
        return {}
    if scope == "tensor":
        nothing = torch.zeros_like(rows[0])
        scalars = [state.get("scalars", nothing).to(nothing.device) for state in states]
        columns = torch.stack(scalars, dim=1)
    else:
        columns = rows[0].clone()
    row = dict(zip(SCALARS, columns, strict=True))
    # A tuple, which torch.distributed.checkpoint takes as a whole.
    etas = (
        tuple(row["eta"].expand(len(states))) if scope == "tensor" else (row["eta"],) * len(states)
    )
    return {"rbar": row["rbar"], "G": row["G"], "eta": etas}


def from_published(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state that ``dog-optimizer`` saved, as ours.

    It does not say how many steps were taken, nor how η went; one step is assumed, and of η
    nothing. Other state dicts are returned as they are.
    """
    groups = state_dict["param_groups"]
    state = {key: entry for key, entry in state_dict["state"].items() if key != "_first_step"}
    if not any("init_buffer" in group for group in groups):
        return {**state_dict, "state": state}
    ours = []
    for group in groups:
        scope = "group" if torch.as_tensor(group["G"]).dim() == 0 else "tensor"
        # With what schedulers and others keep in a group.
        kept = {n: v for n, v in group.items() if n not in (*PUBLISHED, "init_buffer")}
        ours.append(kept | {"scope": scope})
        count = len(group["params"])
        numbers = {
            name: torch.as_tensor(group[name], dtype=torch.float64).reshape(-1).expand(count)
            for name in ("G", "rbar")
        }
        etas = [float(eta) for eta in group["eta"]]
        for i, key in enumerate(group["params"]):
            row = dict.fromkeys(SCALARS, 0.0) | {"step": 1.0, "eta": etas[i]}
            row |= {name: values[i].item() for name, values in numbers.items()}
            row["rbar_sum"] = row["rbar"]
            scalars = torch.tensor([row[name] for name in SCALARS], dtype=torch.float64)
            state[key] = {
                **state.get(key, {}), "x0": group["init_buffer"][i], "scalars": scalars
            }  # fmt: skip
    return {"state": state, "param_groups": ours}


def check(
    entries: Mapping[Tensor, Mapping[str, Tensor]],
    saved_groups: list[dict[str, Any]],
    groups: list[dict[str, Any]],
    scope: str,
) -> None:
    """Refuse a state that was saved for other tensors, or for another sharing of step sizes.

    Raises:
        ValueError: with what is wrong.
    """
    for saved, group in zip(saved_groups, groups, strict=True):
        members = [(p, entries[p]) for p in group["params"] if p in entries]
        for p, entry in members:
            _check_entry(entry, p, others_may="scope" in saved)
        started = any("x0" in entry for _, entry in members)
        if started and saved.get("scope", scope) != scope:
            raise ValueError(
                f"the state was saved with scope={saved['scope']!r}, and this optimizer has "
                f"{scope!r}: use the class and the scope that it was saved with"
            )


def _check_entry(entry: Mapping[str, Tensor], p: Tensor, others_may: bool) -> None:
    """Refuse what was saved for another tensor; what others have put beside it may be alone."""
    ours = {"x0", "scalars"} & set(entry)
    if not ours and (others_may or not entry):
        return
    if len(ours) < 2:
        raise ValueError(f"the state is not DoG's: it has {', '.join(sorted(entry)) or 'nothing'}")
    x0 = entry["x0"]
    if x0.shape != p.shape:
        raise ValueError(
            f"the state is of other parameters: {tuple(x0.shape)} was saved for one "
            f"of shape {tuple(p.shape)}"
        )
    if rounds(x0, p):
        raise ValueError(
            f"the state is of {x0.dtype} parameters, and rounding them to {p.dtype} would count as "
            "distance from the start: load it with parameters of their type (autocast computes in "
            "16 bits), or start anew without it"
        )
    if entry["scalars"].shape != (len(SCALARS),):
        raise ValueError("the state is of another version of this package")


def without_ours(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a state dict that is any optimizer's."""
    keys = set(chain.from_iterable(group["params"] for group in state_dict["param_groups"]))
    return {
        **state_dict,
        "state": {
            key: {name: v for name, v in entry.items() if name not in OURS}
            if key in keys
            else entry
            for key, entry in state_dict["state"].items()
        },
        "param_groups": [
            {name: value for name, value in group.items() if name not in PUBLISHED}
            for group in state_dict["param_groups"]
        ],
    }


def by_parameter(
    state_dict: Mapping[str, Any], groups: list[dict[str, Any]]
) -> dict[Tensor, dict[str, Any]]:
    """Return the entries of a state dict by the parameters of an optimizer."""
    sizes = [len(group["params"]) for group in state_dict["param_groups"]]
    wanted = [len(group["params"]) for group in groups]
    if sizes != wanted:
        raise ValueError(
            f"the state is of param groups of {sizes} parameters, and this optimizer has {wanted}"
        )
    keys = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
    params = chain.from_iterable(group["params"] for group in groups)
    state = state_dict["state"]
    return {
        p: {"average" if name == "average_in_place" else name: v for name, v in state[key].items()}
        for key, p in zip(keys, params, strict=True)
        if key in state
    }
