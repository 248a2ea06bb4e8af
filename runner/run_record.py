"""The record of a run: the one schema that writes record.json, reads it and names what is in it."""

import json
import math
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic wants these before Python 3.12
    Self,
)

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from runner import SCHEMA

# A key that this version does not know is kept: another version of the same schema has added it.
_READ = ConfigDict(extra="allow", strict=True, frozen=True)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the score is {value}")
    return value


Score = Annotated[float, AfterValidator(_finite)]


class TaskSettings(TypedDict):
    """What of a task's settings has a name here; each task has more."""

    __pydantic_config__ = _READ  # type: ignore[misc]
    name: str
    version: int
    domain: str
    budget: str
    metric: str
    higher_is_better: bool
    baseline: NotRequired[str]
    synthetic: NotRequired[bool]


class ModelSettings(TypedDict):
    """What of a network's settings has a name here."""

    __pydantic_config__ = _READ  # type: ignore[misc]
    name: str


class ProtocolSettings(TypedDict):
    """Which protocol prescribed the training."""

    __pydantic_config__ = _READ  # type: ignore[misc]
    name: str
    version: int


def _named(opt: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(opt.get("name"), str):
        raise ValueError("it has no name")
    return opt


class Settings(TypedDict):
    """All that the result depends on, as plain values: their hash is the run's id."""

    __pydantic_config__ = _READ  # type: ignore[misc]
    task: TaskSettings
    model: ModelSettings
    opt: Annotated[dict[str, Any], AfterValidator(_named)]
    train: dict[str, Any]
    protocol: ProtocolSettings
    seed: int
    local_copies: NotRequired[dict[str, str]]


class _Part(BaseModel):
    model_config = _READ

    def plain(self) -> dict[str, Any]:
        """Return what was set as plain values, of which JSON is made."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class SplitResults(_Part):
    """The scores on a split, in the task's metric."""

    last: Score = Field(description="of the weights after the last step")
    averaged: Score | None = Field(
        description="of the averaged weights; null: the optimizer averages by itself"
    )
    majority: Score | None = Field(description="of answering the same to everything")
    examples: int


class Results(_Part):
    """What came out of a run."""

    steps: int = Field(description="that were taken")
    train_loss: float | None = Field(description="of the last batch; null: not finite")
    train_examples: int
    validation: SplitResults
    test: SplitResults
    trouble: list[str] | None = Field(None, description="what DoG's step sizes say is wrong")
    test_correct: dict[str, str] | None = Field(
        None, description="by iterate: which test examples were right; packed bits in hexadecimal"
    )
    test_predictions: dict[str, list[float]] | None = Field(
        None, description="by iterate: the answers, with four digits, where none is right or wrong"
    )
    facts: dict[str, float | None] | None = Field(
        None, description="what else a task tells of the last weights"
    )
    checkpoint_steps: dict[str, int] | None = Field(
        None, description="by iterate: the step whose weights were scored, if not the last"
    )


class Code(_Part):
    """The version of this repository that trained."""

    version: str | None = None
    commit: str | None = None
    modified: bool | None = None


class Hardware(_Part):
    """The machine that trained."""

    cpu: str | None = None
    cores: int | None = None
    gpu: str | None = None
    device: str | None = None


class Measured(_Part):
    """What differs between two runs that are equal in all else."""

    started: str | None = None
    finished: str | None = None
    seconds: float = Field(description="of network, training and evaluation, over all sessions")
    train_seconds: float | None = None
    examples_per_second: float | None = Field(description="in training")
    peak_memory_bytes: int | None = None
    sessions: int | None = Field(None, description="how often the run was started")
    threads: int | None = None
    replicas: int | None = Field(1, description="runs that trained together, whose time is shared")


class RunDescription(_Part):
    """What is known of a run before it has a result."""

    run_id: str
    settings: Settings
    problem_id: str
    opt_label: str | None = Field(None, description="the optimizer's name in tables")
    opt_role: str | None = Field(None, description="what tables and figures take it for")
    opt_default: bool = Field(description="whether its settings are its yaml's")
    opt_changed: dict[str, Any] = Field(description="those that are not")
    grid: dict[str, list[Any]] = Field(description="what a sweep tries")

    @classmethod
    def of(cls, content: Any) -> Self:
        """Return what plain values, as JSON has them, describe.

        Raises:
            ValueError: with one line that says what is wrong.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(key) for key in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{where or 'the record'}: {reason}") from error

    @classmethod
    def of_json(cls, content: bytes | str) -> Self:
        """Return what JSON describes.

        Raises:
            ValueError: with one line that says what is wrong.
        """
        return cls.of(parse_json(content))


class RunFailure(RunDescription):
    """What failure.json tells of a run that crashed."""

    error: str
    log: str


class RunHead(_Part):
    """What of a record says whether its run is done, for whoever looks at very many."""

    model_config = ConfigDict(extra="ignore")

    schema_version: int = Field(alias="schema")
    run_id: str
    status: Literal["finished", "diverged"]
    measured: Measured


class RunRecord(RunHead, RunDescription):
    """Everything that is known of a run that has ended; null stands for what is not known."""

    model_config = _READ

    results: Results
    data_id: str | None = Field(None, description="hash of the examples and weights that were read")
    fingerprints: dict[str, str] | None = None
    sources: dict[str, str | None] | None
    numerics: dict[str, Any] | None = Field(description="what can change the last bits")
    code: Code = Code()
    packages: dict[str, str] | None = None
    hardware: Hardware = Hardware()
    curve: list[dict[str, int | float | None]] | None = Field(
        None, description="lines of metrics.jsonl, thinned; in archives alone"
    )

    @classmethod
    def of(cls, content: Any) -> Self:
        """Return what plain values describe; of another schema nothing is looked at."""
        if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
            raise OtherSchemaError(f"has schema {content['schema']} and not {SCHEMA}")
        return super().of(content)

    @property
    def validation_score(self) -> float:
        """The better iterate's score on validation, by which settings are chosen."""
        scores = self.results.validation
        best = max if self.settings["task"]["higher_is_better"] else min
        return best(one for one in (scores.last, scores.averaged) if one is not None)


class OtherSchemaError(ValueError):
    """A record is whole, but of another version of the schema."""


def parse_json(content: bytes | str) -> Any:
    """Return what JSON says; refuse NaN and Infinity, which Python's parser takes and JSON has not.

    Raises:
        ValueError: if it is no JSON.
    """
    return json.loads(content, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")
