"""Which rows of a user's tables train, validate and test: by files, by a column, or divided."""

import numpy as np
import pytest
from reviews import pairs_of, reviews, write_csv

from tasks.errors import UserError


def test_added_rows_move_no_other_and_parts_have_all_classes(tmp_path, look):
    before = look(write_csv(tmp_path / "films.csv", reviews(200)))
    shuffled = [*reviews(300)][::-1]
    after = look(write_csv(tmp_path / "films.csv", shuffled))
    for part in ("train", "validation", "test"):
        assert set(before.part(part).inputs) < set(after.part(part).inputs)
        assert len(set(before.part(part).labels)) == 2
    shares = [sum(after.counts[part].values()) / 300 for part in ("train", "validation", "test")]
    assert np.allclose(shares, [0.64, 0.16, 0.2], atol=0.07)


def test_parts_by_file_names(tmp_path, look):
    folder = tmp_path / "films"
    folder.mkdir()
    write_csv(folder / "train.csv", [*reviews(40), *reviews(2, first=90)])
    write_csv(folder / "dev.csv", reviews(20, first=60))
    write_csv(folder / "test.csv", [*reviews(20, first=80), ("new", "unseen")])
    write_csv(folder / "sample_submission.csv", reviews(3))
    found = look(folder)
    counts = {part: sum(classes.values()) for part, classes in found.counts.items()}
    assert counts == {"train": 40, "validation": 20, "test": 20}
    assert [str(one) for one in found.left_out] == [
        "1 file whose name says no part (train, validation, test): sample_submission.csv",
        "2 rows that another part has, too (test keeps it): train.csv row 41, train.csv row 42",
        "1 row of test whose class training does not have: test.csv row 21 (unseen)",
    ]


def test_parts_by_a_column(tmp_path, look):
    parts = {"Train": 40, "val": 20, "test": 20}
    cells = [part for part, count in parts.items() for _ in range(count)]
    rows = [(part, *row) for part, row in zip(cells, reviews(80), strict=True)]
    found = look(write_csv(tmp_path / "films.csv", rows, ("split", "review", "verdict")))
    assert [sum(counts.values()) for counts in found.counts.values()] == [40, 20, 20]
    assert set(found.part("validation").inputs) == {text for text, _ in reviews(20, first=40)}
    assert found.guessed[0] == "parts: column split, by its values"
    named = look(tmp_path / "films.csv", label="split")
    assert named.classes == ("Train", "test", "val")


def split_table(path, train="train", val="val", test="test", odd=None, name="split"):
    """60 rows of training, 20 of validation and 20 of test; of the last, `odd` if it is given."""
    cells = [*[train] * 60, *[val] * 20, *[test] * 20]
    cells[-1] = test if odd is None else odd
    rows = [(cell, *row) for cell, row in zip(cells, reviews(100), strict=True)]
    return write_csv(path, rows, (name, "review", "verdict"))


def test_cells_of_a_column_of_parts_are_read_as_names_of_files_are(tmp_path, look):
    path = split_table(tmp_path / "films.csv", "train_set", "Validation-1", "the test set")
    found = look(path)
    assert [sum(counts.values()) for counts in found.counts.values()] == [60, 20, 20]
    assert set(found.part("test").inputs) == {text for text, _ in reviews(20, first=80)}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"odd": ""}, r"not in 1 of 100 rows: blank \(1\)"),
        ({"odd": "extra"}, r"not in 1 of 100 rows: extra \(1\)"),
        ({"train": "fit", "odd": "two\nlines"}, r"61 of 100 rows: fit \(60\), two lines \(1\)"),
        ({"val": "held"}, r"not in 20 of 100 rows: held \(20\)"),
    ],
)
def test_column_that_says_a_part_of_some_rows_alone_is_refused(cells, said, tmp_path, look):
    path = split_table(tmp_path / "films.csv", **cells)
    with pytest.raises(UserError, match=f"column split says train.*{said}: write one of") as error:
        look(path)
    assert "\n" not in str(error.value)
    renamed = look(split_table(path, **cells, name="origin"))
    assert "parts" not in " ".join(renamed.guessed)


def test_column_of_parts_may_have_any_name(tmp_path, look):
    found = look(split_table(tmp_path / "films.csv", name="data_split"))
    assert [sum(counts.values()) for counts in found.counts.values()] == [60, 20, 20]
    assert found.guessed[0] == "parts: column data_split, by its values"
    # What has none to train on is something else there.
    assert "parts" not in " ".join(look(split_table(tmp_path / "b.csv", "dev", name="x")).guessed)


def test_column_of_parts_without_one_for_training_is_refused(tmp_path, look):
    with pytest.raises(UserError, match="has examples for test and validation alone: add those"):
        look(split_table(tmp_path / "films.csv", train="dev", test="evaluation"))


def test_column_of_parts_that_is_whole_is_taken_beside_one_that_is_not(tmp_path, look):
    rows = [
        ("test" if n == 0 else "a", "train" if n < 40 else "test", *row)
        for n, row in enumerate(reviews())
    ]
    found = look(write_csv(tmp_path / "films.csv", rows, ("set", "split", "review", "verdict")))
    assert len(found.part("test")) == 20


def test_rows_of_a_part_that_another_has_with_another_label_are_said(tmp_path, look):
    (tmp_path / "films").mkdir()
    write_csv(tmp_path / "films/train.csv", reviews())
    write_csv(tmp_path / "films/test.csv", [(reviews()[0][0], "good"), *reviews(20, first=90)])
    assert [str(one) for one in look(tmp_path / "films").left_out] == [
        "1 row that another part has with another label (test keeps it): train.csv row 1"
    ]


def test_part_without_any_row_is_said(tmp_path, look):
    (tmp_path / "films").mkdir()
    write_csv(tmp_path / "films/train.csv", reviews())
    write_csv(tmp_path / "films/val.csv", [])
    found = look(tmp_path / "films")
    assert str(found.left_out[0]) == "1 file without any row: val.csv"


def test_numbers_of_a_part_that_have_no_correlation_are_refused_and_few_warned_of(tmp_path, look):
    (tmp_path / "films").mkdir()
    numbers = [(text, n * 1.5) for n, (text, _) in enumerate(reviews(200))]
    write_csv(tmp_path / "films/train.csv", numbers, ("text", "price"))
    write_csv(tmp_path / "films/test.csv", [(f"new {n}", n) for n in range(9)], ("text", "price"))
    assert look(tmp_path / "films").warnings == ["fewer than 10 examples in test"]
    write_csv(tmp_path / "films/test.csv", [(f"new {n}", 3.5) for n in range(9)], ("text", "price"))
    with pytest.raises(UserError, match=r"price is 3\.5 in all of test: there is nothing to learn"):
        look(tmp_path / "films")


def test_test_part_without_labels_is_left_out_and_made_from_training(tmp_path, look):
    (tmp_path / "films").mkdir()
    write_csv(tmp_path / "films/train.csv", reviews())
    write_csv(tmp_path / "films/test.csv", [(f"new {n}",) for n in range(9)], ("review",))
    with pytest.raises(UserError, match=r"test\.csv has one column"):
        look(tmp_path / "films")
    write_csv(tmp_path / "films/test.csv", [(n, f"new {n}") for n in range(9)], ("id", "review"))
    found = look(tmp_path / "films")
    assert pairs_of(found) == set(reviews()) and len(found.part("test")) > 4
    assert str(found.left_out[0]).startswith("9 rows without a label: test.csv row 1")
