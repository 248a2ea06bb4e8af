"""What a run is, as typed objects: Hydra composes them, and here they are checked."""

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from runner.config import in_project
from runner.identity import problem_id, run_id
from tasks.data.blocks import (
    DESCRIBES,
    NULLABLE,
    OF_LOOP,
    YAML_ONLY,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Size,
    Spec,
    check_like,
)
from tasks.data.specs import DataSpec, WeightsSpec
from tasks.data.storage import default_data_dir
from tasks.errors import UserError
from tasks.format import did_you_mean
from tasks.specs import BudgetSpec, ModelSpec, TaskSpec, TrainSpec


class OptimizerSpec(Spec):
    """An optimizer: its class, its arguments, and what a sweep tries.

    Arguments that are not declared here belong to the class alone, and have the type of the yaml's
    default.
    """

    model_config = ConfigDict(extra="allow")

    target: Annotated[str, DESCRIBES, YAML_ONLY] = Field(alias="_target_", description="the class")
    name: Annotated[str, YAML_ONLY, OF_LOOP] = Field(description="its name in records")
    label: Annotated[str, DESCRIBES] = Field(description="its name in tables")
    role: Annotated[Literal["reference", "tuning_free", "tuned"] | None, DESCRIBES, YAML_ONLY] = (
        Field(
            None,
            description="what tables and figures take it for: what all others are compared with; "
            "one with nothing to tune; one with a learning rate to tune",
        )
    )
    grid: Annotated[dict[str, list[Any]], DESCRIBES] = Field(description="what a sweep tries")
    paper: Annotated[str | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="its paper's number at arXiv"
    )
    left_to_set: Annotated[list[str], DESCRIBES, YAML_ONLY] = Field(
        [], description="arguments that a user may still have to set by hand"
    )
    start: Annotated[str | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="the argument that sets the length of its first steps; null: none"
    )
    start_default: Annotated[Positive | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="the value used where the argument that `start` names is null"
    )
    start_power: Annotated[Count, DESCRIBES, YAML_ONLY] = Field(
        1, description="the power of that length which `start` is: 2 of a squared one"
    )
    finds_start_of: Annotated[str | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="the optimizer whose reps_rel it finds by itself; null: none"
    )
    step: Annotated[Literal["plain", "loss", "closure"], DESCRIBES, YAML_ONLY] = Field(
        "plain",
        description="what its step is called with: nothing; the loss, as `loss=`; a closure that "
        "computes loss and gradients",
    )
    averages_itself: Annotated[bool | None, DESCRIBES, YAML_ONLY] = Field(
        None,
        description="its eval() puts its own average in place, which is then all that is scored; "
        "to be said of a class with train() and eval()",
    )
    resumable: Annotated[bool, DESCRIBES, YAML_ONLY] = Field(
        True, description="its state can be saved; if not, a killed run begins anew"
    )
    step_size: Annotated[str | None, DESCRIBES, YAML_ONLY] = Field(
        None,
        description="the key of its param groups that the learning rate is multiplied by, for the "
        "log; null: it has telemetry(), or its step size is the learning rate",
    )
    independent_groups: Annotated[bool, DESCRIBES, YAML_ONLY] = Field(
        False,
        description="param groups do not touch each other, which is tried: replicas share one "
        "object",
    )
    schedule: Annotated[Literal["constant", "cosine"], OF_LOOP] = Field(
        description="of the step size's factor"
    )
    warmup: Annotated[Fraction, OF_LOOP] = Field(
        description="part of the steps in which it rises from 0"
    )
    clip_norm: Annotated[Positive | None, OF_LOOP] = Field(
        description="the gradient's norm is cut to this; null: no"
    )

    lr: Positive | None = Field(None, description="learning rate; of DoG the paper's c")
    reps_rel: Positive | Literal["auto"] | None = Field(
        None, description="initial step length r_ε, relative to 1 + ‖x_0‖; auto: docs/start.md"
    )
    s_init: Positive | None = Field(
        None, description="Mechanic's first factor is proportional to it; null: the package's 1e-8"
    )
    init_eta: Positive | None = Field(None, description="the first step size, instead of reps_rel")
    weight_decay: NotNegative | None = Field(None, description="L2 penalty")
    eps: NotNegative | None = Field(None, description="added to the denominator")
    momentum: NotNegative | None = Field(None, description="of SGD's velocity")
    steps: Count | None = Field(None, description="T, that T-DoG's promise is to hold for")
    delta: Positive | None = Field(None, description="δ, the chance that the promise fails")
    lipschitz: NotNegative | None = Field(
        None, description="L, a bound on the gradient's norm; 0: the latest one"
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class is called with, beside the parameters."""
        return self.plain(DESCRIBES, OF_LOOP)

    @property
    def can_train_in_group(self) -> bool:
        """Whether its runs can be replicas, which step and save all in the same way."""
        return self.step == "plain" and self.resumable and not self.averages_itself


class ProtocolSpec(Spec):
    """How long to train, on how much data, by kind of task."""

    name: Annotated[str, YAML_ONLY] = Field(description="its name in records and tables")
    version: Annotated[int, YAML_ONLY] = Field(
        description="raised when any number changes: tables never mix versions. Of the sections "
        "that have none of their own"
    )
    batch_norm: Literal["frozen", "train"] = Field(description="statistics while training")
    freeze_embeddings: bool = Field(description="leave a language model's embeddings as they are")
    vision: BudgetSpec = Field(description="how long tasks of images train")
    language: BudgetSpec = Field(description="how long tasks of texts train")
    probe: BudgetSpec = Field(description="how long probes train")
    theory: BudgetSpec = Field(description="how long problems with a known minimum train")
    tasks: dict[str, BudgetSpec] = Field({}, description="what single tasks have otherwise")

    def version_for(self, budget: str) -> int:
        """Return the version that a run of this section is of."""
        section: BudgetSpec = getattr(self, budget)
        return section.version or self.version


class RunSpec(Spec):
    """All that a run's result depends on."""

    task: TaskSpec = Field(description="what is trained on")
    model: ModelSpec = Field(description="which network")
    opt: OptimizerSpec = Field(description="which optimizer")
    train: TrainSpec = Field(description="how long, and on how much data")
    protocol: ProtocolSpec = Field(description="what is prescribed for it")
    seed: Size = Field(description="of the head, the data order, augmentation and dropout")
    local_copies: dict[str, str] = Field({}, description="digests of the user's own data, weights")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The same as plain values, as a record has them; nobody is to change them."""
        settings = {
            "task": self.task.scientific,
            "model": self.model.scientific,
            "opt": self.opt.scientific,
            "train": self.train.scientific,
            "protocol": {
                "name": self.protocol.name,
                "version": self.protocol.version_for(self.task.budget),
            },
            "seed": self.seed,
        }
        return settings | ({"local_copies": self.local_copies} if self.local_copies else {})

    @cached_property
    def run_id(self) -> str:
        """Task, optimizer and a hash of the settings."""
        return run_id(self.settings)

    @cached_property
    def problem_id(self) -> str:
        """A hash of the settings without optimizer, seed and the user's copies."""
        return problem_id(self.settings)

    def changed(self, changes: Mapping[str, Any], seed: int) -> "RunSpec":
        """Return the spec with other settings of the optimizer, and another seed.

        Raises:
            UserError: for a setting that the optimizer does not have, or an impossible value.
        """
        plain, undeclared = self.opt.plain(), self.opt.model_extra or {}
        for key, value in changes.items():
            if key not in plain:
                near = did_you_mean(key, list(plain))
                raise UserError(f"opt={self.opt.name} has no key {key}: {near}")
            plain[key] = check_like(f"opt.{key}", value, undeclared.get(key))
        return self.replaced(opt=OptimizerSpec.parse(plain, "opt"), seed=seed)


class WandbSpec(Spec):
    """The mirror of a run's numbers."""

    mode: Literal["offline", "online", "disabled"] | None = Field(
        description="null: WANDB_MODE, or offline"
    )
    project: str | None = Field(description="null: WANDB_PROJECT, or dog-bench")
    entity: str | None = Field(description="user or team; null: WANDB_ENTITY, or the default")


class Execution(Spec):
    """What a run's result does not depend on, but for its last bits."""

    device: Literal["auto", "cpu", "cuda"] = Field(description="auto: a GPU if there is one")
    threads: Count | None = Field(description="CPU threads; null: torch's choice")
    workers: Size = Field(description="processes that prepare batches; 0: the training process")
    eval_batch_size: Count = Field(description="examples a batch in evaluation")
    log_every: Count = Field(description="steps between lines of metrics.jsonl")
    checkpoint_seconds: Positive = Field(description="seconds between checkpoints")
    data_dir: str | None = Field(description="of data and weights; null: DOG_BENCH_DATA, a cache")
    runs_dir: str = Field(description="of runs, relative to the project's folder")
    export: Literal["averaged", "last"] | None = Field(
        description="the weights to keep in the run's folder, as timm or transformers loads them"
    )
    progress: bool = Field(description="show a progress bar")
    debug: bool = Field(description="show tracebacks")
    wandb: WandbSpec = Field(description="the mirror of a run's numbers")

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return in_project(self.runs_dir)

    @property
    def data(self) -> Path:
        """The folder of data and weights."""
        chosen = Path(self.data_dir).expanduser() if self.data_dir else default_data_dir()
        return chosen.resolve()


class Composed(RunSpec, Execution):
    """All that Hydra composes."""

    synthetic: BudgetSpec = Field(description="what task.synthetic=true trains instead of a budget")

    @property
    def run(self) -> RunSpec:
        """What the result depends on."""
        return RunSpec.model_construct(
            self.model_fields_set & RunSpec.model_fields.keys(),
            **{name: getattr(self, name) for name in RunSpec.model_fields},
        )

    @property
    def execution(self) -> Execution:
        """What it does not depend on."""
        return Execution.model_construct(
            **{name: getattr(self, name) for name in Execution.model_fields}
        )


@cache
def fixed_keys() -> frozenset[str]:
    """Return the names that a yaml alone may set, wherever they stand in a group."""
    specs = (TaskSpec, ModelSpec, OptimizerSpec, ProtocolSpec, DataSpec, WeightsSpec)
    return frozenset(name for spec in specs for name in spec.marked(YAML_ONLY))


@cache
def nullable_keys() -> frozenset[str]:
    """Return the dotted keys at which null means something whatever the yaml says."""
    return frozenset(f"train.{name}" for name in TrainSpec.marked(NULLABLE))
