"""Small copies of image data sets in the originals' own formats.

What writes a copy gives the numbers of examples in train, validation and test.
"""

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

GENERATOR = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, shape, dtype=np.uint8)


def picture(path: Path, height: int = 12, width: int = 16) -> np.ndarray:
    """Write an image, without loss where its name allows it, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels(height, width, 3)
    Image.fromarray(image).save(path)
    return image


def write_cifar100(root: Path) -> tuple[int, int, int]:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, count in (("train", 30), ("test", 10)):
        content = {"data": pixels(count, 3072), "fine_labels": [i % 100 for i in range(count)]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": [f"class{i}" for i in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return 27, 3, 10


def write_svhn(root: Path) -> tuple[int, int, int]:
    from scipy.io import savemat

    root.mkdir(parents=True)
    for name, count in (("train", 20), ("test", 10)):
        labels = np.arange(count)[:, None] % 10 + 1  # 10 is the digit 0
        savemat(root / f"{name}_32x32.mat", {"X": pixels(32, 32, 3, count), "y": labels})
    return 18, 2, 10


def write_dtd(root: Path) -> tuple[int, int, int]:
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for part, count in (("train", 6), ("val", 4), ("test", 5)):
        names = [f"kind{i % 2}/kind{i % 2}_{part}{i}.jpg" for i in range(count)]
        (folder / "labels" / f"{part}1.txt").write_text("".join(f"{name}\n" for name in names))
        for index, name in enumerate(names):
            picture(folder / "images" / name, 10 + index)
    return 6, 4, 5


def write_flowers102(root: Path) -> tuple[int, int, int]:
    from scipy.io import savemat

    folder = root / "flowers-102"
    for number in range(1, 13):
        picture(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.arange(1, 13)})
    parts = {"trnid": np.arange(1, 4), "valid": np.arange(4, 9), "tstid": np.arange(9, 13)}
    savemat(folder / "setid.mat", parts)
    return 3, 5, 4


def write_pets(root: Path) -> tuple[int, int, int]:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for part, count in (("trainval", 10), ("test", 4)):
        lines = []
        for i in range(count):
            name = f"breed_{i % 2}_{part}{i}"
            picture(folder / "images" / f"{name}.jpg")
            lines.append(f"{name} {i % 2 + 1} 1 1\n")
        (folder / "annotations" / f"{part}.txt").write_text("".join(lines))
    return 8, 2, 4


def write_caltech101(root: Path) -> tuple[int, int, int]:
    for name, count in (("BACKGROUND_Google", 33), ("Faces", 30), ("wrench", 31)):
        for number in range(1, count + 1):
            file = f"101_ObjectCategories/{name}/image_{number:04d}.jpg"
            picture(root / "caltech101" / file, 4, 5)
    (root / "caltech101/101_ObjectCategories/BACKGROUND_Google/tmp").touch()  # as in the original
    return 81, 9, 4


def write_clevr_dist(root: Path) -> tuple[int, int, int]:
    folder = root / "clevr" / "CLEVR_v1.0"
    (folder / "scenes").mkdir(parents=True)
    for part, count in (("train", 10), ("val", 4)):
        scenes = []
        for i in range(count):
            name = f"CLEVR_{part}_{i:06d}.png"
            picture(folder / "images" / part / name)
            coordinates = [{"pixel_coords": [1, 2, z]} for z in (12.5, 7.75 + i / 2)]
            scenes.append({"image_filename": name, "objects": coordinates})
        path = folder / "scenes" / f"CLEVR_{part}_scenes.json"
        path.write_text(json.dumps({"scenes": scenes}))
    return 9, 1, 4


def write_dsprites_ori(root: Path) -> tuple[int, int, int]:
    root.mkdir(parents=True)
    classes = np.zeros((80, 6), dtype=np.int64)
    classes[:, 3] = np.arange(80) % 40
    np.savez_compressed(
        root / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        imgs=GENERATOR.integers(0, 2, (80, 64, 64), dtype=np.uint8),
        latents_classes=classes,
    )
    return 64, 8, 8


def write_resisc45(root: Path) -> tuple[int, int, int]:
    for name in ("airplane", "sea_ice"):
        for number in range(1, 11):
            picture(root / "NWPU-RESISC45" / name / f"{name}_{number:03d}.jpg")
    return 12, 4, 4


def write_retinopathy(root: Path) -> tuple[int, int, int]:
    for part, count in (("train", 4), ("test", 5)):
        for i in range(count):
            picture(root / part / f"{i}_left.jpeg", 20, 30)
    lines = "".join(f"{i}_left,{i % 5}\n" for i in range(4))
    (root / "trainLabels.csv").write_text(f"image,level\n{lines}")
    usage = ["Private", "Public", "Private", "Private", "Public"]
    lines = "".join(f"{i}_left,{i % 5},{usage[i]}\n" for i in range(5))
    (root / "retinopathy_solution.csv").write_text(f"image,level,Usage\n{lines}")
    return 4, 2, 3


def write_hub(root: Path) -> tuple[int, int, int]:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    (root / "data").mkdir(parents=True)
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b"])})
    for part, count in (("train", 6), ("validation", 3), ("test", 4)):
        images = [picture(root / "originals" / f"{part}{i}.png", 10 + i, 12) for i in range(count)]
        images = [Image.fromarray(image) for image in images]
        rows = {"image": images, "label": [i % 2 for i in range(count)]}
        table = Dataset.from_dict(rows, features=features)
        table.to_parquet(root / "data" / f"{part}-00000-of-00001.parquet")
    return 6, 3, 4


def write_imagenet(root: Path) -> tuple[int, int, int]:
    for part, count in (("train", 4), ("val", 3)):
        for number in range(count):
            picture(root / part / f"n0{number % 2}" / f"{part}_{number}.JPEG")
    return 4, 3, 3  # it has no validation part of its own


WRITERS = {
    "caltech101": write_caltech101,
    "cifar100": write_cifar100,
    "clevr_dist": write_clevr_dist,
    "dmlab": write_hub,
    "dsprites_ori": write_dsprites_ori,
    "dtd": write_dtd,
    "flowers102": write_flowers102,
    "imagenet": write_imagenet,
    "pets": write_pets,
    "resisc45": write_resisc45,
    "retinopathy": write_retinopathy,
    "sun397": write_hub,
    "svhn": write_svhn,
}
