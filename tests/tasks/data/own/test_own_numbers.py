"""Numbers in a user's text files are read as they are written, or refused."""

import numpy as np
import pytest
from reviews import pairs_of, reviews, write_csv

from tasks.errors import UserError


@pytest.mark.parametrize(
    ("separator", "form", "said"),
    [
        (";", "{:.1f}", "decimal points"),
        (",", "{:.2f}", "decimal points"),
        ("\t", "{:.3f}", "decimal points"),  # none of which begins with 0 if they are of thousands
        (";", "{:.3f}", "decimal points"),
        (",", "{:,}", "between thousands"),
    ],
)
def test_numbers_are_read_by_what_their_commas_are(separator, form, said, tmp_path, look):
    numbers = [0.1 + n / 8 for n in range(60)] if "f" in form else range(1000, 61_000, 1000)
    shown = [form.format(number).replace(".", ",") for number in numbers]
    rows = [(text, price) for (text, _), price in zip(reviews(), shown, strict=True)]
    path = write_csv(tmp_path / "films.csv", rows, ("text", "price"), delimiter=separator)
    found = look(path, label="price")
    assert found.problem == "regression" and f"numbers in price: commas are {said}" in found.guessed
    mean, _ = found.scale
    assert mean == pytest.approx(np.mean(found.part("train").labels) + mean)
    if said == "decimal points":
        assert mean < 8
    else:
        assert mean > 1000


@pytest.mark.parametrize(
    ("separator", "cells", "other", "numbers", "said"),
    [
        (";", ["999", "1.234", "12.345.678"], "a", [999, 1234, 12_345_678], "between thousands"),
        (";", ["999,5", "1.234,5", "7"], "a", [999.5, 1234.5, 7], "between thousands"),
        (";", ["0.125", "1.234"], "a", [0.125, 1.234], None),
        (",", ["999.5", "1,234.5", "7"], "a", [999.5, 1234.5, 7], "between thousands"),
        (",", ["0,5", "1,234567"], "a", [0.5, 1.234567], "decimal points"),
        (",", ["999", "1.234.567"], "a", [999, 1_234_567], "between thousands"),
        (",", ["7.125", "1.234"], "a", [7.125, 1.234], "decimal points"),
        ("\t", ["999", "1.234"], "3,5", [999, 1234], "between thousands"),
        ("\t", ["999", "1,234"], "3,5", [999, 1.234], "decimal points"),
        ("\t", ["999", "1,234"], "3.5", [999, 1234], "between thousands"),
    ],
)
def test_thousands_are_told_by_the_separator_and_by_other_columns(
    separator, cells, other, numbers, said, tmp_path, look
):
    rows = [(text, cells[n % len(cells)], other) for n, (text, _) in enumerate(reviews())]
    path = write_csv(tmp_path / "films.csv", rows, ("text", "price", "x"), delimiter=separator)
    found = look(path, label="price", kind="regression")
    mean, deviation = found.scale
    read = {round(label * deviation + mean, 6) for _, label in pairs_of(found)}
    assert read == set(numbers)
    notes = [note for note in found.guessed if note.startswith("numbers in price")]
    assert any(note.endswith(f"are {said}") for note in notes) if said else not notes


def test_numbers_with_both_decimal_signs_are_warned_of(tmp_path, look):
    rows = [(text, f"{n % 5}{'.,'[n % 2]}5") for n, (text, _) in enumerate(reviews())]
    found = look(write_csv(tmp_path / "films.csv", rows, ("text", "stars")))
    assert "numbers in stars are taken for words, as some are written like 0,5" in found.warnings[0]


@pytest.mark.parametrize("text", ["film {} was dull", '"film {}, was dull"', "film {} was 3,5"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_part_no_rows_and_are_no_names(text, separator, tmp_path, look):
    rows = [f"{text.format(n)}{separator}{n},5" for n in range(60)]
    path = tmp_path / "films.csv"
    path.write_text("\n".join(rows))
    found = look(path)
    assert found.columns == {"text": "column1", "label": "column2"}
    mean, deviation = found.scale
    numbers = {round(label * deviation + mean, 6) for _, label in pairs_of(found)}
    assert numbers == {n + 0.5 for n in range(60)}


def test_number_that_some_cells_do_not_say_is_refused_and_makes_no_classes_of_all(tmp_path, look):
    rows = [(text, f"{n % 30 / 10}") for n, (text, _) in enumerate(reviews(200))]
    rows[7] = (rows[7][0], "three")
    path = write_csv(tmp_path / "films.csv", rows, ("text", "score"))
    with pytest.raises(UserError, match=r"score is a number but in 1 row \(three\): correct or"):
        look(path)
    assert len(look(path, kind="classification").classes) == 30
    rows = [(text, "?!" if n == 7 else n + 0.5) for n, (text, _) in enumerate(reviews(200))]
    with pytest.raises(UserError, match=r"price is a number but in 1 row \(\?!\): correct or"):
        look(write_csv(tmp_path / "films.csv", rows, ("text", "price")))
    words = [(text, f"{'A' * (n % 2)}{n % 30}") for n, (text, _) in enumerate(reviews(200))]
    assert look(write_csv(tmp_path / "words.csv", words)).problem == "classification"


def test_numbers_of_a_column_are_read_beside_a_cell_that_is_none(tmp_path, look):
    rows = [(text, "price" if n == 0 else f"{n},5") for n, (text, _) in enumerate(reviews())]
    path = write_csv(tmp_path / "films.csv", rows, ("text", "x"), delimiter=";")
    with pytest.raises(UserError, match=r"x is a number but in 1 row \(price\): correct or empty"):
        look(path, label="x")


@pytest.mark.parametrize(("odd", "rows"), [(9_000, 1), (-9_999, 3)])
def test_sum_or_sign_for_no_number_is_warned_of(odd, rows, tmp_path, look):
    def prices(first):
        return [(t, odd if n < first else n * n / 60) for n, (t, _) in enumerate(reviews(100))]

    found = look(write_csv(tmp_path / "films.csv", prices(rows), ("text", "price")))
    assert f"price is {odd} in {rows} row" in found.warnings[0]
    path = write_csv(tmp_path / "films.csv", prices(0), ("text", "price"))
    assert not look(path).warnings
    stars = [(text, 1 if n % 8 == 0 else 5 - n % 2) for n, (text, _) in enumerate(reviews(100))]
    path = write_csv(tmp_path / "films.csv", stars, ("text", "stars"))
    assert not look(path, kind="regression").warnings
