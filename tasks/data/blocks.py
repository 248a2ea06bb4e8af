"""Typed blocks of a yaml: what they hold, which values are possible, and what an error says."""

import re
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tasks.errors import UserError
from tasks.format import did_you_mean, plural


class Mark(Enum):
    """What else is to be known of a field."""

    DESCRIBES = "no result depends on it: it is no part of a run's id"
    YAML_ONLY = "a yaml alone may set it: a record tells what it was made from by its name"
    NULLABLE = "null means something whatever the yaml says"
    OF_LOOP = "of an optimizer: what the training loop does, no argument of the class"
    ABSENT_IF_NULL = "came after runs were recorded: null leaves no trace in a record"
    OF_IMAGES = "only tasks of images heed it"
    OF_TEXTS = "only tasks of texts heed it"
    NO_FEATURES = "the features that a frozen network computes do not depend on it"


DESCRIBES, YAML_ONLY, NULLABLE = Mark.DESCRIBES, Mark.YAML_ONLY, Mark.NULLABLE
OF_IMAGES, OF_TEXTS = Mark.OF_IMAGES, Mark.OF_TEXTS
OF_LOOP, NO_FEATURES, ABSENT_IF_NULL = Mark.OF_LOOP, Mark.NO_FEATURES, Mark.ABSENT_IF_NULL

T = TypeVar("T")
Count = Annotated[int, Field(gt=0)]
Size = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Spec(BaseModel):
    """A block of a yaml. A key that it does not know is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, protected_namespaces=(), populate_by_name=True
    )

    @classmethod
    def parse(cls, block: Any, where: str = "") -> Self:
        """Return the block as an object.

        Args:
            block: a mapping, as a yaml has it.
            where: the key at which the block stands, for messages.

        Raises:
            UserError: if a key is unknown or lacking, or a value is not possible.
        """
        try:
            return cls.model_validate(dict(block) if isinstance(block, Mapping) else block)
        except ValidationError as error:
            raise UserError(explain(error, where, cls)) from error

    def replaced(self, **values: Any) -> Self:
        """Return a copy with other values of some fields, which are not checked again."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_construct(self.model_fields_set | values.keys(), **{**fields, **values})

    @classmethod
    def yaml_keys(cls) -> list[str]:
        """Return the names that the fields have in a yaml."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def marked(cls, mark: Mark) -> set[str]:
        """Return the names in a yaml of the fields with a mark."""
        return {
            field.alias or name
            for name, field in cls.model_fields.items()
            if mark in field.metadata
        }

    def plain(self, *without: Mark) -> dict[str, Any]:
        """Return what was set, as a yaml has it; at all depths without fields with these marks."""
        values: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in self.model_fields_set or any(m in field.metadata for m in without):
                continue
            if value is not None or ABSENT_IF_NULL not in field.metadata:
                values[field.alias or name] = _plain(value, without)
        for name, value in (self.model_extra or {}).items():
            values[name] = _plain(value, without)
        return values

    @cached_property
    def scientific(self) -> Mapping[str, Any]:
        """The part of what was set that results depend on.

        It is made once, for all runs that share this block: nobody is to change it.
        """
        return self.plain(DESCRIBES)


def _plain(value: Any, without: tuple[Mark, ...]) -> Any:
    if isinstance(value, Spec):
        return value.plain(*without)
    if isinstance(value, Mapping):
        return {key: _plain(item, without) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, without) for item in value]
    return value


def required(value: T | None, key: str) -> T:
    """Return what an optional field says, where it is needed: only some kinds of yaml must set it.

    Args:
        value: the field's.
        key: its name in a configuration, for the message.

    Raises:
        UserError: if it is not set.
    """
    if value is None:
        raise UserError(f"{key} is missing: set it in its yaml")
    return value


# Messages -----------------------------------------------------------------------------------------

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a block of keys",
    "model": "a block of keys",
}


# Parts of an error's place that are pydantic's own: of validators, and of a type's alternatives.
NO_KEYS = ("function", "tuple", "constrained-", "literal[")


def explain(error: ValidationError, where: str, spec: type[Spec]) -> str:
    """Return the first thing that is wrong, in a line: the key, its value, and what to do."""
    first = error.errors()[0]
    path = [part for part in map(str, first["loc"]) if not part.startswith(NO_KEYS)]
    key = ".".join([*([where] if where else []), *path])
    if first["type"] == "extra_forbidden":
        return f"there is no key {key}: {did_you_mean(key, _all_keys(spec, where))}"
    if first["type"] == "missing":
        return f"{key} is missing"
    complaint = _complaint(first)
    if first["type"] == "value_error":
        return f"{key}: {complaint}" if key else complaint
    value = first["input"]
    if not key:
        return f"must {complaint}"
    return f"{key}={'null' if value is None else value}: must {complaint}"


def _complaint(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    base = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    match kind:
        case "value_error":
            return str(context["error"])
        case "must":
            return error["msg"]
        case _ if error["input"] is None:
            return "be set"
        case "literal_error":
            return "be one of " + ", ".join(re.findall("'([^']*)'", context["expected"]))
        case "greater_than":
            return f"be above {context['gt']:g}"
        case "greater_than_equal":
            return f"not be below {context['ge']:g}"
        case "less_than":
            return f"be below {context['lt']:g}"
        case "less_than_equal":
            return f"be at most {context['le']:g}"
        case "finite_number":
            return "be a finite number"
        case "too_short" if context["min_length"] == 1:
            return "have at least one entry"
        case "too_short" | "too_long":
            return f"be a list of {context.get('min_length', context.get('max_length'))} values"
        case _ if base in _TYPES:
            return f"be {_TYPES[base]}"
    return f"be possible ({error['msg']})"


def _all_keys(spec: type[Spec], where: str) -> list[str]:
    """Return the dotted names of all that a block may hold."""
    keys = []
    for name, field in spec.model_fields.items():
        key = ".".join([*([where] if where else []), field.alias or name])
        keys.append(key)
        for part in _specs_in(field.annotation):
            if part is not spec:
                keys += _all_keys(part, key)
    return keys


def _specs_in(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [spec for part in getattr(annotation, "__args__", ()) for spec in _specs_in(part)]


def check_like(key: str, value: Any, default: Any) -> Any:
    """Return a value whose type is that of its default: an argument of a class that we do not know.

    Raises:
        UserError: if it has another type.
    """
    if default is None or isinstance(default, dict):
        return value
    if isinstance(default, list):
        if not isinstance(value, list) or len(value) != len(default):
            raise UserError(f"{key}={value}: must be a list of {plural(len(default), 'value')}")
        return [check_like(key, *pair) for pair in zip(value, default, strict=True)]
    kind: Any = float if isinstance(default, float) else type(default)
    kind = Annotated[float, Field(allow_inf_nan=False)] if kind is float else kind
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        shown = "null" if value is None else value
        raise UserError(f"{key}={shown}: must {_complaint(error.errors()[0])}") from error
