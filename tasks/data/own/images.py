"""A user's folder of images: one folder a class, with or without train, val and test above them."""

import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from tasks.data.cache import content_key, made_once, versions
from tasks.data.images import Images
from tasks.data.own.cells import plain_text
from tasks.data.own.findings import Findings, listed
from tasks.data.own.folders import walk
from tasks.errors import UserError, reason
from tasks.format import plural

# Of what is decoded: a new number makes the images anew. Raise FEATURES_VERSION of probes with it.
VERSION = 3
# What Pillow is allowed to take a file for: some of its other formats start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
}
COUNTED = ("turned", "transparent", "frames", "deep")  # images of which this is so
FOREIGN = {".heic", ".heif", ".avif", ".raw", ".cr2", ".nef", ".dng", ".psd", ".svg"}
ORIENTATION, UPRIGHT, ROTATED = 0x0112, 1, range(2, 9)  # of EXIF
MOST_PIXELS = 100_000_000  # a larger image takes a gigabyte and more
NARROWEST = 50  # times as long as wide
# The words of the package datasets, so that a folder means to both the same.
PART_OF = dict.fromkeys(("train", "training"), "train")
PART_OF |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
PART_OF |= dict.fromkeys(("test", "testing", "eval", "evaluation"), "test")


def class_folders(root: Path, findings: Findings) -> list[tuple[str, str | None, str]]:
    """Return (file below root, the user's part or None, class) of each image, sorted by file.

    Raises:
        UserError: if there are none, or no classes, or a link leads out of the folder.
    """
    files = [name.split("/") for name in _files(root, findings)]
    above = 0  # folders above those of the classes
    while len({tuple(file[: above + 1]) for file in files}) == 1 and _are_below(files, above + 1):
        above += 1  # one folder with everything in it, as archives unpack to
    parts = _parts(files, above)
    # cat/train and dog/train: the user's parts, below the classes
    inside = not parts and _are_below(files, above + 1)
    inside = inside and all(file[above + 1].lower() in PART_OF for file in files)
    found, loose, others, inner = [], [], [], set()
    for *folders, name in files:
        path, depth, part = "/".join([*folders, name]), above, None
        if parts and len(folders) > above:
            part, depth = parts[folders[above]], above + 1
            while len(folders) > depth + 1 and part and part_of(folders[depth]) == part:
                depth += 1  # train/train/cat, as archives unpack to
        if inside:
            found.append((path, part_of(folders[above + 1]), plain_text(folders[above])))
        elif parts and not part:
            others.append(path)
        elif len(folders) <= depth:
            loose.append(path)
        else:
            found.append((path, part, plain_text(folders[depth])))
            if len(folders) > depth + 1:
                inner.add("/".join(folders[: depth + 2]))
    if not files:
        raise UserError(
            f"{findings.where} holds no image and no table{findings.because()}: put the images of "
            "each class into a folder of its own, or write texts into a CSV file, a row for each "
            "text with its label"
        )
    if not found:
        raise UserError(
            f"{findings.where} holds {plural(len(loose), 'image')} and no folder of images for "
            "each class: put each class into a folder of its own, such as photos/cat and photos/dog"
        )
    findings.leave_out("image", "outside the folders of classes", loose)
    findings.leave_out("image", "outside the folders of parts (train, validation, test)", others)
    if parts:
        names = ", ".join(sorted(f"{name}/" for name in parts if parts[name]))
        findings.guessed.append(f"{names} are parts of the data, and the folders in them classes")
    if inside:
        names = ", ".join(sorted({f"{file[above + 1]}/" for file in files}))
        findings.guessed.append(f"{names} in the folders of classes are parts of the data")
    if inner:
        findings.guessed.append(
            f"images in folders inside a class's are of that class: {listed(sorted(inner))}"
        )
    return found


def _parts(files: list[list[str]], above: int) -> dict[str, str | None]:
    """Return what part each of the topmost folders is; nothing where these are classes."""
    top = {file[above] for file in files if len(file) > above + 1}
    if all(name.lower() in PART_OF for name in top):
        return {name: part_of(name) for name in top}
    # Of seg_train, test_set and the like some hold classes, and others may be beside them.
    parts = {name: part_of(name) for name in top}
    holding = {parts[file[above]] for file in files if len(file) > above + 2} - {None}
    return parts if "train" in holding and len(holding) > 1 else {}


def part_of(name: str) -> str | None:
    """Return the part that a name says: of train-00000-of-00002.parquet it is train."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((PART_OF[word] for word in reversed(words) if word in PART_OF), None)


def _are_below(files: list[list[str]], depth: int) -> bool:
    """Return whether all files are in folders, and these at least so deep in others."""
    return all(len(file) > depth + 1 for file in files)


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image that is read."""
    return Path(name).suffix.lower() in SUFFIXES


def _files(root: Path, findings: Findings) -> Iterator[str]:
    """Yield the images below a folder, sorted; say which files are none."""
    found, foreign, others, empty = list[str](), list[str](), list[str](), list[str]()
    for folder, names in walk(root, findings):
        inside = folder.relative_to(root)
        for name in names:
            is_foreign = Path(name).suffix.lower() in FOREIGN
            group = found if is_image(name) else foreign if is_foreign else others
            group.append((inside / name).as_posix())
        if folder.parent == root and not any(folder.iterdir()):
            empty.append(f"{inside}/")
    findings.leave_out("image", "in a format that is not read (save as JPEG or PNG)", foreign)
    findings.leave_out("other file", "among the images", others)
    findings.leave_out("folder", "without any file", empty)
    yield from sorted(found)


def kept_images(
    sources: Sequence[Any],
    names: Sequence[str],
    identity: list[Any],
    shorter: int,
    data_dir: Path,
    findings: Findings,
) -> tuple[Images, list[str], list[int]]:
    """Return the whole ones of these images, their sha256, and their indices.

    Each is decoded once, upright, as RGB, at most `shorter` pixels on its shorter side, and kept in
    `data_dir`.

    Args:
        sources: functions that return an image's bytes.
        names: what a message calls each image.
        identity: what tells these images from those of other data.
        shorter: pixels.
        data_dir: the folder of data and weights.
        findings: where to say what was found out.

    Raises:
        UserError: if more than a hundredth of them are damaged: nothing is kept then.
    """
    key = content_key([VERSION, identity, versions("pillow"), list(names)])[:16]
    folder = data_dir / "decoded" / f"own-{key}"
    write = partial(_write, sources, names, shorter, findings.where)
    made_once(folder, write, f"decode {findings.where}")
    index = json.loads((folder / "index.json").read_text())
    _say(index, names, findings)
    images = index["images"]
    pixels = _Pixels(folder / "pixels.bin", [(start, *shape) for _, _, start, *shape in images])
    digests = [digest for _, digest, *_ in images]
    kept = Images(range(len(images)), pixels, partial(_digests_at, shorter, digests))
    return kept, digests, [place for place, *_ in images]


def _say(index: dict[str, Any], names: Sequence[str], findings: Findings) -> None:
    findings.leave_out_damaged(
        "image",
        [f"{names[place]} ({why})" for place, why in index["damaged"]],
        len(names),
        "put whole copies there, or remove them",
    )
    white = f"{2 ** index['bits'] - 1:,}"
    for count, what in (
        (index["turned"], "turned upright, as EXIF data say"),
        (index["transparent"], "put on white, as transparent"),
        (index["frames"], "of several frames or pages: the first is read"),
        (index["deep"], f"of 16 bits a pixel: white is {white}, as no value is above it"),
    ):
        if count:
            findings.guessed.append(f"{plural(count, 'image')} {what}")


def _write(
    sources: Sequence[Any], names: Sequence[str], shorter: int, where: str, folder: Path
) -> None:
    """Write all whole images one after another into pixels.bin, and index.json about them."""
    index = _write_pixels(sources, shorter, 16, folder)
    fewest = max(8, index["greatest"].bit_length())
    if index["deep"] and fewest < 16:  # cameras and scanners of 10, 12 or 14 bits write 16
        index = _write_pixels(sources, shorter, fewest, folder)
    _say(index, names, Findings(where))  # too many damaged ones: nothing is kept
    (folder / "index.json").write_text(json.dumps(index))


def _write_pixels(sources: Sequence[Any], shorter: int, bits: int, folder: Path) -> dict[str, Any]:
    """Write pixels.bin; return what is known of the images."""
    index: dict[str, Any] = {"images": [], "damaged": [], "bits": bits, "greatest": 0}
    index |= dict.fromkeys(COUNTED, 0)
    places, start = iter(range(len(sources))), 0
    decode = partial(_decoded, shorter=shorter, bits=bits)
    with (
        (folder / "pixels.bin").open("wb") as file,
        ThreadPoolExecutor() as pool,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of large images, and of odd metadata
        while chunk := list(islice(places, 64)):  # few, so that not many are in memory
            found = pool.map(decode, [sources[place] for place in chunk])
            for place, (pixels, about) in zip(chunk, found, strict=True):
                if pixels is None:
                    index["damaged"].append([place, about])
                    continue
                file.write(pixels.data)
                index["images"].append([place, about["sha256"], start, *pixels.shape])
                start += pixels.size
                index["greatest"] = max(index["greatest"], about["greatest"])
                for key in COUNTED:
                    index[key] += about[key]
    return index


def _decoded(source: Any, shorter: int, bits: int) -> tuple[np.ndarray | None, Any]:
    """Return an image, uint8 [H, W, 3], and what is known of it; or None and what is wrong."""
    from PIL import UnidentifiedImageError

    try:
        content = source()
        pixels, about = upright(io.BytesIO(content), shorter, bits)
    except Exception as error:  # damaged bytes make the decoders raise almost anything
        unknown = isinstance(error, UnidentifiedImageError)
        return None, "no image" if unknown else getattr(error, "strerror", None) or reason(error)
    return pixels, {**about, "sha256": hashlib.sha256(content).hexdigest()}


def upright(file: IO[bytes], shorter: int, bits: int = 16) -> tuple[np.ndarray, dict[str, int]]:
    """Return an encoded image as it is looked at: turned as its EXIF data say, RGB, on white.

    One whose shorter side is longer than `shorter` is shrunk to that. Of one of 16 bits a pixel,
    white is the greatest number of `bits`; what is known of it has its greatest value. Raises what
    Pillow raises for a damaged image, ValueError for one of impossible size.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MOST_PIXELS or max(image.size) > NARROWEST * min(image.size):
            raise ValueError(f"of {width} × {height} pixels")
        image.draft(None, (shorter, shorter))  # a large JPEG is read at a part of its size
        image.load()
        # A photograph has small copies of itself behind it (MPO), which are no frames.
        frames = getattr(image, "is_animated", False) and image.format != "MPO"
        turned = image.getexif().get(ORIENTATION, UPRIGHT) in ROTATED
        seen: Any = ImageOps.exif_transpose(image)
    greatest, deep = 0, seen.mode.startswith("I;16")
    if deep:
        values = np.asarray(seen)
        greatest = int(values.max())
        seen = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    transparent = seen.has_transparency_data
    if transparent:
        seen = seen.convert("RGBA")
        transparent = seen.getextrema()[3][0] < 255
        white = Image.new("RGBA", seen.size, "white")
        seen = Image.alpha_composite(white, seen)
    if seen.mode in ("I", "F"):
        raise ValueError("of 32 bits a pixel, of which nobody knows what is white: save as 8 or 16")
    seen = seen.convert("RGB")
    scale = shorter / min(seen.size)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in seen.size]
        seen = seen.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    about = {"turned": turned, "transparent": transparent, "frames": frames, "deep": deep}
    return np.array(seen), {**about, "greatest": greatest}


# No closures: processes that prepare batches may have to pickle these.


class _Pixels:
    """Gives the i-th of the images in a file of pixels."""

    def __init__(self, path: Path, places: list[tuple[int, ...]]) -> None:
        self.path, self.places = path, places
        self.file: np.ndarray | None = None

    def __call__(self, index: int) -> np.ndarray:
        if self.file is None:
            self.file = np.memmap(self.path, np.uint8, "c")  # torch wants what may be written
        start, height, width, channels = self.places[index]
        end = start + height * width * channels
        return self.file[start:end].reshape(height, width, channels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "file": None}


def _digests_at(shorter: int, digests: list[str], indices: Sequence[int]) -> list[str]:
    """Return what tells images from others: their files, and the size to which they were shrunk."""
    return [f"{digests[index]} at {shorter}" for index in indices]
