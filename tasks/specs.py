"""What a task, its network and its training budget are, as typed objects."""

from typing import Annotated, Any, Literal, Optional

from pydantic import Field

from tasks.data.blocks import (
    ABSENT_IF_NULL,
    DESCRIBES,
    NO_FEATURES,
    NULLABLE,
    OF_IMAGES,
    OF_TEXTS,
    YAML_ONLY,
    Count,
    NotNegative,
    Positive,
    Spec,
)
from tasks.data.specs import DataSpec, WeightsSpec

Domain = Literal["vision", "language", "theory"]
Augment = Literal[
    "none", "flip", "crop", "natural", "natural_unflipped", "padded_crop", "timm"
]  # fmt: skip
Numbers = list[int | float]


class BudgetSpec(Spec):
    """What a protocol prescribes: for a kind of task, or for one task otherwise than for its kind.

    What is absent is prescribed elsewhere, or not at all.
    """

    version: Annotated[int | None, YAML_ONLY] = Field(
        None, description="raised when a number of this section changes; null: the protocol's"
    )
    steps: Count | None = Field(None, description="optimizer steps")
    batch_size: Count | None = Field(None, description="examples a step")
    train_examples: Count | None = Field(None, description="at most; null: all")
    validation_examples: Count | None = Field(
        None, description="held out of the training part; null: the official ones, else the test"
    )
    test_examples: Count | None = Field(None, description="at most; null: all")
    image_size: Count | None = Field(None, description="pixels a side")
    augment: Augment | None = Field(None, description="of images")
    max_tokens: Count | None = Field(None, description="length of a text, cut")
    eval_every: Count | None = Field(None, description="steps between validation scores")
    checkpoint: Literal["best"] | None = Field(
        None, description="best: test the best by validation; null: the last step"
    )
    reps_rel: dict[str, Positive] | None = Field(None, description="DoG's, by optimizer")
    adam_betas: list[NotNegative] | None = Field(
        None, min_length=2, max_length=2, description="decay of Adam's two moments"
    )
    weight_decay: NotNegative | None = Field(None, description="L2 penalty")
    adamw_weight_decay: NotNegative | None = Field(None, description="AdamW's decoupled decay")
    warmup: NotNegative | None = Field(None, description="part of the steps")
    clip_norm: Positive | None = Field(None, description="the gradient's norm is cut to this")


class TaskSpec(Spec):
    """What is trained on: the kind of problem, its data, its score."""

    target: Annotated[str, DESCRIBES, YAML_ONLY] = Field(
        alias="_target_", description="the class that knows this kind of task"
    )
    name: Annotated[str, YAML_ONLY] = Field(description="its name in records")
    version: Annotated[int, YAML_ONLY] = Field(
        description="raised when anything below changes a result: tables never mix versions"
    )
    domain: Annotated[Domain, YAML_ONLY] = Field(description="which networks fit")
    budget: Annotated[Literal["vision", "language", "probe", "theory"], YAML_ONLY] = Field(
        description="which section of the protocol says how long to train"
    )
    metric: str = Field(description="the score in tables")
    higher_is_better: bool = Field(description="of the metric")
    baseline: Annotated[str | None, YAML_ONLY] = Field(
        None, description="what a diverged run counts as; null: the majority class"
    )
    synthetic: bool = Field(description="a tiny made-up problem of the same form, without files")
    replicas: Annotated[bool, DESCRIBES, YAML_ONLY] = Field(
        False, description="small: a sweep trains runs of it together, as replicas"
    )
    classes: Annotated[int | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="how many classes"
    )
    shape: Annotated[list[int] | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="height, width, channels of an image"
    )
    prompt: Annotated[str | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="how a text-to-text network is asked"
    )
    l2: Positive | None = Field(None, description="weight of ‖x‖² / 2 in f")
    dimension: Count | None = Field(None, description="m, of x in R^m")
    prescribes: Annotated[BudgetSpec | None, YAML_ONLY] = Field(
        None, description="what the task needs under every protocol"
    )
    data: Annotated[DataSpec | None, DESCRIBES, NO_FEATURES] = Field(
        None, description="where examples are from"
    )
    source: Annotated[Optional["TaskSpec"], YAML_ONLY] = Field(
        None, description="of a probe: the task whose data and network give the features"
    )

    @property
    def data_read(self) -> DataSpec | None:
        """Where the examples that are read come from: a probe reads those of its source."""
        if self.source is None or self.source.data is None:
            return self.data
        return self.source.data.replaced(path_key="task.source.data.path")


class ModelSpec(Spec):
    """Which network, and its pretrained weights."""

    target: Annotated[str | None, DESCRIBES, YAML_ONLY] = Field(
        None, alias="_target_", description="what builds it"
    )
    name: Annotated[str, YAML_ONLY, NO_FEATURES] = Field(description="its name in records")
    for_domain: Annotated[Domain, DESCRIBES, YAML_ONLY, NO_FEATURES] = Field(
        description="which tasks it fits"
    )
    arch: str | None = Field(None, description="the architecture's name in its library")
    arguments: dict[str, Any] | None = Field(None, description="of the library's function")
    synthetic_arch: Annotated[str | dict[str, Any] | None, DESCRIBES, YAML_ONLY, NO_FEATURES] = (
        Field(None, description="a tiny network of the same kind, for task.synthetic=true")
    )
    batch_norm: Annotated[Literal["frozen", "train"] | None, NO_FEATURES] = Field(
        None, description="batch normalization's statistics while training"
    )
    freeze_embeddings: Annotated[bool | None, NO_FEATURES] = Field(
        None, description="leave word embeddings as they are"
    )
    lora: Annotated[Count | None, NO_FEATURES, ABSENT_IF_NULL] = Field(
        None,
        description="rank of LoRA's matrices, which are trained with the head alone; null: all "
        "weights are trained",
    )
    depth: Count | None = Field(None, description="of a network from scratch")
    width: Count | None = Field(None, description="of a network from scratch")
    channels: Literal["rgb", "bgr"] | None = Field(None, description="order it was trained with")
    mean: Numbers | None = Field(None, description="taken from values in 0..255, a channel each")
    std: Numbers | None = Field(None, description="then divided by this")
    interpolation: str | None = Field(
        None, description="of images in evaluation, with train.augment=timm or model=timm:..."
    )
    crop_pct: Positive | None = Field(None, description="part of the image that it looks at")
    tokenizer: Annotated[str | None, DESCRIBES, YAML_ONLY] = Field(
        None, description="what turns text into tokens"
    )
    forms: Annotated[dict[str, str] | None, DESCRIBES, YAML_ONLY, NO_FEATURES] = Field(
        None, description="the class that turns each kind of language problem into its inputs"
    )
    weights: Annotated[WeightsSpec | None, DESCRIBES, YAML_ONLY, NO_FEATURES] = Field(
        None, description="pretrained"
    )

    @property
    def is_own(self) -> bool:
        """Whether it is the user's choice of any network, and no yaml's (tasks/own_models.py)."""
        return ":" in self.name

    @property
    def synthetic_arguments(self) -> dict[str, Any]:
        """``synthetic_arch`` where that is a block: a callable's arguments."""
        return dict(self.synthetic_arch) if isinstance(self.synthetic_arch, dict) else {}


class TrainSpec(Spec):
    """How long, and on how much data. A run that departs from its protocol is a run of its own."""

    steps: Count = Field(description="optimizer steps")
    batch_size: Count = Field(description="examples a step")
    train_examples: Annotated[Count | None, NULLABLE] = Field(description="at most; null: all")
    validation_examples: Count | None = Field(
        description="held out of the training part; null: the official ones, else the test part"
    )
    test_examples: Annotated[Count | None, NULLABLE] = Field(description="at most; null: all")
    image_size: Annotated[Count | None, OF_IMAGES] = Field(description="images: pixels a side")
    augment: Annotated[Augment, OF_IMAGES] = Field(description="of images")
    max_tokens: Annotated[Count | None, OF_TEXTS] = Field(description="texts: length, cut")
    averaging_gamma: NotNegative = Field(description="γ of polynomial-decay averaging")
    eval_every: Count = Field(description="steps between validation scores")
    checkpoint: Annotated[Literal["best"] | None, NULLABLE] = Field(
        description="best: test the best by validation; null: the last step"
    )
    precision: Literal["fp32", "bf16"] = Field(
        description="fp32: torch's default, on CUDA with convolutions in TF32; bf16: autocast"
    )
