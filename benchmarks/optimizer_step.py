"""What an optimizer step costs: python -m benchmarks.optimizer_step

Makes a table for each model: time, bytes moved, memory, waits and launches of a step of DoG in all
implementations, of the authors' package, of torch's optimizers, and of every yaml in configs/opt.
"""

import argparse
import csv
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.contestants import REFERENCE, NotInstalledError, find_contestants
from benchmarks.measuring import (
    COPY,
    FEWEST,
    SECONDS,
    TOO_SLOW,
    WARM_UP,
    Counts,
    Stand,
    TooSlowError,
)
from benchmarks.shapes import MODELS, Model
from runner import cli, environment
from tasks.errors import UserError

OUTPUT = Path(__file__).parents[1] / "results" / "benchmarks" / "optimizer_step.md"
STEPS = 50
NOT_MEASURED = "not measured"
NO_GPU = f"{NOT_MEASURED}: needs a GPU"
COMPARED = (
    "torch", "prodigyopt", "dadaptation", "schedulefree", "dowgopt", "momo-opt", "sps-safe",
    "parameterfree", "mechanic-pytorch", "pytorch_optimizer",
)  # fmt: skip

_HEADINGS = (
    "optimizer", "ms (quartiles)", "× reference", "bytes moved / parameter",
    "extra memory / parameter", "host syncs", "launches", "GB/s (share of a copy's)",
)  # fmt: skip
_LEGEND = """\
Reference: SGD momentum, fused. The optimizers of a table make their steps in turns, each
right after the gradients were written. Where memory does not hold them all they do so in batches,
each with the reference, and × compares medians of the same batch. The parameters are random numbers
in the shapes of the model, in float32, in one param group. The implementations have no weight
decay; rows with `opt=` have the arguments of that yaml, and the suite's way to call their step.
Without a GPU these are measured on MiniLM-L6 alone.

- *bytes moved*: what the operators of a step read and write, by their arguments: the same on every
  machine, and not what a cache saves.
- *extra memory*: bytes of optimizer state and averaged copies; the weights are 4 and the gradients
  4 more. What a step needs for a moment is not in it.
- *host syncs*: times the host asks for the value of a tensor that is on the parameters' device.
  Without a GPU it need not wait for it; the same code would on one. Copies from the host to a GPU,
  which it waits for too, are seen on a GPU only.
- *launches*: kernels on a GPU. Without one, operators called: one of them may be many kernels."""


@dataclass(frozen=True)
class Row:
    """A line of the csv; what is not known is None."""

    model: str
    parameters: int
    optimizer: str
    opt: str  # the name of its yaml; empty: an implementation
    title: str
    status: str
    milliseconds: float | None = None
    milliseconds_quartile_1: float | None = None
    milliseconds_quartile_3: float | None = None
    ratio: float | None = None
    bytes_per_parameter: float | None = None
    memory_per_parameter: float | None = None
    syncs: int | None = None
    launches: int | None = None
    gigabytes_per_second: float | None = None
    share_of_copy: float | None = None

    def markdown(self) -> str:
        """Return the line of the table for people."""
        if self.milliseconds is None:
            cells = [self.title, self.status, *[""] * (len(_HEADINGS) - 2)]
        else:
            low, high = self.milliseconds_quartile_1, self.milliseconds_quartile_3
            spread = f"{_digits(self.milliseconds)} ({_digits(low)}–{_digits(high)})"
            speed = NOT_MEASURED
            if self.gigabytes_per_second is not None:
                speed = f"{self.gigabytes_per_second:.0f} ({self.share_of_copy:.0%})"
            cells = [
                self.title, spread, f"{self.ratio:.2f}", f"{self.bytes_per_parameter:.1f}",
                f"{self.memory_per_parameter:.1f}", str(self.syncs), str(self.launches), speed,
            ]  # fmt: skip
        return _line(cells)


def measured(
    key: str, model: Model, names: Sequence[str], steps: int, device: torch.device
) -> list[Row]:
    """Return a row for each optimizer, in order; those that cannot be measured say why."""
    count = model.count

    def row(name: str, status: str, *numbers: float | None) -> Row:
        contestant = find_contestants()[name]
        return Row(key, count, name, contestant.opt, contestant.title, status, *numbers)

    if model.needs_gpu and device.type != "cuda":
        return [row(name, NO_GPU) for name in names]
    stand = Stand(model.shapes(), device)
    counts: dict[str, Counts] = {}
    rows: dict[str, Row] = {}
    for name in names:
        _say(f"{model.title}: counting {name}")
        try:
            counts[name] = stand.count(find_contestants()[name])
        except NotInstalledError as missing:
            rows[name] = row(name, f"not installed: `{missing}`")
        except TooSlowError:
            rows[name] = row(name, f"{NOT_MEASURED}: a step takes more than {TOO_SLOW} s")
    for batch in list(stand.batches({name: own.memory for name, own in counts.items()})):
        _say(f"{model.title}: timing {', '.join(batch)}")
        seconds = stand.race({name: find_contestants()[name] for name in batch}, steps)
        quartiles = {name: _quartiles(values) for name, values in seconds.items()}
        _, reference, _ = quartiles[REFERENCE]
        for name in batch:
            if name in rows:  # the reference was in an earlier batch as well
                continue
            own, (low, middle, high) = counts[name], quartiles[name]
            speed = share = None
            if COPY in quartiles:
                speed = own.bytes / middle
                share = speed / (2 * 4 * count / quartiles[COPY][1])
            rows[name] = row(
                name, "measured", 1e3 * middle, 1e3 * low, 1e3 * high, middle / reference,
                own.bytes / count, own.memory / count, own.syncs, own.launches,
                None if speed is None else speed / 1e9, share,
            )  # fmt: skip
    return [rows[name] for name in names]


def document(rows: Sequence[Row], header: Iterable[str]) -> str:
    """Return the tables, one a model, as markdown."""
    parts = ["# What an optimizer step costs", "\n".join(f"- {line}" for line in header), _LEGEND]
    for key in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == key]
        parts.append(f"## {MODELS[key].title}: {own[0].parameters / 1e6:,.1f} M parameters")
        if all(row.status == NO_GPU for row in own):
            parts.append(f"{NO_GPU[0].upper()}{NO_GPU[1:]}.")
        else:
            parts.append(table(own))
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Return the table of one model."""
    marks = ["---", *["---:"] * (len(_HEADINGS) - 1)]
    return "\n".join([_line(_HEADINGS), _line(marks), *(row.markdown() for row in rows)])


def header(command: str, steps: int, device: torch.device) -> list[str]:
    """Return what the numbers were made with."""
    about = environment.describe(device)
    code, hardware = about["code"], about["hardware"]
    state = " and changes that are not committed" if code["modified"] else ""
    versions = {name: _version(name) for name in COMPARED}
    return [
        f"command: `{command}`",
        f"{steps} steps of each, or as many as {SECONDS} s have ({FEWEST} at least), "
        f"after {WARM_UP} that do not count",
        f"device: {hardware['gpu'] or 'CPU; there was no GPU'}",
        f"CPU: {hardware['cpu']}, {hardware['cores']} cores, {torch.get_num_threads()} threads",
        f"code: dog-bench {code['version']}, commit {code['commit'] or 'unknown'}{state}",
        ", ".join(f"{name} {version}" for name, version in versions.items() if version),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print the tables and write them to files."""
    options = _parsed(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = [
        row
        for key in options.models
        for row in measured(
            key, MODELS[key], _entered(options, MODELS[key], device), options.steps, device
        )
    ]
    text = document(rows, header(_command(options), options.steps, device))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, "utf-8")
    with options.output.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Row))
        writer.writerows(_filled(row) for row in rows)
    print(text, end="")


def _entered(options: argparse.Namespace, model: Model, device: torch.device) -> list[str]:
    """Return the optimizers that are measured on a model: what was asked for, or all for it."""
    known = find_contestants()
    if options.optimizers is not None:
        return [name for name in known if name in {*options.optimizers, REFERENCE}]
    everyone = device.type == "cuda" or not model.is_large
    return [name for name, contestant in known.items() if everyone or not contestant.opt]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str):
        raise UserError(message)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.optimizer_step", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME",
                        help=f"of {', '.join(MODELS)}; default: all")  # fmt: skip
    parser.add_argument("--optimizers", nargs="+", metavar="NAME",
                        help=f"of {', '.join(find_contestants())}; default: all. "
                        f"{REFERENCE}, the reference, always takes part")  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="steps of each; default: %(default)s"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT,
                        help="the markdown file; the csv is beside it")  # fmt: skip
    options = parser.parse_args(arguments)
    for kind, given, known in (
        ("model", options.models, MODELS),
        ("optimizer", options.optimizers or (), find_contestants()),
    ):
        for name in given:
            if name not in known:
                raise UserError(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    if options.steps < 1:
        raise UserError(f"--steps must be at least 1; got {options.steps}")
    if options.output.suffix == ".csv":
        raise UserError("--output names the markdown file; the csv is beside it")
    return options


def _command(options: argparse.Namespace) -> str:
    """Return the command that makes the same table, without where it was written."""
    words = ["python", "-m", "benchmarks.optimizer_step"]
    if options.models != list(MODELS):
        words += ["--models", *options.models]
    if options.optimizers is not None:
        words += ["--optimizers", *options.optimizers]
    if options.steps != STEPS:
        words += ["--steps", str(options.steps)]
    return shlex.join(words)


def _filled(row: Row) -> list[object]:
    return [NOT_MEASURED if value is None else value for value in astuple(row)]


def _quartiles(values: list[float]) -> list[float]:
    places = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    return torch.tensor(values, dtype=torch.float64).quantile(places).tolist()


def _digits(value: float | None) -> str:
    """Return three digits, or all before the point."""
    assert value is not None
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.main(main)
