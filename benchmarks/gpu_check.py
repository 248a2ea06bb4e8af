"""Does all work on this GPU, and how fast? python -m benchmarks.gpu_check (under eight minutes)

Needs torch 2.11, a GPU and what `make setup` installs; no network. Ends in a table, which is also
written to a file, and in status 0 where all is well, 1 where a check has failed.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import optimizer_step
from benchmarks.gpu_checks import CHECKS, ROOT
from runner import cli
from tasks.errors import UserError

OUTPUT = ROOT / "results" / "benchmarks" / "gpu.md"
# Seconds for all checks, and for one of them: what hangs is ended.
ALL, EACH = 450.0, 150.0


@dataclass(frozen=True)
class Outcome:
    """How a check ended."""

    check: str
    result: str  # ok | FAILED
    detail: str  # what was found, or what is wrong
    seconds: float
    more: str = ""  # tables of its own


def main(arguments: list[str] | None = None) -> int:
    """Make all checks, each in a process of its own; print the table and write it to a file."""
    parser = optimizer_step.Parser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    parser.add_argument("--only", choices=CHECKS, metavar="CHECK", help="make this one alone")
    parser.add_argument("debug", nargs="?", help="debug=true shows where a check has failed")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise UserError("torch sees no GPU here, and this checks what runs on one")
    device = torch.device("cuda")
    if options.only:
        print(CHECKS[options.only](device))
        return 0
    outcomes = checked(list(CHECKS))
    text = document(outcomes, header(device))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)
    print(text, end="")
    return int(any(outcome.result != "ok" for outcome in outcomes))


def checked(names: list[str], module: str = "benchmarks.gpu_check") -> list[Outcome]:
    """Make checks one after the other; one that fails, even by a crash, leaves the others alone."""
    outcomes = []
    end = time.monotonic() + ALL
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        limit = min(EACH, end - began)
        result, detail, more = _check(name, module, limit) if limit > 0 else _failed("no time left")
        outcomes.append(Outcome(name, result, detail, time.monotonic() - began, more))
    return outcomes


def _check(name: str, module: str, limit: float) -> tuple[str, str, str]:
    words = [sys.executable, "-m", module, "--only", name, "debug=true"]
    try:
        process = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return _failed(f"not over after {limit:.0f} s")
    if process.returncode:
        print(process.stderr, file=sys.stderr, end="", flush=True)
        lines = process.stderr.strip().splitlines() or [f"status {process.returncode}"]
        return _failed(lines[-1].removeprefix("error: "))
    detail, _, more = process.stdout.strip().partition("\n")
    return "ok", detail, more


def _failed(why: str) -> tuple[str, str, str]:
    return "FAILED", why, ""


def header(device: torch.device) -> list[str]:
    """Return what the checks were made with."""
    lines = optimizer_step.header("python -m benchmarks.gpu_check", optimizer_step.STEPS, device)
    return [*(line for line in lines if "steps of each" not in line), f"CUDA {torch.version.cuda}"]


def document(outcomes: list[Outcome], header: list[str]) -> str:
    """Return the table of the checks, and what they measured, as markdown."""
    rows = [
        f"| {o.check} | {o.result} | {o.seconds:.0f} | {o.detail.replace('|', '/')} |"
        for o in outcomes
    ]
    parts = [
        "# What was checked on a GPU",
        "\n".join(f"- {line}" for line in header),
        *(f"## {o.check}\n\n{o.more}" for o in outcomes if o.more),
        "## All checks",
        "\n".join(["| check | result | seconds | found |", "| --- | --- | ---: | --- |", *rows]),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    cli.main(main)
