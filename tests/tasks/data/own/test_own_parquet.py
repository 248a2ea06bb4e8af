"""A user's Parquet files, what datasets saved, and data sets of the hub, from local copies."""

import hashlib
import os
import shutil

import huggingface_hub
import numpy as np
import pyarrow
import pytest
from photos import COLOURS, encoded, photo
from pyarrow import parquet
from reviews import pairs_of, reviews

from runner import config
from runner.run import Job
from tasks.data.own import text_files
from tasks.errors import UserError


def table(rows=None, names=None):
    """Rows as a datasets.Dataset, with names of classes if they have any."""
    from datasets import ClassLabel, Dataset, Features, Value

    rows = reviews() if rows is None else rows
    texts, labels = zip(*rows, strict=True)
    kind = ClassLabel(names=names) if names else Value("string")
    return Dataset.from_dict(
        {"text": texts, "label": labels}, Features({"text": Value("large_string"), "label": kind})
    )


NAMED = [(text, int(label == "good")) for text, label in reviews()]


def test_parquet_has_the_names_of_classes(tmp_path, look):
    table(NAMED, ["bad", "good"]).to_parquet(tmp_path / "films.parquet")
    found = look(tmp_path / "films.parquet")
    assert pairs_of(found) == set(reviews()) and found.classes == ("bad", "good")


@pytest.mark.parametrize("kind", [pyarrow.float32(), pyarrow.float64()])
def test_classes_of_short_floats_are_called_as_they_were_written(kind, tmp_path, look):
    texts, numbers = [text for text, _ in reviews()], [0.1, 0.25, None] * 20
    labels = pyarrow.array(np.array(numbers, dtype=kind.to_pandas_dtype()), kind, from_pandas=True)
    parquet.write_table(pyarrow.table({"text": texts, "score": labels}), tmp_path / "films.parquet")
    found = look(tmp_path / "films.parquet")
    assert found.classes == ("0.1", "0.25") and found.left_out[0].why == "without a label"


def test_parquet_files_with_parts_of_their_own(tmp_path, look):
    for name, first in (("train-00000-of-00002", 0), ("train-00001-of-00002", 60), ("test", 120)):
        (tmp_path / "films/data").mkdir(parents=True, exist_ok=True)
        table(reviews(first=first)).to_parquet(tmp_path / f"films/data/{name}.parquet")
    found = look(tmp_path / "films")
    assert set(found.part("test").inputs) == {text for text, _ in reviews(first=120)}
    both = {*found.part("train").inputs, *found.part("validation").inputs}
    assert both == {text for text, _ in reviews(120)}
    assert found.guessed[0] == "parts by the files' names: test, train"


def test_secret_labels_of_a_test_part_are_left_out(tmp_path, look):
    (tmp_path / "films").mkdir()
    table(NAMED, ["bad", "good"]).to_parquet(tmp_path / "films/train.parquet")
    secret = [(f"secret {n}", -1) for n in range(30)]
    table(secret, ["bad", "good"]).to_parquet(tmp_path / "films/test.parquet")
    found = look(tmp_path / "films")
    assert found.left_out[0].count == 30 and found.left_out[0].why == "without a label"
    assert len(found.part("test").inputs) > 4 and pairs_of(found) == set(reviews())


@pytest.mark.parametrize("form", ["files", "saved"])
def test_classes_that_two_parts_number_otherwise_are_refused(form, tmp_path, look):
    from datasets import DatasetDict

    other = [("a fine film", 0), ("a bad film", 1)]
    parts = {"train": table(NAMED, ["bad", "good"]), "test": table(other, ["good", "bad"])}
    if form == "saved":
        DatasetDict(parts).save_to_disk(tmp_path / "films")
    else:
        (tmp_path / "films").mkdir()
        for name, rows in parts.items():
            rows.to_parquet(tmp_path / f"films/{name}.parquet")
    with pytest.raises(UserError, match="label numbers its classes otherwise than another file or"):
        look(tmp_path / "films")


@pytest.mark.parametrize("parts", [True, False])
def test_what_datasets_saved(parts, tmp_path, look):
    from datasets import DatasetDict

    saved = table(NAMED, ["bad", "good"])
    if parts:
        other = table([("else", 0), ("other", 1)], ["bad", "good"])
        saved = DatasetDict(train=saved, validation=other, unsupervised=other)
    saved.save_to_disk(tmp_path / "films")
    found = look(tmp_path / "films")
    assert found.classes == ("bad", "good")
    if parts:
        assert set(found.part("validation").inputs) == {"else", "other"}
        assert str(found.left_out[0]).endswith("is not train, validation or test: unsupervised")
    else:
        assert pairs_of(found) == set(reviews())
    (tmp_path / ("films/train" if parts else "films") / "state.json").write_text("{")
    with pytest.raises(UserError, match="is no whole copy of what datasets saved"):
        look(tmp_path / "films")


def test_images_in_parquet(tmp_path, look):
    kinds = [kind for kind in COLOURS for _ in range(12)]
    images = [{"bytes": encoded(photo(k, n)), "path": None} for n, k in enumerate(kinds)]
    images[3]["bytes"] = None
    parquet.write_table(pyarrow.table({"image": images, "label": kinds}), tmp_path / "a.parquet")
    found = look(tmp_path / "a.parquet")
    assert found.kind == "images" and found.classes == tuple(COLOURS)
    assert str(found.left_out[0]) == "1 row without an image: row 4"
    assert found.overrides == [
        *("task=own_images", f"task.data.path={tmp_path}/a.parquet", "task.data.label=label"),
    ]
    for image, label in zip(found.part("test").inputs, found.part("test").labels, strict=True):
        assert image.mean((0, 1)).argmax() == label
    with pytest.raises(UserError, match="no task learns a number, label, from images"):
        parquet.write_table(
            pyarrow.table({"image": images, "label": [n / 7 for n in range(36)]}),
            tmp_path / "b.parquet",
        )
        look(tmp_path / "b.parquet")


@pytest.mark.parametrize("form", ["dictionary", "plain"])
def test_parquet_that_unpacks_to_more_than_fits_is_refused(form, tmp_path, look, monkeypatch):
    monkeypatch.setattr(text_files, "MOST_BYTES", 2**24)
    texts = ["a" * 2**15] * 2000
    rows = pyarrow.table({"text": texts, "label": ["x", "y"] * 1000})
    path = tmp_path / "bomb.parquet"
    parquet.write_table(rows, path, compression="zstd", use_dictionary=form == "dictionary")
    assert path.stat().st_size < 2**17
    if form == "plain":  # it is refused before anything is unpacked
        monkeypatch.setattr(parquet.ParquetFile, "iter_batches", None)
    with pytest.raises(UserError, match=r"bomb.parquet holds more than 16.8 MB when unpacked"):
        look(path)


def test_damaged_parquet(tmp_path, look):
    table().to_parquet(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:-20])
    with pytest.raises(UserError, match=r"a\.parquet is damaged"):
        look(tmp_path / "a.parquet")
    texts = pyarrow.array([b"\xff"] * 30).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": texts, "label": ["x"] * 30}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet is damaged"):
        look(tmp_path / "b.parquet")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The hub's own cache with a data set of two configurations, without a network."""
    storage = tmp_path / "cache/datasets--me--films"
    snapshot = storage / "snapshots" / ("c" * 40)
    for name in ("short", "long"):
        for part, first in (("train", 0), ("test", 60)):
            rows = [(f"{name} {text}", label) for text, label in reviews(first=first)]
            blob = storage / "blobs" / hashlib.sha256(f"{name}{part}".encode()).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            table(rows).to_parquet(blob)
            link = snapshot / name / f"{part}-00000-of-00001.parquet"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    (storage / "refs").mkdir()
    (storage / "refs/main").write_text("c" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return snapshot


def test_data_set_of_the_hub_by_name(repository, tmp_path, look):
    with pytest.raises(UserError, match="several data sets: say me/films/NAME, one of long, short"):
        look("me/films")
    found = look("me/films/short")
    assert set(found.part("test").inputs) == {f"short {text}" for text, _ in reviews(first=60)}
    assert found.describe()[0].startswith("me/films/short: texts, classification")
    shutil.rmtree(tmp_path / "cache")
    again = look(found.overrides[1].partition("=")[2])  # as a run reads it
    assert again.digest == found.digest and pairs_of(again) == pairs_of(found)


def test_data_of_the_hub_by_name_are_told_apart_by_their_content(repository, tmp_path):
    def run_id(path):
        words = ["task=own_texts", f"task.data.path={path}", f"data_dir={tmp_path}/data"]
        return Job.of(config.load(words)).spec.run_id

    first = run_id("me/films/short")
    assert run_id(repository / "short") == first != run_id("me/films/long")
    blob = (repository / "short/train-00000-of-00001.parquet").resolve()
    blob.unlink()
    table(reviews(first=30)).to_parquet(blob)
    assert run_id("me/films/short") == first  # what was fetched stays
    shutil.rmtree(tmp_path / "data")
    assert run_id("me/films/short") != first


def test_snapshot_of_the_hubs_cache_is_a_folder_like_others(repository, look):
    assert len(look(repository / "long").part("test").inputs) == 60


def test_hub_out_of_reach(look, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(UserError, match=r"me/nothing is no file or folder here, and as a data set"):
        look("me/nothing")
