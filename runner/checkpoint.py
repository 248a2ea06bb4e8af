"""Checkpoints that let a killed run end in the same record, bit for bit."""

import hashlib
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from runner.record import put_aside, write_atomically

# Raised when what a checkpoint holds changes.
FORMAT = 3

_DIGEST = hashlib.sha256().digest_size


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint in one atomic step, its own sha256 first."""
    buffer = io.BytesIO()
    whole = {**content, "generators": _generators(), "format": FORMAT}
    torch.save(tree_map(_compact, whole), buffer)
    body = buffer.getvalue()
    write_atomically(path, hashlib.sha256(body).digest() + body)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the checkpoint's content and set the generators, or None where there is none.

    One that is damaged, or of another version, is put aside: then there is none.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    body = data[_DIGEST:]
    if hashlib.sha256(body).digest() != data[:_DIGEST]:
        put_aside(path)
        return None
    content = torch.load(io.BytesIO(body), map_location=device, weights_only=False)
    if content.pop("format", None) != FORMAT:
        put_aside(path, "is from another version of dog-bench")
        return None
    _set_generators(content.pop("generators"))
    return content


def _compact(value: Any) -> Any:
    """Return a tensor without the rest of the one that it is a slice of, which would be saved."""
    if isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value


def _generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _set_generators(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
