"""What a run was made with: code, packages, hardware, memory, and what can change its last bits."""

import platform
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import ROOT
from runner.cores import usable_cores

if TYPE_CHECKING:
    import torch

    from runner.training_state import TrainingState

# Torch takes seconds to import, and whoever only asks for a result waits for it.

PACKAGES = (
    "torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow", "hydra-core",
    "datasets", "scikit-learn", "scipy", "torchmetrics",
)  # fmt: skip
# Of these, whose code computes a run's numbers.
NUMERICAL = ("torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow")
# Between what the sessions of a run had.
_THEN = ", then "
# Their files: of NVIDIA's, AMD's and Windows' (for Linux). Without one there is no GPU to ask for.
_GPU_DRIVERS = ("nvidiactl", "kfd", "dxg")


def describe(device: "torch.device") -> dict[str, Any]:
    """Return the record's parts `code`, `packages` and `hardware`."""
    import torch

    return {
        "code": _code(),
        "packages": {"python": platform.python_version(), **_versions(PACKAGES)},
        "hardware": {
            "cpu": _cpu(),
            "cores": usable_cores(),
            "device": device.type,
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
    }


def numerics(training: "TrainingState") -> dict[str, Any]:
    """Return what can change the last bits of a result, beside its settings, data and weights.

    `kernel` is what makes the step of an optimizer of ours: C, Triton or torch's operators. What
    differed between the sessions of a run is named in turn: no single machine makes it again.
    """
    import torch

    from dog.kernels import fused

    device = training.device
    found = {
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **_versions(NUMERICAL),
    }
    implementation = getattr(training.optimizer, "implementation", None)
    if implementation is not None:
        fastest = implementation in ("auto", "fused")
        found["kernel"] = fused.engine(device) if fastest else implementation
    for name, earlier in training.earlier_numerics.items():
        here = found.get(name)
        same = str(earlier).split(_THEN)[-1] == str(here)
        found[name] = earlier if same else f"{earlier}{_THEN}{here}"
    return found


def differences(numerics: Mapping[str, Any], threads: int | None) -> list[str]:
    """Return in what a record's `numerics` differ from here, as far as torch need not be asked.

    Args:
        numerics: the record's.
        threads: the number of CPU threads that is asked for; None: any.
    """
    here: dict[str, Any] = _versions(NUMERICAL) | ({"threads": threads} if threads else {})
    if numerics.get("device") == "cpu":
        here["processor"] = _cpu()
    return [
        f"{name} {numerics.get(name)} (here {value})"
        for name, value in here.items()
        if numerics.get(name) != value
    ]


def has_gpu() -> bool:
    """Return whether torch sees a GPU here; it is asked where there is a driver alone."""
    if not any(Path("/dev", driver).exists() for driver in _GPU_DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()


def processor(choice: str) -> str:
    """Return the name, as records have it, of what trains here with device=`choice`."""
    if choice != "cpu" and has_gpu():
        import torch

        return torch.cuda.get_device_name()
    return _cpu()


def reset_peak_memory(device: "torch.device") -> None:
    """Start to measure anew, where the system can (a worker trains many runs)."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # elsewhere the peak is that of the process
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: "torch.device") -> int | None:
    """Return the most memory in use since the reset, in bytes: the GPU's on a GPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024


def _code() -> dict[str, Any]:
    """Return the version of this checkout, and its commit where it is one of git."""
    commit = _git("rev-parse", "HEAD")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "version": project["version"],  # what is installed, if anything is, may be another one
        "commit": commit,
        # What is below results/ is made by runs; it cannot change one.
        "modified": bool(_git("status", "--porcelain", "--", ".", ":!results")) if commit else None,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _versions(packages: Iterable[str]) -> dict[str, str]:
    from tasks.data.cache import versions

    return {name: version for name, version in versions(*packages).items() if version}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
