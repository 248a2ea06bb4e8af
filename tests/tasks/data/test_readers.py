"""Reading: the same bytes from every form of a data set, and a clear line for a damaged one."""

import bz2
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LONG_ONLY
from PIL import Image

from runner import config
from runner.yamls import read_yaml
from tasks.data import readers
from tasks.data.cache import cached_arrays, fingerprint, sha256_of
from tasks.data.cifar10 import FOLDER, from_npm
from tasks.data.pickles import read_numpy_pickle
from tasks.data.readers import read
from tasks.data.sources import is_fetched
from tasks.data.specs import DataSpec, WeightsSpec
from tasks.data.storage import default_data_dir
from tasks.errors import UserError
from tasks.task import split as split_up

SOURCE: dict[str, Any] = {"registry": "npm", "name": "thing", "version": "1.0", "sha256": "a" * 64}
SOURCE |= {"bytes": 1, "licence": "MIT", "files": ["*"]}
PER_BATCH = 3


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> Path:
    """The folder that `fetch` gives in these tests."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    monkeypatch.setattr(readers, "fetch", lambda source, data_dir: folder)
    return folder


def block(reader: str, parts: dict, **more) -> DataSpec:
    """A `data:` block that pins these parts."""
    counts = {split: len(parts[split]) for split in ("train", "test") if split in parts}
    sha256 = {part: sha256_of(values) for part, values in parts.items()} | more.pop("sha256", {})
    known = {"reader": reader, "source": SOURCE, "citation": "nobody's"}
    return DataSpec.parse({**known, "sha256": sha256, "examples": counts, **more})


# CIFAR-10 in its three forms, with PER_BATCH images a batch instead of 10,000.


def tiny_cifar10() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    parts: dict[str, np.ndarray] = {}
    for split, count in (("train", 5 * PER_BATCH), ("test", PER_BATCH)):
        parts[split] = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        parts[f"{split}_labels"] = generator.integers(0, 10, count)
    return parts


def batches_of(parts: dict) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    images, labels = np.split(parts["train"], 5), np.split(parts["train_labels"], 5)
    pairs = zip(images, labels, strict=True)
    batches = {f"data_batch_{number}": pair for number, pair in enumerate(pairs, start=1)}
    return {**batches, "test_batch": (parts["test"], parts["test_labels"])}


def write_npm(folder: Path, parts: dict) -> None:
    (folder / "package").mkdir(parents=True)
    for name, (images, _) in batches_of(parts).items():
        Image.fromarray(images.reshape(-1, 1024, 3)).save(folder / "package" / f"{name}.png")
    for split in ("train", "test"):
        labels = json.dumps(parts[f"{split}_labels"].tolist())
        (folder / "package" / f"{split}_lables.json").write_text(labels)


def write_torchvision(folder: Path, parts: dict) -> Path:
    (folder / FOLDER).mkdir(parents=True)
    for name, (images, labels) in batches_of(parts).items():
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        content = {b"data": np.ascontiguousarray(rows), b"labels": labels.tolist()}
        (folder / FOLDER / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder / FOLDER


def write_hub(folder: Path, parts: dict) -> Path:
    """As the hub has it: the training batches in the order of the original archive."""
    import pyarrow
    from pyarrow import parquet

    batches = batches_of(parts)
    order = [f"data_batch_{number}" for number in (4, 3, 2, 5, 1)]
    folder.mkdir(parents=True)
    for split, names in (("train", order), ("test", ["test_batch"])):
        images = [image for name in names for image in batches[name][0]]
        labels = [int(label) for name in names for label in batches[name][1]]
        rows = {"img": [{"bytes": png(image), "path": None} for image in images], "label": labels}
        parquet.write_table(pyarrow.table(rows), folder / f"{split}-00000-of-00001.parquet")
    return folder


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", compress_level=0)
    return file.getvalue()


def cifar10_block(parts: dict, path: Path | None = None) -> DataSpec:
    batches = {"train_batches": [sha256_of(batch) for batch in np.split(parts["train"], 5)]}
    return block("cifar10", parts, path=None if path is None else str(path), sha256=batches)


def write_copy(form: str, folder: Path, parts: dict) -> Path:
    """Write a copy of the given form and return what data.path should say."""
    if form == "hub":
        return write_hub(folder / "snapshots/abc/plain_text", parts).parents[2]
    batches = write_torchvision(folder, parts)
    if form == "folder":
        return batches
    if form == "parent":
        return folder
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, FOLDER)
    shutil.rmtree(batches)
    return archive


@pytest.mark.parametrize("form", ["npm", "folder", "parent", "archive", "hub"])
def test_every_copy_of_cifar10_gives_the_same_bytes_in_the_same_order(form, fetched, tmp_path):
    parts = tiny_cifar10()
    path = None
    if form == "npm":
        write_npm(fetched, parts)
    else:
        path = write_copy(form, tmp_path / "copy", parts)
    data = read(cifar10_block(parts, path), tmp_path / "data")
    assert data.test is not None
    np.testing.assert_array_equal(data.train.inputs, parts["train"])
    np.testing.assert_array_equal(data.train.labels, parts["train_labels"])
    np.testing.assert_array_equal(data.test.inputs, parts["test"])
    np.testing.assert_array_equal(data.test.labels, parts["test_labels"])
    assert data.train.labels.dtype == np.int64
    assert len(data.train) == 5 * PER_BATCH
    assert data.classes[3] == "cat"


def test_decoded_images_are_kept_and_a_damaged_cache_is_built_anew(fetched, tmp_path, monkeypatch):
    parts = tiny_cifar10()
    write_npm(fetched, parts)
    data = cifar10_block(parts)
    read(data, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(readers.cifar10_files, "from_npm", lambda _: 1 / 0)
        np.testing.assert_array_equal(read(data, tmp_path).train.inputs, parts["train"])
    [cached] = (tmp_path / "decoded").glob("*/train.npy")
    cached.write_bytes(cached.read_bytes()[:-1])
    np.testing.assert_array_equal(read(data, tmp_path).train.inputs, parts["train"])


def test_a_copy_with_other_images_is_refused_and_not_kept(tmp_path):
    parts = tiny_cifar10()
    changed = {**parts, "train": parts["train"].copy()}
    changed["train"][0, 0, 0, 0] ^= 1
    path = write_copy("folder", tmp_path / "copy", changed)
    with pytest.raises(
        UserError, match=r"other data .*train: expected sha256 .*whole copy"
    ) as said:
        read(cifar10_block(parts, path), tmp_path / "data")
    assert "delete" not in str(said.value)  # it is the user's
    assert not list((tmp_path / "data/decoded").glob("cifar10*"))


@pytest.mark.parametrize("form", ["npm", "folder", "archive", "hub"])
def test_a_damaged_copy_of_cifar10_is_named(form, fetched, tmp_path):
    parts = tiny_cifar10()
    if form == "npm":
        write_npm(fetched, parts)
        path, damaged = None, fetched / "package/data_batch_2.png"
    else:
        path = write_copy(form, tmp_path / "copy", parts)
        damaged = {
            "folder": path / "data_batch_2",
            "archive": path,
            "hub": path / "snapshots/abc/plain_text/train-00000-of-00001.parquet",
        }[form]
    damaged.write_bytes(damaged.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"task\.data\.path" if path else "delete") as refusal:
        read(cifar10_block(parts, path), tmp_path / "data")
    assert str(path or fetched) in str(refusal.value)
    assert ("delete" in str(refusal.value)) == (path is None)  # what is the user's stays


def test_a_path_without_cifar10_lists_what_it_takes(tmp_path):
    with pytest.raises(UserError, match=r"torchvision's .*parquet"):
        read(cifar10_block(tiny_cifar10(), tmp_path), tmp_path / "data")
    with pytest.raises(UserError, match="does not exist"):
        read(cifar10_block(tiny_cifar10(), tmp_path / "absent"), tmp_path / "data")


# Fashion-MNIST


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    # Without the time, which would give each test process other names of the tests with it.
    return gzip.compress(bytes([0, 0, kind, array.ndim]) + sizes + array.tobytes(), mtime=0)


def write_fashion_mnist(folder: Path) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    parts: dict[str, np.ndarray] = {}
    for split, prefix, count in (("train", "train", 4), ("test", "t10k", 2)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
        parts |= {split: images[..., None], f"{split}_labels": labels.astype(np.int64)}
    return parts


def test_fashion_mnist_is_read_from_idx_files(fetched, tmp_path):
    (fetched / "usr/share").mkdir(parents=True)
    parts = write_fashion_mnist(fetched / "usr/share")
    data = read(block("fashion_mnist", parts), tmp_path)
    assert data.test is not None
    assert np.shape(data.train.inputs) == (4, 28, 28, 1)
    np.testing.assert_array_equal(data.test.inputs, parts["test"])
    np.testing.assert_array_equal(data.test.labels, parts["test_labels"])
    assert data.classes[9] == "Ankle boot"


@pytest.mark.parametrize("gzipped", [False, True])
def test_mnist_is_read_from_idx_files_gzipped_or_not(fetched, tmp_path, gzipped):
    parts = write_fashion_mnist(fetched)
    for path in list(fetched.iterdir()) if not gzipped else []:
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    data = read(block("mnist", parts), tmp_path)
    np.testing.assert_array_equal(data.train.inputs, parts["train"])
    np.testing.assert_array_equal(data.train.labels, parts["train_labels"])
    assert data.classes[9] == "9"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (idx(np.zeros((4, 28, 28), np.uint8), kind=9), "no idx file of 3 dimensions"),
        (idx(np.zeros((4, 784), np.uint8)), "no idx file of 3 dimensions"),
        (
            gzip.compress(gzip.decompress(idx(np.zeros((4, 28, 28), np.uint8)))[:-1], mtime=0),
            "3135",
        ),
        (idx(np.zeros((4, 28, 28), np.uint8))[:-5], "cannot be read"),
        (b"no gzip at all", "cannot be read"),
    ],
)
def test_a_damaged_idx_file_is_named(fetched, tmp_path, content, complaint):
    parts = write_fashion_mnist(fetched)
    damaged = fetched / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=complaint) as refusal:
        read(block("fashion_mnist", parts), tmp_path)
    assert f"delete {damaged}" in str(refusal.value)


# Texts


def write_rated_texts(folder: Path, text: str, name: str = "movieReviewSnippets") -> None:
    content = text.encode()
    with tarfile.open(folder / "hutto_ICWSM_2014.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("movie_snippets", "movieReviewSnippets"),
        ("amazon_snippets", "amazonReviewSnippets"),
        ("tweets", "tweets"),
    ],
)
def test_rated_texts_drop_duplicates_and_ratings_of_zero(fetched, tmp_path, reader, name):
    rows = ["1\t1.5\tgood", "2\t-0.5\tbad ’s", "3\t0.0\tso so", "4\t2.5\tgood", "5\t0.1\tfine"]
    write_rated_texts(fetched, "".join(f"{row}\r\n" for row in rows), name)
    parts = {"train": ["good", "bad ’s", "fine"], "train_labels": np.array([1, 0, 1])}
    data = read(block(reader, parts), tmp_path)
    assert data.train.inputs == parts["train"]
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.test is None
    assert data.classes == ("negative", "positive")


@pytest.mark.parametrize("reader", ["tweets", "rotten_tomatoes", "newsgroups"])
def test_a_copy_that_a_reader_would_not_read_is_refused(fetched, tmp_path, reader):
    data = block(reader, {}).replaced(path=str(tmp_path))
    with pytest.raises(UserError, match=r"is not read, as .*: leave it out, or say task=own_texts"):
        read(data, tmp_path)


def test_a_damaged_archive_of_rated_texts_is_named(fetched, tmp_path):
    write_rated_texts(fetched, "1\tno number\tgood\n")
    parts = {"train": ["good"], "train_labels": np.array([1])}
    with pytest.raises(UserError, match=f"delete {fetched}"):
        read(block("movie_snippets", parts), tmp_path)


def test_rotten_tomatoes_drop_empty_and_repeated_texts(fetched, tmp_path):
    rows = [
        "category,text,movie_name,has_plot_and_reviews",
        'plot,"a man, a plan",one,False',
        "plot,,two,False",
        'fresh,"two\nlines ’s",one,True',
        'plot,"a man, a plan",one,True',
        "rotten,bad,one,True",
    ]
    table = fetched / "rotten_tomatoes_corpus_full.csv.bz2"
    table.write_bytes(bz2.compress("\n".join(rows).encode()))
    parts = {
        "train": ["a man, a plan", "two\nlines ’s", "bad"],
        "train_labels": np.array([1, 0, 2]),
    }
    data = read(block("rotten_tomatoes", parts), tmp_path)
    assert data.train.inputs == parts["train"]
    assert data.test is None
    assert data.classes == ("fresh", "plot", "rotten")
    table.write_bytes(table.read_bytes()[:-5])
    with pytest.raises(UserError, match=f"delete {table}"):
        read(block("rotten_tomatoes", parts), tmp_path)


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("newsgroups", "20newsgroups"),
        ("reuters_r8", "reuters-r8"),
        ("reuters_r52", "reuters-r52"),
    ],
)
def test_tab_files_give_sorted_classes_and_the_official_split(fetched, tmp_path, reader, name):
    header = "Category\tText\nd\tstring\nclass\t\n\n"
    (fetched / f"{name}-train.tab").write_text(f"{header}ship\ta boat \nacq\tbuys it\n")
    (fetched / f"{name}-test.tab").write_text(f"{header}ship\tsails\n")
    parts = {
        "train": ["a boat", "buys it"],
        "train_labels": np.array([1, 0]),
        "test": ["sails"],
        "test_labels": np.array([1]),
    }
    data = read(block(reader, parts), tmp_path)
    assert data.classes == ("acq", "ship")
    assert data.train.inputs == parts["train"]
    assert data.test is not None
    assert data.test.labels.tolist() == [1]


def test_an_unknown_reader_is_answered_with_the_closest_names(tmp_path):
    with pytest.raises(UserError, match="did you mean cifar10"):
        read(block("cifar100", {}), tmp_path)


def test_another_number_of_examples_than_promised_is_refused(fetched, tmp_path):
    parts = write_fashion_mnist(fetched)
    data = block("fashion_mnist", parts, examples={"train": 5})
    with pytest.raises(UserError, match="promises 5 train examples, there are 4"):
        read(data, tmp_path)


# Pickles, fingerprints, the cache


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_arrays_is_read(tmp_path, protocol):
    content = {"conv1": [np.arange(6.0, dtype=np.float32).reshape(2, 3), np.ones(3)]}
    (tmp_path / "arrays.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    got = read_numpy_pickle(tmp_path / "arrays.pkl")
    np.testing.assert_array_equal(got["conv1"][0], content["conv1"][0])


def test_an_old_pickle_of_arrays_is_read():
    old = pickle.dumps(np.arange(3), protocol=2).replace(b"numpy._core.", b"numpy.core.")
    assert read_numpy_pickle(io.BytesIO(old)).tolist() == [0, 1, 2]


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("content", [Evil(), [np.array([Evil()], dtype=object)], Path("a")])
def test_a_pickle_that_could_run_code_is_refused_unrun(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"evil\.pkl holds .*only numpy arrays"):
        read_numpy_pickle(tmp_path / "evil.pkl")
    assert not (tmp_path / "evil").exists()


def test_a_truncated_pickle_is_named(tmp_path):
    (tmp_path / "half.pkl").write_bytes(pickle.dumps(np.ones(100))[:-50])
    with pytest.raises(ValueError, match=r"half\.pkl is damaged"):
        read_numpy_pickle(tmp_path / "half.pkl")


def test_the_checksum_of_an_array_is_that_of_its_bytes():
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert sha256_of(array) == hashlib.sha256(array.tobytes()).hexdigest()
    assert sha256_of(array.T) == hashlib.sha256(array.T.tobytes()).hexdigest()


def test_a_fingerprint_tells_all_differences_apart():
    array = np.arange(4, dtype=np.int64)
    different: list[tuple[Any, ...]] = [
        (array,),
        (array.reshape(2, 2),),
        (array.astype(np.uint64),),
        (array, array),
        (["ab", "c"],),
        (["a", "bc"],),
        (["a", "bc", ""],),
        (["ab"], ["c"]),
    ]
    assert len({fingerprint(*parts) for parts in different}) == len(different)
    assert fingerprint(array, ["a"]) == fingerprint(array.copy(), ["a"])


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot use the folder"):
        cached_arrays(tmp_path / "file/decoded", lambda: {"a": np.ones(1)}, "decode")


# The real data

TASKS = ("cifar", "fashion_mnist", "mnist", "movies", "tweets", "amazon", "rotten_tomatoes")
TASKS += ("newsgroups", "reuters_r8", "reuters_r52")
MODELS = ("efficientnet_lite0", "mobilenetv2", "squeezenet", "minilm")


def real(kind: type, group: str, name: str, key: str):
    """The yaml's block; skips the test where its source is not fetched."""
    block = kind.parse(read_yaml(config.CONFIGS / group / f"{name}.yaml")[key])
    if not is_fetched(block.archive, default_data_dir()):
        pytest.skip("run make prepare")
    return block


@pytest.mark.real_data
@pytest.mark.parametrize("task", TASKS)
def test_real_data_is_what_its_yaml_pins(task):
    data = read(real(DataSpec, "task", task, "data"), default_data_dir())
    assert set(np.unique(data.train.labels)) == set(range(len(data.classes)))
    assert len(data.train.inputs) == len(data.train)


@pytest.mark.real_data
def test_real_cifar10_loads_in_a_moment_and_begins_as_it_should():
    block = real(DataSpec, "task", "cifar", "data")
    read(block, default_data_dir())
    begun = time.process_time()  # another job on this machine must not fail the test
    data = read(block, default_data_dir())
    assert time.process_time() - begun < 0.5
    assert data.train.labels[:5].tolist() == [6, 9, 9, 4, 1]


@pytest.mark.real_data
@pytest.mark.parametrize("form", ["folder", pytest.param("hub", marks=LONG_ONLY)])
def test_real_cifar10_is_the_same_from_another_form(form, tmp_path):
    block = real(DataSpec, "task", "cifar", "data")
    parts = from_npm(default_data_dir() / "sources" / block.archive.folder)
    path = write_copy(form, tmp_path / "copy", parts)
    data = read(block.replaced(path=str(path)), tmp_path / "data")
    assert sha256_of(np.asarray(data.train.inputs)) == block.sha256["train"]


@pytest.mark.real_data
@pytest.mark.parametrize("model", MODELS)
def test_real_weights_are_where_their_yaml_says(model):
    weights = real(WeightsSpec, "model", model, "weights")
    folder = default_data_dir() / "sources" / weights.archive.folder
    assert (folder / weights.file).exists()
    if model == "squeezenet":
        assert read_numpy_pickle(folder / weights.file)["conv1"][0].shape == (3, 3, 3, 64)


def same_texts(texts) -> set[str]:
    """The texts, of which those are one that have the same lower-cased letters and digits."""
    return {re.sub("[^a-z0-9]+", " ", text.lower()).strip() for text in texts}


@pytest.mark.real_data
def test_two_pairs_of_data_sets_share_their_texts():
    """docs/protocol.md."""
    names = ("movies", "rotten_tomatoes", "reuters_r8", "reuters_r52")
    movies, tomatoes, r8, r52 = (
        read(real(DataSpec, "task", name, "data"), default_data_dir()) for name in names
    )
    shared = same_texts(movies.train.inputs) & same_texts(tomatoes.train.inputs)
    assert len(shared) == 10_255 and len(movies.train) == 10_566
    for part in ("train", "test"):
        small, large = (getattr(data, part).inputs for data in (r8, r52))
        assert same_texts(small) <= same_texts(large)


@pytest.mark.real_data
@pytest.mark.parametrize("task", ["probe_tweets", *TASKS])
def test_few_test_texts_and_no_test_image_are_also_for_training(task):
    """docs/protocol.md."""
    data = real(DataSpec, "task", task.removeprefix("probe_"), "data")
    train = config.load([f"task={task}", "opt=dog"]).spec.train
    parts = split_up(read(data, default_data_dir()), train, task)
    known, asked = (list(parts[part].inputs) for part in ("train", "test"))
    if isinstance(known[0], str):
        known_texts = same_texts(known)
        found = sum(same_texts([text]) <= known_texts for text in asked)
    else:
        known_images = {image.tobytes() for image in known}
        found = sum(image.tobytes() in known_images for image in asked)
    expected = {"tweets": (38, 839), "probe_tweets": (32, 839)}
    if task in expected:
        assert (found, len(asked)) == expected[task]
    elif isinstance(known[0], str):
        assert found <= 0.003 * len(asked)
    else:
        assert found == 0
