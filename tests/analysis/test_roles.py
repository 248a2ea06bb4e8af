"""An optimizer's role, not its name, decides what tables and figures do with it."""

import copy
from pathlib import Path

import made_up_records as made_up
import pytest
import yaml
from matplotlib.text import Text

from analysis import curves, records
from analysis.all_tables import all_pages
from analysis.comparison import compare_problems
from analysis.figures import all_figures
from analysis.figures.data import FigureData
from analysis.roles import (
    REFERENCE,
    ROLES,
    TUNED,
    TUNING_FREE,
    default_of,
    start_of,
    with_roles,
)
from analysis.tables.page import files_of
from runner import config
from tasks.errors import UserError

POINTS = {1: 1e-4, 10: 1e-3, 100: 0.1}


def as_new(record, name="newdog", label="NewDoG", role=TUNING_FREE):
    """The same run of an optimizer that no yaml knows."""
    new = copy.deepcopy(record)
    new["settings"]["opt"]["name"], new["opt_label"], new["opt_role"] = name, label, role
    new["run_id"] = record["run_id"].replace("-ldog-", f"-{name}-")
    return new


def runs_with_ldog_in_everything():
    """Runs of which every kind of table and figure is made that shows L-DoG."""
    for steps in (100, 200):
        for opt in ("dog", "ldog", "sgd"):
            for rate in made_up.GRIDS[opt].get("lr", [None]):
                changed = {} if rate in (None, made_up.DEFAULTS[opt]["lr"]) else {"lr": rate}
                for seed in (100, 0, 1):
                    chosen = {"opt": opt, "changed": changed, "seed": seed, "steps": steps}
                    yield made_up.record(0.7 + seed / 1000, **chosen)
    for changed in ({"reps_rel": 1e-6}, {"reps_rel": 1e-2}, {"lr": 0.5}, {"lr": 2.0}):
        yield made_up.record(0.6, opt="ldog", changed=changed, steps=100)


@pytest.fixture
def shown(tmp_path):
    """All tables and figures, as text by name, of the given records."""

    def make(*made):
        for record in made:
            made_up.write_with_curve(tmp_path / "runs", record, POINTS)
        frame = records.collect(tmp_path / "runs", tmp_path / "records.csv")
        points = curves.collect(tmp_path / "runs", tmp_path / "curves.csv", frame)
        comparisons = compare_problems(frame)
        drawn = dict(all_figures(FigureData.from_records(comparisons, frame, points)))
        texts = {
            stem: "\n".join(text.get_text() for text in figure.findobj(Text))
            for stem, figure in drawn.items()
        }
        pages = [*all_pages(comparisons, frame)]
        tables = (table for page in pages for table, _ in page.walk() if table.shown is not None)
        return files_of(pages) | {f"{table.stem}.table": table.body for table in tables} | texts

    return make


def test_a_new_tuning_free_optimizer_is_wherever_ldog_is(shown):
    made = list(runs_with_ldog_in_everything())
    new = [as_new(record) for record in made if record["settings"]["opt"]["name"] == "ldog"]
    content = shown(*made, *new)
    with_ldog = {name for name, text in content.items() if "L-DoG" in text}
    with_new = {name for name, text in content.items() if "NewDoG" in text}
    assert with_new == with_ldog
    kinds = {name.split("-")[0].split(".")[0] for name in with_ldog}
    assert kinds == {
        "cifar", "summary", "models", "leaderboard", "profile", "sensitivity", "red",
        "red_by_rate", "budget",
    }  # fmt: skip


def lines_of(frame):
    (table,) = compare_problems(frame)
    return table.frame[["optimizer", "role"]].drop_duplicates().to_numpy().tolist()


def test_records_without_a_role_have_that_of_the_yaml_or_else_of_the_grid(tmp_path):
    ldog = made_up.record(0.8, opt="ldog")
    free = as_new(ldog, "unknown", "Unknown", None)
    tuned = as_new(ldog, "unknown2", "Unknown 2", None) | {"grid": {"lr": [1.0]}}
    told = made_up.record(0.8, opt="sgd") | {"opt_role": TUNING_FREE}
    frame = made_up.collected(
        tmp_path,
        ldog,
        free,
        tuned,
        told,
        *(made_up.record(0.8, opt=opt) for opt in ("dog", "adam")),
    )
    assert lines_of(frame) == [
        ["dog", REFERENCE], ["ldog", TUNING_FREE], ["sgd", TUNING_FREE], ["unknown", TUNING_FREE],
        ["adam", TUNED], ["unknown2", TUNED],
    ]  # fmt: skip


def test_the_role_is_that_of_the_last_run(tmp_path):
    made = [made_up.record(0.8, seed=seed) | {"opt_role": TUNED} for seed in (0, 1)]
    made[1]["opt_role"] = TUNING_FREE
    made[1]["measured"]["started"] = "2026-01-01T00:00:00+00:00"
    assert lines_of(made_up.collected(tmp_path, *made)) == [["sgd", TUNING_FREE]]


def test_an_optimizer_that_was_renamed_has_the_name_of_its_last_run(tmp_path):
    """Figures put its runs together by this name."""
    runs = [made_up.record(0.7, opt="ldog", seed=seed, task=task)
            for task in ("cifar", "movies") for seed in (0, 1)]  # fmt: skip
    runs[0]["opt_label"] = "A new name"
    runs[0]["measured"]["started"] = "2025-02-01T00:00:00+00:00"
    comparisons = compare_problems(made_up.collected(tmp_path, *runs))
    assert [cell.label for each in comparisons for cell in each.cells] == 2 * ["A new name"]


def test_the_rate_of_a_tuning_free_optimizer_is_its_factor(tmp_path):
    adam = made_up.record(0.8, opt="adam") | {"opt_role": TUNING_FREE}
    (row,) = with_roles(made_up.collected(tmp_path, adam)).to_dict("records")
    assert row["c"] == 0.001 and row["learning_rate"] != row["learning_rate"]


def test_two_references_are_refused_with_what_to_do(tmp_path):
    other = made_up.record(0.8) | {"opt_role": REFERENCE}
    frame = made_up.collected(tmp_path, made_up.record(0.8, opt="dog"), other)
    with pytest.raises(UserError, match="dog and sgd have the role reference: in configs/opt"):
        compare_problems(frame)


def test_every_optimizer_has_a_role_and_one_is_the_reference():
    yamls = [yaml.safe_load(path.read_text()) for path in (config.CONFIGS / "opt").glob("*.yaml")]
    roles = [one["role"] for one in yamls]
    assert set(roles) == set(ROLES) and roles.count(REFERENCE) == 1
    assert all(bool(one["grid"]) == (one["role"] == TUNED) for one in yamls)


def test_the_role_is_no_part_of_a_runs_settings_and_cannot_be_typed():
    assert "role" not in config.load(["opt=dog"]).spec.settings["opt"]
    with pytest.raises(UserError, match="role is not to be changed"):
        config.load(["opt=dog", "opt.role=tuned"])


def test_the_default_start_is_the_protocols_reps_rel_or_the_yamls_argument():
    names = {path.stem for path in Path("configs/opt").glob("*.yaml") if start_of(path.stem)}
    found = {name: default_of(name, start_of(name), reps_rel=0.5) for name in names}
    assert found["dog"] == found["adog"] == 0.5
    assert found["dowg"] == 1e-4
    assert found["mechanic_sgd"] == found["mechanic_adamw"] == 1e-8  # null there: the package's
