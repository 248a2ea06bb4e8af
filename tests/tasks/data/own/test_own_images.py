"""A user's folder of images: what is read, what is left out, and what is refused in a line."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from conftest import with_changes
from photos import photo, write_photos
from PIL import Image
from reviews import reviews

from runner import config
from runner.run import run
from tasks.data.own import images as own_images
from tasks.errors import UserError

RUN = ["opt=dog", "model=wrn28_10", "model.depth=10", "model.width=1", "train.image_size=16"]
RUN += ["train.steps=3", "train.batch_size=4", "train.eval_every=3", "wandb.mode=disabled"]
RUN += ["progress=false", "device=cpu"]


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def names_of(found, part):
    """The sha256 of a part's images."""
    return set(found.part(part).inputs.identity())


def kept(folder):
    """What is left in the folder of data, but for locks and digests of files."""
    return [p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".lock", "")]


def test_folder_of_classes_is_divided_and_described(photos, look):
    found = look(photos)
    assert found.classes == ("cat", "dog", "owl") and found.kind == "images"
    assert all(n >= 1 for part in found.counts.values() for n in part.values())
    assert sum(n for part in found.counts.values() for n in part.values()) == 36
    assert found.overrides == ["task=own_images", f"task.data.path={photos}"]
    assert found.describe()[1] == "3 classes: cat 12, dog 12, owl 12"
    examples = found.part("train")
    for image, label in zip(examples.inputs, examples.labels, strict=True):
        colour = image.mean((0, 1))
        assert colour.argmax() == label and image.shape[2] == 3


def test_images_of_another_size_are_other_examples(photos, look):
    found, smaller = look(photos), look(photos, shorter_side=16)
    assert names_of(found, "train").isdisjoint(names_of(smaller, "train"))
    assert names_of(found, "train") == names_of(look(photos), "train")


def test_added_images_move_no_other(tmp_path, look):
    photos = write_photos(tmp_path / "photos", each=40)
    before = look(photos)
    write_photos(photos, each=20, first=40)
    after = look(photos)
    assert before.digest != after.digest
    for part in ("train", "validation", "test"):
        assert names_of(before, part) < names_of(after, part)


def test_parts_of_the_user_stay_as_they_are(tmp_path, look):
    for part, first in (("Train", 0), ("val", 20), ("test", 30)):
        write_photos(tmp_path / "photos" / part, each=8, first=first)
    shutil.copy(tmp_path / "photos/test/cat/31.png", tmp_path / "photos/Train/cat/again.png")
    (tmp_path / "photos/test/bat").mkdir()
    photo("owl", 5).save(tmp_path / "photos/test/bat/1.png")
    found = look(tmp_path / "photos")
    assert {part: sum(n.values()) for part, n in found.counts.items()} == {
        **{"train": 24, "validation": 24, "test": 24},
    }
    assert any("Train/, test/, val/ are parts" in line for line in found.guessed)
    left_out = " | ".join(map(str, found.left_out))
    assert "1 image that another part has, too (test keeps it): Train/cat/again.png" in left_out
    assert "class training does not have: test/bat/1.png (bat)" in left_out


def test_part_that_is_lacking_comes_out_of_training(tmp_path, look):
    write_photos(tmp_path / "photos/train", each=20)
    write_photos(tmp_path / "photos/test", each=4, first=50)
    counts = look(tmp_path / "photos").counts
    assert sum(counts["test"].values()) == 12
    assert sum(counts["train"].values()) + sum(counts["validation"].values()) == 60
    assert min(counts["validation"].values()) >= 1


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train_images", "test_images"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set"),
    ],
)
def test_parts_are_known_by_a_word_of_their_names(train, test, tmp_path, look):
    write_photos(tmp_path / "photos" / train, each=20)
    write_photos(tmp_path / "photos" / test, each=4, first=50)
    write_photos(tmp_path / "photos/seg_pred", each=1, first=90)
    found = look(tmp_path / "photos")
    assert found.classes == ("cat", "dog", "owl")
    assert sum(found.counts["test"].values()) == 12
    (left_out,) = found.left_out
    assert str(left_out).startswith("3 images outside the folders of parts (train, validation, tes")


def test_classes_are_no_parts_for_their_names(tmp_path, look):
    photos = write_photos(tmp_path / "photos", each=20)
    for old, new in (("cat", "bullet_train"), ("dog", "test_tube"), ("owl", "train")):
        (photos / old).rename(photos / new)
    assert look(photos).classes == ("bullet_train", "test_tube", "train")


def test_parts_inside_the_folders_of_classes_are_parts(tmp_path, look):
    photos = tmp_path / "photos"
    for part, first in (("train", 0), ("Test", 50)):
        write_photos(tmp_path / part, each=12, first=first)
        for kind in ("cat", "dog", "owl"):
            shutil.move(tmp_path / part / kind, photos / kind / part)
    found = look(photos)
    assert found.classes == ("cat", "dog", "owl")
    assert found.counts["test"] == dict.fromkeys(found.classes, 12)
    assert "Test/, train/ in the folders of classes are parts of the data" in found.guessed


def test_folders_of_texts_are_refused_with_what_to_do(tmp_path, look):
    for n, (text, label) in enumerate(reviews()):
        (tmp_path / "films" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "films" / label / f"{n}.txt").write_text(text)
    with pytest.raises(UserError, match=r"no image and no table \(.* write texts into a CSV file"):
        look(tmp_path / "films")


def test_parts_without_training_are_no_classes(tmp_path, look):
    write_photos(tmp_path / "photos/val", each=20)
    write_photos(tmp_path / "photos/test", each=20, first=30)
    with pytest.raises(UserError, match="has examples for test and validation alone"):
        look(tmp_path / "photos")


def test_folders_whose_names_look_the_same_are_one_class(tmp_path, look):
    for part, form, first in (("train", "NFC", 0), ("test", "NFD", 50)):
        write_photos(tmp_path / "photos" / part, each=20, first=first)
        name = unicodedata.normalize(form, "élan")
        (tmp_path / "photos" / part / "cat").rename(tmp_path / "photos" / part / name)
    assert look(tmp_path / "photos").counts["test"] == {"dog": 20, "owl": 20, "élan": 20}


def test_image_of_32_bits_a_pixel_is_damaged_and_not_white_or_black(tmp_path, look):
    photos = write_photos(tmp_path / "photos", each=70)
    Image.fromarray(np.full((16, 16), 40_000, np.int32)).save(photos / "cat/whole.tif")
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(photos / "cat/real.tif")
    (found,) = look(photos).left_out
    assert str(found).startswith("2 images damaged: cat/real.tif (of 32 bits a pixel, of which ")


@pytest.mark.parametrize(
    ("brightest", "bits"), [(65_535, 16), (40_000, 16), (4_000, 12), (600, 10), (200, 8)]
)
def test_white_of_16_bit_images_is_that_of_the_bits_that_the_data_set_uses(
    brightest, bits, tmp_path, look
):
    photos, written = write_photos(tmp_path / "photos", each=4), []
    for number in range(24):
        values = np.full((16, 16), brightest if number == 7 else brightest // 3 + number)
        written.append((values[0, 0] >> (bits - 8)).item())
        image = Image.fromarray(values.astype(np.uint16))
        # A PNG file may call one value transparent; Pillow makes such an image white.
        options = {"transparency": int(values[0, 0])} if number == 9 else {}
        path = photos / ("cat", "dog")[number % 2] / f"deep{number:02}.png"
        image.save(path, **options)
    found = look(photos)
    line = f"24 images of 16 bits a pixel: white is {2**bits - 1:,}, as no value is above it"
    assert line in found.guessed
    read = [i[0, 0, 0].item() for part in found.counts for i in found.part(part).inputs
            if (i == i[0, 0]).all()]  # fmt: skip
    assert sorted(read) == sorted(written)


def test_first_of_several_frames_is_read_and_said(photos, look):
    frames = [photo("cat", number) for number in (91, 92)]
    frames[0].save(photos / "cat/moving.webp", lossless=True, save_all=True,
                   append_images=frames[1:])  # fmt: skip
    frames[0].save(photos / "cat/pages.tif", save_all=True, append_images=frames[1:])
    frames[0].save(photos / "cat/phone.jpg", "MPO", save_all=True, append_images=frames[1:])
    found = look(photos)
    assert "2 images of several frames or pages: the first is read" in found.guessed
    read = [image for part in found.counts for image in found.part(part).inputs]
    first = np.array(frames[0])
    assert sum(image.shape == first.shape and (image == first).all() for image in read) == 2


def test_classes_that_differ_in_case_and_folders_in_those_of_classes_are_said(photos, look):
    (photos / "dog").rename(photos / "Cat")
    (photos / "owl/test").mkdir()
    (photos / "owl/1.png").rename(photos / "owl/test/1.png")
    found = look(photos)
    assert found.warnings == [
        "classes that differ in case alone, or in signs that are not seen: Cat, cat"
    ]
    assert found.guessed == ["images in folders inside a class's are of that class: owl/test"]


def test_folder_around_the_classes_is_no_class(tmp_path, look):
    write_photos(tmp_path / "download/photos")
    assert look(tmp_path / "download").classes == ("cat", "dog", "owl")


def test_images_are_upright_opaque_and_in_colour(photos, look):
    tall = Image.new("RGB", (20, 16), "red")
    tall.paste("blue", (0, 0, 20, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: blue is right then
    tall.save(photos / "cat/turned.png", exif=exif)
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(photos / "cat/clear.png")
    Image.new("L", (16, 16), 7).save(photos / "cat/grey.jpg")
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(photos / "cat/deep.png")
    names = ["cat/turned.png", "cat/clear.png", "cat/grey.jpg", "cat/deep.png"]
    sources = [(photos / name).read_bytes for name in names]
    where = own_images.Findings("photos")
    pixels = own_images.kept_images(sources, names, [], 256, photos.parent / "data", where)[0]
    turned, clear, grey, deep = pixels
    assert turned.shape == (20, 16, 3) and turned[0, -1].tolist() == [0, 0, 255]
    assert turned[0, 0].tolist() == [255, 0, 0]
    assert (clear == 255).all() and (grey == 7).all() and (deep == 40_000 >> 8).all()
    said = " ".join(look(photos).guessed)
    assert "1 image turned upright" in said and "1 image put on white" in said


def test_large_images_are_shrunk_once(photos, look, monkeypatch):
    photo("cat", 77, (400, 300)).save(photos / "cat/large.jpg")
    found = look(photos, shorter_side=64)
    shapes = [image.shape[:2] for p in found.counts for image in found.part(p).inputs]
    assert max(shapes) == (64, 85) and min(shapes) < (20, 20)
    monkeypatch.setattr(own_images, "upright", None)  # decoding again would fail
    assert look(photos, shorter_side=64).counts == found.counts


def test_damaged_image_is_left_out_by_name_and_many_are_refused(tmp_path, look):
    photos = write_photos(tmp_path / "photos", each=40)
    whole = (photos / "dog/1.png").read_bytes()
    (photos / "dog/cut.png").write_bytes(whole[: len(whole) // 2])
    (found,) = look(photos).left_out
    assert str(found).startswith("1 image damaged: dog/cut.png (")
    for number in range(2):
        (photos / f"dog/{number}.jpg").write_text("no image")
    before = kept(tmp_path / "data")
    with pytest.raises(UserError, match=r"3 of 122 images are damaged: dog/0.jpg \(no image\)"):
        look(photos)
    assert kept(tmp_path / "data") == before


def test_decompression_bomb_is_a_damaged_image(tmp_path, look, monkeypatch):
    photos = write_photos(tmp_path / "photos", each=40)
    monkeypatch.setattr(own_images, "MOST_PIXELS", 1000)
    Image.new("1", (40, 40)).save(photos / "cat/bomb.png")
    (found,) = look(photos).left_out
    assert "cat/bomb.png (of 40 × 40 pixels)" in str(found)


def bad_folder(folder, what):
    """A folder with something wrong; the line says what."""
    folder.mkdir()
    if what == "no folder of images for each class":
        photo("cat", 1).save(folder / "1.png")
    elif what == "are of one class, cat":
        write_photos(folder, each=30)
        shutil.rmtree(folder / "dog")
        shutil.rmtree(folder / "owl")
    elif what == "6 examples that can be used":
        write_photos(folder, each=2)
    elif what == "fifo is no file":
        write_photos(folder)
        os.mkfifo(folder / "cat/fifo")
    elif "link" in what:
        write_photos(folder)
        target = folder.parent / "elsewhere.png" if "out of" in what else folder / "cat"
        (folder / "dog/link").symlink_to(target)
    return folder


@pytest.mark.parametrize(
    "what",
    [
        "holds no image and no table",
        "no folder of images for each class",
        "are of one class, cat",
        "6 examples that can be used",
        "fifo is no file",
        "is a link out of the folder, to",
        "is a link to a folder",
    ],
)
def test_what_cannot_be_learnt_from_is_refused_in_a_line(what, tmp_path, look):
    with pytest.raises(UserError) as said:
        look(bad_folder(tmp_path / "photos", what))
    assert what in str(said.value) and "\n" not in str(said.value)
    assert str(tmp_path / "photos") in str(said.value)


def test_folder_without_the_right_to_read_it_is_refused(photos, look, monkeypatch):
    scandir = os.scandir

    def forbidden(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)  # chmod forbids root nothing
    with pytest.raises(UserError, match=r"photos/cat cannot be read \(Permission denied\)"):
        look(photos)


def test_files_that_are_no_images_are_counted_and_named(photos, look):
    (photos / "cat/notes.txt").write_text("mine")
    (photos / "dog/phone.HEIC").write_bytes(b"heic")
    (photos / "cat/.DS_Store").write_bytes(b"")
    (photos / "bat").mkdir()
    lines = sorted(map(str, look(photos).left_out))
    assert lines[0] == "1 folder without any file: bat/"
    assert lines[1].startswith("1 image in a format that is not read")
    assert lines[2] == "1 other file among the images: cat/notes.txt"


def test_run_trains_on_the_images_and_changed_ones_are_another_run(photos, look, tmp_path):
    words = [*RUN, f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}"]
    record = run(config.load([*look(photos).overrides, *words]))
    assert record.status == "finished" and record.results.steps == 3
    found = look(photos)
    assert record.results.test.examples == sum(found.counts["test"].values())
    assert record.results.validation.examples == sum(found.counts["validation"].values())
    photo("owl", 99).save(photos / "owl/99.png")
    again = run(config.load([*look(photos).overrides, *words]))
    assert again.run_id != record.run_id and again.data_id != record.data_id


def test_task_without_a_path_says_what_to_do():
    with pytest.raises(UserError, match=r"whose images\? Say task.data.path=PATH"):
        run(with_changes(config.load(["task=own_images", *RUN]), {}))
