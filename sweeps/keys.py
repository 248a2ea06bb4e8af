"""Writes docs/keys.md, the keys of configs/, as the specs have them, and README's optimizers.

python -m sweeps.keys
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from runner import config
from runner.specs import Execution, OptimizerSpec, ProtocolSpec, RunSpec, WandbSpec
from sweeps.executors.specs import ExecutorSpec, LocalSpec, RaySpec, SlurmSpec
from sweeps.plan import PartSpec
from tasks.data.blocks import YAML_ONLY, Spec
from tasks.data.specs import Archive, DataSpec, HubFiles, WeightsSpec
from tasks.specs import BudgetSpec, ModelSpec, TaskSpec, TrainSpec

HEAD = """# The keys of configs/

`python -m sweeps.keys` writes this page from the specs, which check what is set.

Each yaml of `configs/task`, `model`, `opt` and `protocol` is a choice, such as `task=cifar`. Their
keys, those of `train` and those of a run can be set on the command line (`task.data.path=...`,
`train.steps=...`), except those marked \\*: to change one, copy the yaml under a new name.
`${budget:steps}` stands for what the protocol prescribes for this task. A yaml whose name begins
with `_` holds what several others share (Hydra's `defaults`).
"""
SECTIONS: list[tuple[str, type[Spec]]] = [
    ("task", TaskSpec),
    ("task.data", DataSpec),
    ("model", ModelSpec),
    ("model.weights", WeightsSpec),
    ("source (of data or weights)", Archive),
    ("hub (of data or weights)", HubFiles),
    ("opt", OptimizerSpec),
    ("protocol", ProtocolSpec),
    ("vision, language, probe, theory, tasks.<name> (of a protocol); task.prescribes", BudgetSpec),
    ("train", TrainSpec),
    ("of a run, part of its id", RunSpec),
    ("of a run, not part of its id", Execution),
    ("wandb", WandbSpec),
    ("parts (of configs/sweep)", PartSpec),
    ("executor, of each kind", ExecutorSpec),
    ("executor=local", LocalSpec),
    ("executor=ray", RaySpec),
    ("executor=slurm", SlurmSpec),
]


KEYS, README = config.ROOT / "docs" / "keys.md", config.ROOT / "README.md"


def page() -> str:
    """Return docs/keys.md: a table for each spec."""
    return "\n".join([HEAD, *("\n".join(_section(title, spec)) for title, spec in SECTIONS)])


def _section(title: str, spec: type[Spec]) -> Iterator[str]:
    what = " ".join((spec.__doc__ or "").split("\n\n")[0].split())
    yield f"## {title}\n\n{what}\n\n| key | values | meaning |\n|---|---|---|"
    for name, field in described(spec):
        mark = "\\*" if YAML_ONLY in field.metadata else ""
        values = " \\| ".join(dict.fromkeys(_values(field.annotation, field.metadata)))
        yield f"| `{field.alias or name}`{mark} | {values} | {field.description} |"
    yield ""


def described(spec: type[Spec]) -> list[tuple[str, FieldInfo]]:
    """Return the fields that a spec describes, without those of a section of its parent's."""
    parents = [parent for _, parent in SECTIONS if parent in spec.__mro__[1:]]
    shared = {name for parent in parents for name in parent.model_fields}
    fields = spec.model_fields.items()
    return [(name, field) for name, field in fields if field.description and name not in shared]


def _values(kind: Any, limits: Any = ()) -> Iterator[str]:
    """Yield what may be given in place of a type, as a reader of yaml says it."""
    if hasattr(kind, "__metadata__"):  # Annotated
        limits = [*limits, *(m for one in kind.__metadata__ for m in getattr(one, "metadata", []))]
        yield from _values(kind.__origin__, limits)
    elif get_origin(kind) is Literal:
        yield from (f"`{value}`" for value in get_args(kind))
    elif kind is NoneType:
        yield "null"
    elif get_origin(kind) in (list, tuple, dict) or kind is Any:
        yield {dict: "block"}.get(get_origin(kind), "list")
    elif get_args(kind):  # a union
        for part in get_args(kind):
            yield from _values(part, limits)
    else:
        names = {int: "whole number", float: "number", bool: "true \\| false", str: "text"}
        yield names.get(kind, "block") + _range(limits)


def _range(limits: Any) -> str:
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    found = ((words[name], getattr(limit, name, None)) for limit in limits for name in words)
    return "".join(f" {word} {bound:g}" for word, bound in found if bound is not None)


def optimizers() -> str:
    """Return the rows of README's table of choices that name the optimizers."""
    names: dict[bool, list[str]] = {False: [], True: []}
    for name in config.options("opt"):
        opt = config.load([f"opt={name}"]).spec.opt
        names[opt.role == "tuned"].append(f"`{name}`")
    free, tuned = (" ".join(names[is_tuned]) for is_tuned in (False, True))
    return (
        f"| `opt` | without a learning rate: {free} |\n"
        f"| | with one, `opt.lr=`: {tuned} · [what each is](docs/rivals.md) |\n"
    )


def readme() -> str:
    """Return README.md with the optimizers that there are."""
    rows = r"^\| `opt` \| .*\n\| \| .*\n"
    return re.sub(rows, lambda _: optimizers(), README.read_text("utf-8"), flags=re.MULTILINE)


if __name__ == "__main__":
    for path, text in ((KEYS, page()), (README, readme())):
        Path(path).write_text(text, "utf-8")
