"""Checkpoints, from which a killed run goes on and ends in the same record, bit for bit."""

import hashlib
import os
import pickle
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch.utils._pytree import tree_map

from runner.record import quarantine, replaced_atomically
from tasks.errors import UserError

if TYPE_CHECKING:
    from runner.run import Job
    from runner.training_state import TrainingState

# Raised when what a checkpoint holds changes.
FORMAT = 4

_DIGEST = hashlib.sha256().digest_size
_BLOCK = 2**20  # bytes read at a time to compute the sha256


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint in one atomic step, with the sha256 of all before it at the end.

    The content is written tensor by tensor: there is no copy of it in memory.
    """
    everything = {**content, "generators": _generators(), "format": FORMAT}
    with replaced_atomically(path) as file:
        hashing: Any = _HashingWriter(file)
        torch.save(tree_map(_plain, everything), hashing)
        file.write(hashing.sha256.digest())


def save_run(job: "Job", state: "TrainingState") -> None:
    """Write a run's checkpoint, with whose it is."""
    save(job.folder.checkpoint, {**state.state_dict(), "run_id": job.spec.run_id})


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the checkpoint's content and set the generators, or None where there is none.

    A checkpoint that is damaged, of another version, or holds anything but tensors and plain values
    is renamed and counts as none. Nothing in it is run.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    except OSError as error:  # such as a folder in its place
        raise UserError(
            f"cannot read {path} ({error.strerror}): move it away, and the run begins anew"
        ) from error
    with file:
        reason = None if _is_whole(file) else "is damaged"
        if reason is None:
            try:
                content = torch.load(file, map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError):
                reason = "holds what is neither a tensor nor a plain value, and was not loaded"
            else:
                if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
                    reason = "is from another version of dog-bench"
    if reason is not None:
        quarantine(path, reason)
        return None
    _set_generators(content.pop("generators"), device)
    return content


class _HashingWriter:
    """Writes to a file and computes the sha256 of what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write bytes."""
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def _is_whole(file: BinaryIO) -> bool:
    """Return whether a file ends in the sha256 of all before it; go back to its start."""
    left = file.seek(0, os.SEEK_END) - _DIGEST
    file.seek(0)
    sha256 = hashlib.sha256()
    while left > 0 and (block := file.read(min(left, _BLOCK))):
        sha256.update(block)
        left -= len(block)
    digest = file.read(_DIGEST)
    file.seek(0)
    return digest == sha256.digest()


def _plain(value: Any) -> Any:
    """Return a value in a form that can be loaded without running code.

    A slice of a larger tensor is copied: torch would save the larger tensor.
    """
    if isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value.item() if isinstance(value, np.generic) else value


def _generators() -> dict[str, Any]:
    """Return the states of all random generators that a run uses, its own GPU's included."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def _set_generators(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
