"""Every loader of the paper's vision tasks, on small copies in the originals' own formats.

The md5 that torchvision pins is set aside, and the numbers that the yamls promise are replaced; all
else is what reads the originals.
"""

import csv
import errno
import hashlib
import os
import re
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import with_changes
from image_copies import (
    WRITERS,
    picture,
    write_caltech101,
    write_cifar100,
    write_clevr_dist,
    write_dsprites_ori,
    write_hub,
    write_retinopathy,
    write_svhn,
)
from PIL import Image

from analysis.paper.names import VISION
from runner import config
from runner.batches import TrainBatches, iterate_batches
from runner.run import build_task
from tasks.data import cache
from tasks.data.images import Images
from tasks.data.local_copies import whole
from tasks.data.readers import Examples, read
from tasks.data.retinopathy import Fundus, prepared
from tasks.data.specs import DataSpec
from tasks.data.tfds import cut, stored_order
from tasks.data.vtab import distance_class, orientation_class
from tasks.errors import UserError

PAPER = Path(config.ROOT) / "results" / "paper"
OURS = {theirs: ours for ours, theirs in VISION.items()}


@pytest.fixture(autouse=True)
def _any_md5(monkeypatch):
    """torchvision takes these small copies for the originals."""
    from torchvision.datasets import cifar, flowers102, svhn

    for module in (cifar, flowers102, svhn):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).exists())


def task_of(name, copy, tmp_path, counts=None, *overrides):
    """The task, by its yaml under the paper's protocol, on a copy of so many examples."""
    words = [f"task={name}", "protocol=paper", f"task.data.path={copy}", f"data_dir={tmp_path}/d"]
    loaded = config.load([*words, "train.image_size=32", *overrides])
    if counts:
        parts = zip(("train", "validation", "test"), counts, strict=True)
        promised = {part: n for part, n in parts if part in loaded.spec.task.data.examples}
        loaded = with_changes(loaded, {"task.data.examples": promised})
    return build_task(loaded)


@pytest.mark.parametrize("name", WRITERS)
def test_a_local_copy_is_read_split_and_trained_on(name, tmp_path):
    counts = WRITERS[name](tmp_path / "copy")
    task = task_of(name, tmp_path / "copy", tmp_path, counts)
    assert tuple(len(task.splits[part]) for part in ("train", "validation", "test")) == counts
    indices = torch.tensor([2, 0])
    images, labels = task.batch("train", indices, torch.Generator().manual_seed(0))
    assert images.shape == (2, 3, 32, 32) and images.isfinite().all()
    assert labels.tolist() == task.splits["train"].labels[[2, 0]].tolist()
    assert task.batch("test", torch.arange(3))[0].shape == (3, 3, 32, 32)
    for part in ("train", "validation", "test"):
        labels = task.splits[part].labels
        assert labels.dtype == np.int64
        assert labels.min() >= 0 and labels.max() < len(task.classes)
    again = task_of(name, tmp_path / "copy", tmp_path, counts)
    assert again.splits["train"].labels.tolist() == task.splits["train"].labels.tolist()


@pytest.mark.parametrize("name", WRITERS)
def test_a_copy_that_is_smaller_than_the_original_is_refused(name, tmp_path):
    WRITERS[name](tmp_path / "copy")
    with pytest.raises(UserError, match=r"promises \d+ (train examples|images)") as refusal:
        task_of(name, tmp_path / "copy", tmp_path)
    assert "\n" not in str(refusal.value) and "give a whole copy" in str(refusal.value)


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_folder_is_answered_with_what_to_put_there(name, tmp_path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(UserError) as refusal:
        task_of(name, tmp_path / "copy", tmp_path)
    assert "\n" not in str(refusal.value)
    assert str(tmp_path / "copy") in str(refusal.value)
    advice = str(refusal.value).replace(str(tmp_path), "")
    assert re.search(r"give a whole copy|put it there|^get .* into|copy .* to a folder", advice)


@pytest.mark.parametrize("name", ["resisc45", "retinopathy", "imagenet"])
def test_what_cannot_be_fetched_says_what_to_put_where(name, tmp_path):
    with pytest.raises(UserError, match=r"get .* into .*, or say task\.data\.path=FOLDER") as said:
        build_task(config.load([f"task={name}", f"data_dir={tmp_path}"]))
    assert str(tmp_path / "manual" / name) in str(said.value)


@pytest.mark.parametrize("name", ["cifar100", "dmlab", "dsprites_ori", "resisc45"])
def test_a_probe_names_its_own_key(name, tmp_path):
    copy = f"task.source.data.path={tmp_path}/none"
    with pytest.raises(UserError, match=r"task\.source\.data\.path") as said:
        build_task(config.load([f"task=probe_{name}", copy, f"data_dir={tmp_path}"]))
    assert "task.data.path" not in str(said.value)


def test_imagenet_is_unpacked_whole_or_not_at_all_into_another_folder(tmp_path, monkeypatch):
    from torchvision.datasets import imagenet

    def unpack(part, stops, root):
        assert (Path(root) / "ILSVRC2012_img.tar").read_text() == "archive"
        picture(Path(root) / part / "n01" / f"{part}.JPEG")
        if stops:
            raise KeyboardInterrupt

    def archives(stops):
        monkeypatch.setattr(imagenet, "parse_devkit_archive", lambda root: None)
        monkeypatch.setattr(imagenet, "load_meta_file", lambda root: ({"n01": ("cat",)}, []))
        for part in ("train", "val"):
            stand_in = partial(unpack, part, stops == part)
            monkeypatch.setattr(imagenet, f"parse_{part}_archive", stand_in)

    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "ILSVRC2012_img.tar").write_text("archive")
    for part in ("train", "val"):
        archives(stops=part)
        with pytest.raises(KeyboardInterrupt):
            task_of("imagenet", copy, tmp_path, (1, 1, 1))
        assert not list((tmp_path / "unpacked").glob(f"**/{part}/*"))
    archives(stops=None)
    task = task_of("imagenet", copy, tmp_path, (1, 1, 1))
    assert len(task.splits["test"]) == 1
    # What names the run is the same before and after.
    assert [path.name for path in copy.iterdir()] == ["ILSVRC2012_img.tar"]
    assert (copy / "ILSVRC2012_img.tar").read_text() == "archive"


@pytest.mark.parametrize("name", ["cifar100", "dsprites_ori"])
def test_a_download_that_fails_is_one_line_and_leaves_nothing(name, tmp_path, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no network\nat all")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(UserError, match=r"no network.*task\.data\.path=FOLDER") as refusal:
        build_task(config.load([f"task={name}", f"data_dir={tmp_path}"]))
    assert "\n" not in str(refusal.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_what_torchvision_fetched_once_is_not_fetched_again(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    def download(self):
        if not Path(self.root, self.base_folder).exists():
            write_cifar100(Path(self.root))
        fetched.append(self.root)

    fetched: list[str] = []
    monkeypatch.setattr(CIFAR100, "download", download)
    data = config.load(["task=cifar100"]).spec.task.data.replaced(examples={"train": 27})
    first, again = (read(data, tmp_path) for _ in range(2))
    assert len(fetched) == 2  # its two parts
    assert first.origin == again.origin == "torchvision.datasets.CIFAR100"


@pytest.mark.parametrize("row", csv.DictReader((PAPER / "vtab_splits.csv").open()), ids=str)
def test_numbers_of_examples_and_classes_are_the_papers(row):
    task = config.load([f"task={OURS[row['task']]}"]).spec.task
    promised = task.data.examples
    expected = [int(row[part]) for part in ("train", "val", "test")]
    assert [promised[part] for part in ("train", "validation", "test")] == expected
    assert task.classes == int(row["classes"])


@pytest.mark.parametrize("row", csv.DictReader((PAPER / "vtab_splits.csv").open()), ids=str)
def test_augmentation_is_that_of_the_papers_group(row):
    augment = config.load([f"task={OURS[row['task']]}", "protocol=paper"]).spec.train.augment
    group = {"natural": "natural", "specialized": "crop", "structured": "flip"}[row["aug_group"]]
    special = {"SVHN": "natural_unflipped", "dSprites-Ori": "none"}
    assert augment == special.get(row["task"], group)


# Orders and labels, by hand


def test_the_order_is_by_md5_of_the_parts_name_and_the_key():
    # printf traina.jpg | md5sum: c9008f..., trainb.jpg: 0f91c7..., trainc.jpg: 2fb774...
    assert stored_order(["a.jpg", "b.jpg", "c.jpg"]).tolist() == [1, 2, 0]
    # train0: 9318f9..., train1: bc4e69..., train2: ec322a..., train3: b0c1c5...
    assert stored_order(range(4)).tolist() == [0, 3, 1, 2]
    assert stored_order(range(50)).tolist() == stored_order(map(str, range(50))).tolist()
    assert stored_order(range(50)).tolist() != stored_order(range(50), "test").tolist()


def test_parts_are_cut_at_percents_of_that_order():
    examples = Examples(np.arange(73257), np.arange(73257))
    first, rest = cut(examples, range(73257), 90)
    assert (len(first), len(rest)) == (65931, 7326)  # SVHN's, by vtab_splits.csv
    assert set(first.labels.tolist()) == set(stored_order(range(73257))[:65931].tolist())
    assert first.inputs.tolist() == first.labels.tolist() == sorted(first.labels.tolist())


def test_caltechs_draw_is_that_of_the_seed_in_the_order_of_names(tmp_path):
    counts = write_caltech101(tmp_path / "copy")
    task = task_of("caltech101", tmp_path / "copy", tmp_path, counts)
    inputs = {part: examples.inputs for part, examples in task.splits.items()}
    random = np.random.RandomState(1234)
    drawn = set()
    for name, count in (("BACKGROUND_Google", 33), ("Faces", 30), ("wrench", 31)):
        files = [f"image_{number:04d}.jpg" for number in range(1, count + 1)]
        drawn |= {f"{name}/{file}" for file in random.choice(files, 30, replace=False)}
    assert set(inputs["train"].items) | set(inputs["validation"].items) == drawn
    assert not drawn & set(inputs["test"].items)
    assert task.classes == ("BACKGROUND_Google", "Faces", "wrench")


@pytest.mark.parametrize(
    ("depths", "label"),
    [([7.9], 0), ([8.0], 0), ([8.01, 20], 1), ([9, 8.6], 2), ([9.25], 3), ([9.9], 4), ([11], 5)],
)
def test_clevrs_class_is_the_last_threshold_below_the_nearest_depth(depths, label):
    scene = {"objects": [{"pixel_coords": [0, 0, depth]} for depth in depths]}
    assert distance_class(scene) == label


def test_dsprites_orientations_fall_into_classes_of_two_and_three():
    labels = orientation_class(np.arange(40))
    assert labels[:11].tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4]
    assert np.bincount(labels).tolist() == [3, 2] * 8
    floors = np.floor_divide(np.arange(40, dtype=np.float32), 40 / 16)  # VTAB's words
    assert labels.tolist() == floors.tolist()


def test_svhns_tenth_class_is_the_digit_0(tmp_path):
    task = task_of("svhn", tmp_path / "copy", tmp_path, write_svhn(tmp_path / "copy"))
    assert task.splits["test"].labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


# Images that are decoded when asked for


def test_hub_images_come_out_as_they_went_in(tmp_path):
    counts = write_hub(tmp_path / "copy")
    task = task_of("dmlab", tmp_path / "copy", tmp_path, counts, "model=wrn28_10")
    images = task.splits["train"].inputs
    assert isinstance(images, Images)
    for index, image in enumerate(images):
        original = Image.open(tmp_path / f"copy/originals/train{index}.png")
        np.testing.assert_array_equal(image, np.array(original))
    assert task.fingerprints()["data_revision"] == "local copy"


def test_hub_images_or_labels_that_are_missing_are_one_line(tmp_path):
    from datasets import Dataset

    counts = write_hub(tmp_path / "whole")
    file = tmp_path / "whole/data/test-00000-of-00001.parquet"
    whole_table = Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    for column, value, said in (
        ("image", None, "1 images of test are missing"),
        ("label", None, "the label in row 0 is None"),
        ("label", -1, "the test part cannot be used, as the label in row 0 is -1"),
    ):
        rows = {name: whole_table[name][:] for name in whole_table.features}
        rows[column][0] = value
        Dataset.from_dict(rows, whole_table.features).to_parquet(file)
        with pytest.raises(UserError, match=said) as refusal:
            task_of("dmlab", tmp_path / "whole", tmp_path, counts)
        assert "\n" not in str(refusal.value)


def test_a_missing_image_is_named_before_training(tmp_path):
    counts = write_clevr_dist(tmp_path / "copy")
    task = task_of("clevr_dist", tmp_path / "copy", tmp_path, counts)
    (tmp_path / "copy/clevr/CLEVR_v1.0/images/val/CLEVR_val_000001.png").unlink()
    with pytest.raises(UserError, match=r"CLEVR_val_000001\.png cannot be read .*put a whole copy"):
        task.fingerprints()


def test_a_grade_that_is_missing_is_one_line(tmp_path):
    counts = write_retinopathy(tmp_path / "copy")
    solution = tmp_path / "copy/retinopathy_solution.csv"
    solution.write_text(solution.read_text().replace("0_left,0,Private", "0_left,,Private"))
    with pytest.raises(UserError, match=r"no whole copy of Kaggle's files .*NaN"):
        task_of("retinopathy", tmp_path / "copy", tmp_path, counts)


def test_clevrs_images_are_their_files(tmp_path):
    counts = write_clevr_dist(tmp_path / "copy")
    task = task_of("clevr_dist", tmp_path / "copy", tmp_path, counts)
    images = task.splits["test"].inputs
    file = tmp_path / "copy/clevr/CLEVR_v1.0/images/val/CLEVR_val_000001.png"
    np.testing.assert_array_equal(images[1], np.array(Image.open(file)))
    assert task.splits["test"].labels.tolist() == [0, 1, 2, 3]  # depths 7.75, 8.25, 8.75, 9.25


def test_sprites_are_white_on_black_and_keep_their_pixels(tmp_path):
    counts = write_dsprites_ori(tmp_path / "copy")
    task = task_of("dsprites_ori", tmp_path / "copy", tmp_path, counts)
    with np.load(next((tmp_path / "copy").iterdir())) as arrays:
        originals = arrays["imgs"]
    images = task.splits["validation"].inputs
    for row, image in zip(images.items, images, strict=True):
        np.testing.assert_array_equal(image[..., 0], originals[row] * 255)


def test_images_fingerprint_changes_with_a_files_size_and_reads_none(tmp_path):
    counts = write_clevr_dist(tmp_path / "copy")
    task = task_of("clevr_dist", tmp_path / "copy", tmp_path, counts, "model=wrn28_10")
    first = task.fingerprints()
    file = tmp_path / "copy/clevr/CLEVR_v1.0/images/val/CLEVR_val_000001.png"
    file.write_bytes(bytes(file.stat().st_size))  # no image any more, as large as before
    assert task.fingerprints() == first
    file.write_bytes(b"short")
    changed = task.fingerprints()
    assert changed["test"] != first["test"] and changed["train"] == first["train"]


def test_a_damaged_image_is_named(tmp_path):
    counts = write_clevr_dist(tmp_path / "copy")
    task = task_of("clevr_dist", tmp_path / "copy", tmp_path, counts)
    file = tmp_path / "copy/clevr/CLEVR_v1.0/images/val/CLEVR_val_000001.png"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"CLEVR_val_000001\.png is no whole image"):
        task.batch("test", torch.arange(4))


def sprites_of_copy(tmp_path):
    """The yaml's data block for a small copy of dSprites, and its file's name and content."""
    counts = write_dsprites_ori(tmp_path / "copy")
    (file,) = (tmp_path / "copy").iterdir()
    content = file.read_bytes()
    data = config.load(["task=dsprites_ori"]).spec.task.data.replaced(
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        examples=dict(zip(("train", "validation", "test"), counts, strict=True)),
    )
    return data, file.name, content


@pytest.mark.parametrize("end", [0.5, 0.98], ids=["half", "nearly all"])
def test_another_file_at_the_address_is_refused_and_not_kept(end, tmp_path, monkeypatch):
    data, name, content = sprites_of_copy(tmp_path)
    given = [content, content[: int(end * len(content))]]

    def download(url, folder):
        (Path(folder) / name).write_bytes(given.pop())

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", download)
    with pytest.raises(UserError, match=f"its md5 is .* the yaml pins {data.md5}") as said:
        read(data, tmp_path / "d")
    assert "\n" not in str(said.value) and not list((tmp_path / "d").rglob("*.npz"))
    assert len(read(data, tmp_path / "d").train) == 64


def test_what_was_fetched_from_another_address_is_not_taken_for_it(tmp_path, monkeypatch):
    data, name, content = sprites_of_copy(tmp_path)
    asked = []

    def download(url, folder):
        asked.append(url)
        (Path(folder) / name).write_bytes(content)

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", download)
    branch = data.replaced(url=data.url.replace("fa310c66517cfc1939d77fe17c725154efc97127", "b"))
    for each in (branch, data, data):
        assert read(each, tmp_path / "d").origin == each.url
    assert asked == [branch.url, data.url]


def test_sprites_of_another_file_of_the_same_name_and_size_are_other_sprites(tmp_path):
    data, name, _ = sprites_of_copy(tmp_path)
    images = []
    for number in range(2):
        copy = tmp_path / str(number)
        copy.mkdir()
        with np.load(tmp_path / "copy" / name) as arrays:
            imgs = 1 - arrays["imgs"] if number else arrays["imgs"]
            np.savez(copy / name, imgs=imgs, latents_classes=arrays["latents_classes"])
        images.append(read(data.replaced(path=str(copy)), tmp_path / "d").train.inputs)
    assert (tmp_path / "0" / name).stat().st_size == (tmp_path / "1" / name).stat().st_size
    np.testing.assert_array_equal(images[0][3], 255 - images[1][3])
    assert images[0].identity() != images[1].identity()


def test_an_archive_cut_short_in_the_users_folder_is_theirs_to_mend(tmp_path):
    data, name, content = sprites_of_copy(tmp_path)
    (tmp_path / "copy" / name).write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"no whole copy of dSprites .*: give a whole copy$"):
        read(data.replaced(path=str(tmp_path / "copy")), tmp_path / "d")


@pytest.mark.parametrize("own", [True, False])
def test_only_what_was_fetched_may_be_deleted(own, tmp_path):
    data = DataSpec.model_construct(path=str(tmp_path) if own else None)
    with pytest.raises(UserError) as broken, whole(data, tmp_path, "DTD"):
        raise ValueError("no number")
    assert str(broken.value).endswith("copy" if own else "run the same command again")
    assert ("delete" in str(broken.value)) != own
    with pytest.raises(UserError) as refused, whole(data, tmp_path, "DTD"):
        raise PermissionError(errno.EACCES, "Permission denied", "some/file")
    assert "some/file" in str(refused.value) and "delete" not in str(refused.value)
    with pytest.raises(AttributeError), whole(data, tmp_path, "DTD"):  # a fault of the program
        raise AttributeError("no such attribute")


LOST = {
    "cifar100": "cifar-100-python/test",
    "svhn": "test_32x32.mat",
    "dtd": "dtd/dtd/labels/val1.txt",
    "pets": "oxford-iiit-pet/annotations/test.txt",
    "clevr_dist": "clevr/CLEVR_v1.0/scenes/CLEVR_train_scenes.json",
    "retinopathy": "retinopathy_solution.csv",
}
BROKEN = [(name, "absent") for name in LOST]
BROKEN += [(name, "empty") for name in LOST if name not in ("cifar100", "svhn")]  # whose md5 tells


@pytest.mark.parametrize(("name", "how"), BROKEN)
def test_a_copy_that_lacks_a_file_is_named(name, how, tmp_path):
    lost = tmp_path / "copy" / LOST[name]
    counts = WRITERS[name](tmp_path / "copy")
    lost.unlink()
    if how == "empty":
        lost.touch()
    with pytest.raises(UserError) as refusal:
        task_of(name, tmp_path / "copy", tmp_path, counts)
    assert "\n" not in str(refusal.value)
    if how == "absent":
        assert str(tmp_path / "copy") in str(refusal.value)


def test_processes_that_prepare_batches_give_the_same(tmp_path):
    for name in ("dmlab", "dtd"):
        counts = WRITERS[name](tmp_path / name)
        task = task_of(name, tmp_path / name, tmp_path, counts)
        batches = TrainBatches(task, 3, seeds=[0])
        alone, helped = (list(iterate_batches(batches, range(2), workers)) for workers in (0, 2))
        torch.testing.assert_close(alone, helped, rtol=0, atol=0)


def test_photographs_of_eyes_are_prepared_once(tmp_path):
    counts = write_retinopathy(tmp_path / "copy")
    task = task_of("retinopathy", tmp_path / "copy", tmp_path, counts)
    first = task.batch("train", torch.arange(4))[0]
    made = sorted((tmp_path / "d/decoded/btgraham-300/train").iterdir())
    assert [file.name.split(".")[0] for file in made] == [f"{i}_left" for i in range(4)]
    times = [file.stat().st_mtime_ns for file in made]
    assert torch.equal(task.batch("train", torch.arange(4))[0], first)
    assert [file.stat().st_mtime_ns for file in made] == times


def test_a_photograph_of_another_copy_is_prepared_anew_and_all_may_read_it(tmp_path):
    decode = Fundus(tmp_path / "copy", tmp_path / "prepared")
    for height in (20, 40):
        picture(tmp_path / "copy/train/1_left.jpeg", height, 30)
        original = np.array(Image.open(tmp_path / "copy/train/1_left.jpeg"))
        expected = prepared(original)
        assert decode("train/1_left.jpeg").shape == expected.shape
    umask = os.umask(0o022)
    os.umask(umask)
    for file in (tmp_path / "prepared/train").iterdir():
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_photograph_of_other_content_or_by_other_libraries_is_prepared_anew(
    tmp_path, monkeypatch
):
    name = "train/1_left.jpeg"
    file = tmp_path / "copy" / name
    contents, images = [], []
    for _ in range(2):
        picture(file, 20, 30)
        contents.append(file.read_bytes())
    for content in contents:  # a JPEG may be followed by anything: both have one size, one time
        file.write_bytes(content.ljust(max(map(len, contents)), b"\0"))
        os.utime(file, ns=(0, 0))
        images.append(Fundus(tmp_path / "copy", tmp_path / "prepared")(name))
    assert not np.array_equal(*images)
    monkeypatch.setattr(cache, "installed_version", lambda package: "0.0")
    Fundus(tmp_path / "copy", tmp_path / "prepared")(name)
    assert len(list((tmp_path / "prepared").rglob("*.jpeg"))) == 3


def test_an_eye_gets_the_radius_300_and_grey_surroundings():
    rows, columns = np.mgrid[:400, :600]
    inside = (rows - 200) ** 2 + (columns - 300) ** 2 < 150**2
    image = np.where(inside[..., None], 120, 0).astype(np.uint8).repeat(3, axis=2)
    done = prepared(image)
    assert done.shape == (540, 540, 3)  # 90 % of the radius 300, both ways
    assert (done[0, 0] == 128).all()  # a corner, beyond the radius
    assert np.abs(done[170:370, 170:370].astype(int) - 128).max() <= 1  # even inside: the average
