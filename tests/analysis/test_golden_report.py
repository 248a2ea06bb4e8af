"""All that `make tables` writes from a fixed set of records is as in golden/.

tests/golden/frozen.py says how to write the files again after a wanted change. Of figures golden/
has the texts, and a hash that counts where matplotlib is of the same version.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import made_up_records as made_up
import matplotlib
import pytest

from analysis import report

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("DOG_BENCH_UPDATE_GOLDEN"))

TEXT = re.compile("<!-- (.*?) -->")  # matplotlib says so what letters' outlines are


def starts_and_factors():
    """DoG and L-DoG with other settings of their own, batch normalization frozen and trained.

    Each is a record with the points of its curve.
    """
    for batch_norm, shift in (("frozen", 0.0), ("train", -0.3)):
        for opt in ("dog", "ldog"):
            for setting, value, score in (
                ("reps_rel", 1e-6, 0.6),
                ("reps_rel", 1e-4, 0.8),
                ("reps_rel", 1e-2, 0.7),
                ("lr", 0.5, 0.55),
                ("lr", 2.0, 0.75),
            ):
                changed = {} if value == made_up.DEFAULTS[opt][setting] else {setting: value}
                start = changed.get("reps_rel", 1e-4)
                where = {"task": "fashion_mnist", "batch_norm": batch_norm, "seed": 0}
                record = made_up.record(0.5, score + shift, opt=opt, changed=changed, **where)
                yield record, {1: start, 10: 10 * start, 100: 0.1 + start}


def tuned():
    """Tuned SGD and DoG: with two budgets, on features, and where lower is better."""
    for where in (
        {"task": "svhn", "steps": 100},
        {"task": "svhn", "steps": 200},
        {"task": "probe_svhn", "budget": "probe"},
        {"task": "logistic_wine", "model": "own", "budget": "theory", "higher_is_better": False},
    ):
        for seed in (100, 0):
            yield made_up.record(0.8, where.get("steps", 468) / 700, opt="dog", seed=seed, **where)
        for rate, score in ((0.01, 0.6), (0.1, 0.85), (1.0, 0.5)):
            changed = made_up.with_rate(rate)
            yield made_up.record(score, score - 0.01, seed=100, changed=changed, **where)
        yield made_up.record(0.85, 0.83, seed=0, changed={"lr": 0.1}, **where)


def as_published():
    """A cell of the paper's tables."""
    where = {"protocol": ("paper", 1), "task": "rte", "model": "roberta_base", "steps": 10_000}
    for seed, score in enumerate((0.76, 0.78, 0.80)):
        record = made_up.record(score, opt="dog", seed=seed, **where)
        record["settings"]["opt"]["reps_rel"] = 1e-6
        yield record


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder with all that is made of the records; in it `figures.json` says what was drawn."""
    folder = tmp_path_factory.mktemp("results")
    for record in (*made_up.example("cifar", "movies"), *tuned(), *as_published()):
        made_up.write(folder / "runs", record)
    for record, points in starts_and_factors():
        made_up.write_with_curve(folder / "runs", record, points)
    report.write_results(folder / "runs", folder)
    drawn = {path.stem: drawing(path.read_text()) for path in (folder / "figures").glob("*.svg")}
    found = {"matplotlib": matplotlib.__version__, "figures": drawn}
    (folder / "figures.json").write_text(
        json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    )
    if UPDATE:
        shutil.rmtree(GOLDEN)
        for name in texts(folder):
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, GOLDEN / name)
        shutil.copy(folder / "figures.json", GOLDEN)
    return folder


def drawing(svg):
    return {"texts": TEXT.findall(svg), "sha256": hashlib.sha256(svg.encode()).hexdigest()}


def texts(folder):
    """The tables and the gathered records and curves, by their names below a folder."""
    paths = [folder / "records.csv", folder / "curves.csv", *(folder / "tables").iterdir()]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def test_tables_records_and_curves_are_the_golden_ones(results):
    written, golden = texts(results), texts(GOLDEN)
    assert sorted(written) == sorted(golden)
    for name, content in written.items():
        assert content == golden[name], name


def test_figures_are_the_golden_ones(results):
    found, golden = (
        json.loads((folder / "figures.json").read_text()) for folder in (results, GOLDEN)
    )
    if found["matplotlib"] != golden["matplotlib"]:
        for drawn in (*found["figures"].values(), *golden["figures"].values()):
            del drawn["sha256"]
    assert sorted(found["figures"]) == sorted(golden["figures"])
    for stem, drawn in golden["figures"].items():
        assert found["figures"][stem] == drawn, stem
