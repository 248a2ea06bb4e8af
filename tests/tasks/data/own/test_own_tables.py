"""A user's table: files as people have them, guessed columns, and bad ones refused in a line."""

import csv
import gzip
import json
import pickle
import tracemalloc
import unicodedata
import zipfile
from datetime import datetime
from decimal import Decimal

import pyarrow
import pytest
from pyarrow import parquet
from reviews import TEXT_LABEL, pairs_of, reviews, write_csv

from runner.overrides import path_in
from tasks.data.own import text_files
from tasks.errors import UserError


def test_columns_are_guessed_said_and_in_the_words_of_a_run(tmp_path, look):
    path = write_csv(
        tmp_path / "films.csv", [(n, *row) for n, row in enumerate(reviews())], ("id", "a", "b")
    )
    found = look(path)
    assert pairs_of(found) == set(reviews()) and found.classes == ("bad", "good")
    assert found.guessed == [
        "label: column b, of 2 values",
        "text: column a, the one with the longest texts",
        "columns that are not read: id",
    ]
    assert found.overrides[2:] == ["task.data.text=a", "task.data.label=b"]


@pytest.mark.parametrize(
    "kind", ["csv", "tsv", "semicolon", "jsonl", "json", "gzip", "crlf", "bare"]
)
def test_every_form_of_a_table_gives_the_same_examples(kind, tmp_path, look):
    path, rows = tmp_path / "films.csv", reviews()
    dicts = [{"review": text, "verdict": label} for text, label in rows]
    if kind == "tsv":
        path = write_csv(tmp_path / "films.tsv", rows, delimiter="\t")
    elif kind == "semicolon":
        write_csv(path, rows, delimiter=";")
    elif kind == "jsonl":
        path = tmp_path / "films.jsonl"
        path.write_text("\n".join(map(json.dumps, dicts)))
    elif kind == "json":
        path = tmp_path / "films.json"
        path.write_text(json.dumps(dicts))
    elif kind == "bare":
        write_csv(path, rows, header=None)
    else:
        write_csv(path, rows, lineterminator="\r\n" if kind == "crlf" else "\n")
    if kind == "gzip":
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_suffix(".csv.gz")
    found = look(path)
    assert pairs_of(found) == set(rows)
    said = {"semicolon": "separated by ';'", "bare": "the first row holds no names"}.get(kind, "")
    assert said in " ".join(found.guessed)


def test_link_tells_by_its_name_what_a_file_without_one_is(tmp_path, look):
    write_csv(tmp_path / "5e2f", reviews(), TEXT_LABEL)
    (tmp_path / "reviews.csv").symlink_to(tmp_path / "5e2f")
    assert look(tmp_path / "reviews.csv").classes == ("bad", "good")


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", "utf-8-sig, by its byte order mark"),
        ("utf-16", "utf-16, by its byte order mark"),
        ("utf-16-le", "utf-16-le, by its zeros"),
        ("cp1252", "Windows-1252"),
    ],
)
def test_encodings_are_found_and_said(encoding, said, tmp_path, look):
    rows = [(f"{text} – à Köln, café “né”", label) for text, label in reviews()]
    found = look(write_csv(tmp_path / "films.csv", rows, encoding=encoding))
    assert pairs_of(found) == set(rows)
    assert (said in found.guessed[0]) if said else not any("encoding" in g for g in found.guessed)


def test_large_table_takes_few_bytes_of_memory_a_sign(tmp_path, look):
    rows = [(f"{number} {'word ' * 200}", label) for number, (_, label) in enumerate(reviews(3000))]
    path = write_csv(tmp_path / "films.csv", rows)
    look(path)  # with what it imports
    tracemalloc.start()
    look(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size


def test_quotes_line_breaks_and_separators_in_texts(tmp_path, look):
    rows = [(f'{text}, "so";\nor\tnot', label) for text, label in reviews()]
    assert pairs_of(look(write_csv(tmp_path / "films.csv", rows))) == set(rows)


def test_quotes_of_a_tsv_that_open_and_never_close_are_signs_of_the_text(tmp_path, look):
    rows = [(f'"{text}', label) for text, label in reviews()]
    path = tmp_path / "films.tsv"
    path.write_text("\n".join("\t".join(row) for row in [("review", "verdict"), *rows]))
    found = look(path)
    assert pairs_of(found) == set(rows) and "quotes are parts of the texts" in found.guessed[0]


def test_how_long_cells_may_be_elsewhere_is_as_before_a_table_was_read(tmp_path, look):
    before = csv.field_size_limit()
    look(write_csv(tmp_path / "films.csv", [('"so" it is', "bad"), *reviews()]))
    assert csv.field_size_limit() == before


def test_two_quotes_that_are_signs_of_texts_hide_none_of_the_rows_between(tmp_path, look):
    texts = [(text.replace(",", ""), label) for text, label in reviews()]
    rows = [(f'"{text}' if n in (20, 40) else text, label) for n, (text, label) in enumerate(texts)]
    path = tmp_path / "films.csv"
    path.write_text("\n".join(map(",".join, [("review", "verdict"), *rows])))
    found = look(path)
    assert pairs_of(found) == set(rows) and "quotes are parts of the texts" in found.guessed[0]
    # Where another text holds a separator, nobody can tell: it is said.
    path.write_text(path.read_text() + '\n"so, so",good')
    assert any("rows may have run together" in line for line in look(path).warnings)
    whole = [f'"{text}, "so" so",{label}' for text, label in texts]
    path.write_text("\n".join(["review,verdict", *whole]))
    assert not look(path).warnings


def test_empty_cells_repeated_rows_and_contradictions_are_counted_and_named(tmp_path, look):
    rows = reviews()
    rows += [("", "bad"), ("  ", "bad"), ("no verdict", ""), rows[4], (rows[5][0], "bad")]
    found = look(write_csv(tmp_path / "films.csv", rows))
    assert pairs_of(found) == set(reviews())
    assert [str(one) for one in found.left_out] == [
        "2 rows without a text: row 61, row 62",
        "1 row without a label: row 63",
        "1 row that came before with another label (the first stays): row 65",
        "1 row that came before: row 64",
    ]


def test_damaged_rows_are_left_out_by_line_and_many_are_refused(tmp_path, look):
    path = write_csv(tmp_path / "films.csv", reviews(300))
    whole = path.read_text()
    path.write_text(whole + "a,b,c,d\n")
    found = look(path)
    assert str(found.left_out[0]) == "1 row damaged: line 302"
    path.write_text(whole + "a,b,c,d\n" * 20)
    with pytest.raises(UserError, match="20 of 320 rows are damaged: line 302, line 303"):
        look(path)
    lines = path.with_name("films.jsonl")
    rows = [json.dumps({"text": text, "label": label}) for text, label in reviews()]
    lines.write_text("\n".join([*rows, "{"]))
    assert str(look(lines).left_out[0]) == "1 row damaged: line 61"


@pytest.mark.parametrize("first", [2, 3, 5])
def test_rows_with_too_many_cells_are_damaged_wherever_they_are(first, tmp_path, look):
    lines = ["text,label", *(f'"{text}",{label}' for text, label in reviews(300))]
    for line in (first, first + 100):
        lines[line - 1] = lines[line - 1].replace('"', "")  # whose comma parts the text, then
    path = tmp_path / "films.csv"
    path.write_text("\n".join(lines))
    found = look(path)
    assert found.classes == ("bad", "good")
    assert str(found.left_out[0]) == f"2 rows damaged: line {first}, line {first + 100}"
    lines[first + 50] = "a,b,c,d"
    path.write_text("\n".join([*lines, "e,f,g"]))
    with pytest.raises(UserError, match=f"4 of 301 rows are .*line {first}, line {first + 51}, "):
        look(path)


def test_empty_lines_count_as_lines_and_not_as_rows(tmp_path, look):
    lines = ["text,label", *(f'"{text}",{label}' for text, label in reviews())]
    path = tmp_path / "films.csv"
    path.write_text("\n".join(["", *lines[:9], " ", *lines[9:], "a,b,c,d", ""]))
    found = look(path)
    assert pairs_of(found) == set(reviews())
    assert [str(one) for one in found.left_out] == ["1 row damaged: line 64"]


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n"])
def test_line_that_names_the_separator_for_excel_is_no_row(first, tmp_path, look):
    path = tmp_path / "films.csv"
    path.write_text(first + "\n".join(["text;label", *map(";".join, reviews())]), newline="")
    found = look(path)
    assert found.columns == {"text": "text", "label": "label"}
    assert pairs_of(found) == set(reviews()) and not found.left_out


def test_space_before_a_quote_is_no_part_of_a_cell(tmp_path, look):
    rows = [f'"{label}", "{text}"' for text, label in reviews()]
    (tmp_path / "films.csv").write_text("\n".join(['"label", "text"', *rows]))
    found = look(tmp_path / "films.csv")
    assert found.classes == ("bad", "good") and pairs_of(found) == set(reviews())
    rows = [f'{label}, "film" {n}' for n, (_, label) in enumerate(reviews())]
    (tmp_path / "odd.csv").write_text("\n".join(["label,text", *rows]))
    assert look(tmp_path / "odd.csv").part("train").inputs[0].startswith('"film" ')


def test_unquoted_commas_are_no_reason_to_say_that_there_is_one_column(tmp_path, look):
    path = tmp_path / "films.csv"
    path.write_text("\n".join(["text,label", *map(",".join, reviews())]))
    with pytest.raises(UserError, match="most rows have not as many cells as the first, which has"):
        look(path)


def test_separators_at_the_ends_of_rows_make_no_column(tmp_path, look):
    path = write_csv(tmp_path / "films.csv", [(*row, "") for row in reviews()])
    assert pairs_of(look(path)) == set(reviews())


def test_texts_that_differ_in_white_space_alone_or_look_the_same_are_one(tmp_path, look):
    rows = [(f"{text} né", label) for text, label in reviews()]
    spaced = [(text.replace(" ", " \n "), label) for text, label in rows[:20]]
    decomposed = [(unicodedata.normalize("NFD", text), label) for text, label in rows[20:40]]
    found = look(write_csv(tmp_path / "films.csv", [*rows, *spaced, *decomposed]))
    assert pairs_of(found) == set(rows)
    assert str(found.left_out[0]).startswith("40 rows that came before: row 61, row 62")


def test_columns_that_are_named_are_taken_and_unknown_ones_refused(tmp_path, look):
    rows = [(text, text[::-1], label, label) for text, label in reviews()]
    path = write_csv(tmp_path / "films.csv", rows, ("text", "my text", "label", "an=other, 'one'"))
    found = look(path, text="my text", second_text="text", label="an=other, 'one'")
    assert {text for text, _ in pairs_of(found)} == {(row[1], row[0]) for row in rows}
    assert found.guessed == ["columns that are not read: label"]
    with pytest.raises(UserError, match="has no column label=lable: did you mean label"):
        look(path, label="lable")


def test_pairs_are_known_by_their_names(tmp_path, look):
    rows = [(text, "why?", label) for text, label in reviews()]
    found = look(write_csv(tmp_path / "nli.csv", rows, ("premise", "hypothesis", "label")))
    assert found.columns == {"text": "premise", "second_text": "hypothesis", "label": "label"}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([True, False], ("False", "True")),
        ([1, 2], ("1", "2")),
        ([10.0, 9.0], ("9", "10")),
        (["b ", "a"], ("a", "b")),
        ([-1, 1], ("-1", "1")),
    ],
)
def test_labels_are_words_numbers_or_truths(labels, classes, tmp_path, look):
    path = tmp_path / "films.jsonl"
    rows = [{"text": text, "label": labels[n % 2]} for n, (text, _) in enumerate(reviews())]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert look(path).classes == classes


def test_number_of_many_values_is_a_regression_unless_the_user_says_otherwise(tmp_path, look):
    rows = [(text, f"{1e5 + 7.5 * (n % 30)}") for n, (text, _) in enumerate(reviews(90))]
    path = write_csv(tmp_path / "prices.csv", rows, ("text", "price"))
    found = look(path)
    mean, deviation = found.scale
    prices = {f"{label * deviation + mean:.1f}" for _, label in pairs_of(found)}
    assert prices == {price for _, price in rows} and found.problem == "regression"
    assert abs(found.part("train").labels.mean()) < 1e-9
    assert "price is a number with 30 values: a regression" in " ".join(found.guessed)
    assert found.overrides[0] == "task=own_text_regression"
    classes = look(path, kind="classification")
    assert len(classes.classes) == 30 and classes.overrides[0] == "task=own_texts"


def test_classes_that_differ_in_signs_that_are_not_seen_are_warned_of(tmp_path, look):
    rows = [(text, label + "\u200b" * (n % 3 == 0)) for n, (text, label) in enumerate(reviews())]
    found = look(write_csv(tmp_path / "films.csv", rows))
    assert len(found.classes) == 4 and "signs that are not seen: bad, bad" in found.warnings[0]


@pytest.mark.parametrize("name", ["patient_id", "userId", "Speaker"])
def test_rows_of_one_person_in_several_parts_are_warned_of(name, tmp_path, look):
    rows = [(f"p{n // 5}", *row) for n, row in enumerate(reviews(100))]
    header = (name, "text", "label")
    (warning,) = look(write_csv(tmp_path / "films.csv", rows, header)).warnings
    assert warning.startswith(f"rows with one {name} are in several parts")
    parts = [("test" if n % 5 else "train", *row) for n, row in enumerate(rows)]
    assert not look(write_csv(tmp_path / "a.csv", parts, ("split", *header))).warnings
    once = [(n, *row) for n, row in enumerate(reviews(100))]
    assert not look(write_csv(tmp_path / "b.csv", once, header)).warnings
    assert not look(write_csv(tmp_path / "c.csv", rows, ("topic_id", "text", "label"))).warnings


@pytest.mark.parametrize("sign", ["NA", "n/a", "#NV", "-", "?"])
def test_number_that_is_not_there_is_no_class(sign, tmp_path, look):
    rows = [(text, sign if n == 7 else n % 5) for n, (text, _) in enumerate(reviews())]
    found = look(write_csv(tmp_path / "films.csv", rows, ("text", "stars")))
    assert found.classes == ("0", "1", "2", "3", "4")
    assert "numbers in stars: NA and the like are empty cells" in found.guessed
    assert str(found.left_out[0]) == "1 row without a label: row 8"
    words = [(text, "nan" if n % 6 == 0 else label) for n, (text, label) in enumerate(reviews())]
    found = look(write_csv(tmp_path / "words.csv", words))
    assert found.classes == ("bad", "good", "nan")
    assert found.warnings == ["nan is a class: empty the cells if it is none"]


def test_long_numbers_are_classes_of_their_own(tmp_path, look):
    users = [1234567890123450001, 1234567890123450002, 1234567890123450003]
    rows = [(text, users[n % 3]) for n, (text, _) in enumerate(reviews())]
    found = look(write_csv(tmp_path / "films.csv", rows, ("text", "user")), label="user")
    assert found.classes == tuple(map(str, users))


def test_long_decimals_of_parquet_are_classes_of_their_own(tmp_path, look):
    users = [Decimal(12345678901234567890 + n % 3) for n in range(60)]
    table = pyarrow.table({"text": [text for text, _ in reviews()], "user": users})
    parquet.write_table(table, tmp_path / "films.parquet")
    assert look(tmp_path / "films.parquet", label="user").classes == tuple(map(str, users[:3]))


def test_column_of_values_that_are_not_read_is_named(tmp_path, look):
    """Else another one is taken for the label, and nothing is said of the one that has its name."""
    days = [datetime(2026, 1, 1 + n % 3) for n in range(60)]
    texts, verdicts = zip(*reviews(), strict=True)
    table = pyarrow.table({"text": texts, "label": days, "source": verdicts})
    parquet.write_table(table, tmp_path / "films.parquet")
    said = " ".join(look(tmp_path / "films.parquet").guessed)
    assert "column source" in said and "not read: label (timestamp[us])" in said
    with pytest.raises(UserError, match="label=label holds timestamp"):
        look(tmp_path / "films.parquet", label="label")


def test_classes_that_are_one_number_are_warned_of(tmp_path, look):
    rows = [(text, ("1.1", "1.10", "2.1")[n % 3]) for n, (text, _) in enumerate(reviews())]
    found = look(write_csv(tmp_path / "films.csv", rows))
    assert found.classes == ("1.1", "2.1") and "1.1 and 1.10;" in found.warnings[0]


def test_number_beyond_all_floats_is_none(tmp_path, look):
    rows = [(text, "1e999" if n == 3 else n % 50) for n, (text, _) in enumerate(reviews())]
    path = write_csv(tmp_path / "films.csv", rows, ("text", "price"))
    with pytest.raises(UserError, match="price has '1e999', which is no number"):
        look(path, label="price", kind="regression")


def test_names_of_classes_that_look_the_same_are_one(tmp_path, look):
    forms = ("NFC", "NFD")
    rows = [
        (text, unicodedata.normalize(forms[n % 2], "café" if label == "bad" else "thé"))
        for n, (text, label) in enumerate(reviews())
    ]
    assert look(write_csv(tmp_path / "films.csv", rows)).classes == ("café", "thé")


def test_number_that_counts_the_rows_is_not_taken_for_the_label(tmp_path, look):
    rows = [(n, text, n * 1.5) for n, (text, _) in enumerate(reviews(90))]
    found = look(write_csv(tmp_path / "prices.csv", rows, ("no", "text", "price")))
    assert found.guessed[0] == "label: column price, the only one of numbers"


def test_stars_are_classes_unless_the_user_says_otherwise(tmp_path, look):
    rows = [(text, n % 5 + 1) for n, (text, _) in enumerate(reviews())]
    path = write_csv(tmp_path / "films.csv", rows, ("text", "stars"))
    assert look(path).classes == ("1", "2", "3", "4", "5")
    assert look(path, kind="regression").problem == "regression"


def test_counted_labels_are_classes_by_their_name(tmp_path, look):
    rows = [(text, n % 25) for n, (text, _) in enumerate(reviews(100))]
    assert len(look(write_csv(tmp_path / "a.csv", rows, TEXT_LABEL)).classes) == 25
    assert look(write_csv(tmp_path / "a.csv", rows, ("text", "score"))).problem == "regression"


def test_halves_of_signs_and_huge_numbers_in_json(tmp_path, look):
    path = tmp_path / "films.jsonl"
    rows = [{"text": f"\ud83d {text}", "label": n % 2} for n, (text, _) in enumerate(reviews())]
    path.write_text("\n".join(map(json.dumps, [*rows, {"text": "large", "label": 10**400}])))
    found = look(path)
    assert found.classes == ("0", "1") and str(found.left_out[0]).endswith(
        "class: row 61 (1" + "0" * 400 + ")"
    )
    assert all("\ufffd" in text for text, _ in pairs_of(found))


def test_one_to_99_is_warned_of_and_both_classes_are_in_every_part(tmp_path, look):
    rows = [(f"text {n}", "rare" if n % 100 == 0 else "often") for n in range(400)]
    found = look(write_csv(tmp_path / "few.csv", rows))
    assert all(part["rare"] for part in found.counts.values())
    assert "99.0% of the examples are often" in found.warnings[0]
    assert "balanced accuracy" in found.warnings[0]


def test_two_examples_a_class_are_divided_and_single_ones_left_out(tmp_path, look):
    rows = [(f"text {n}", f"class {n // 2}") for n in range(80)] + [("alone", "hermit")]
    found = look(write_csv(tmp_path / "few.csv", rows, TEXT_LABEL))
    assert all(count == 1 for count in found.counts["train"].values())
    assert sum(found.counts["test"].values()) + sum(found.counts["validation"].values()) == 40
    assert str(found.left_out[0]).endswith("no other of the same class: row 81 (hermit)")


@pytest.mark.parametrize("name", ["date", "fold", "split"])
def test_date_or_fold_is_no_label_where_it_is_the_only_column_of_numbers(name, tmp_path, look):
    rows = [(text, 2020 + n % 3) for n, (text, _) in enumerate(reviews())]
    path = write_csv(tmp_path / "films.csv", rows, ("text", name))
    with pytest.raises(UserError, match="no column looks like a label"):
        look(path)
    assert look(path, label=name).classes == ("2020", "2021", "2022")


@pytest.mark.parametrize("values", [("2024-01-01", "2024-02-01"), ("0", "1")], ids=["date", "fold"])
def test_date_or_fold_is_not_taken_for_the_label(values, tmp_path, look, request):
    name = request.node.callspec.id
    rows = [(text, values[n % 2], f"class {n % 4}") for n, (text, _) in enumerate(reviews())]
    found = look(write_csv(tmp_path / "films.csv", rows, ("text", name, "kind of film")))
    assert len(found.classes) == 4


def test_first_column_without_names_is_the_label_if_its_values_come_again(tmp_path, look):
    rows = [(label, text[-9:-3], text) for text, label in reviews()]
    found = look(write_csv(tmp_path / "films.tsv", rows, None, delimiter="\t"))
    assert found.columns == {"text": "column3", "label": "column1"}
    assert pairs_of(found) == set(reviews())


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_index_that_pandas_wrote_is_no_label(name, tmp_path, look):
    rows = [(7 * n, text, text[::-1]) for n, (text, _) in enumerate(reviews())]
    with pytest.raises(UserError, match="no column looks like a label"):
        look(write_csv(tmp_path / "films.csv", rows, (name, "text", "other")))


def bomb(path):
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"text,label\n" + b"a" * (text_files.UNSUSPECTED + 2**20))


def pickled(path):
    path.write_bytes(pickle.dumps(["text"]))


def zipped(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "b")


BAD = {
    "packed.csv.gz": (bomb, "far more than its own size"),
    "broken.csv.gz": (lambda path: path.write_bytes(b"\x1f\x8b\x08\0cut"), "is damaged"),
    "rows.pkl": (pickled, "is a pickle, which can run programs"),
    "rows.csv": (pickled, "is a pickle, which can run programs"),
    "rows.xlsx": (zipped, "is a spreadsheet: save it as CSV"),
    "rows.zip": (zipped, "is an archive: unpack it"),
    "empty.csv": (lambda path: path.write_bytes(b""), "is empty"),
    "noise.csv": (lambda path: path.write_bytes(bytes(range(256)) * 9), "is no text"),
    "bytes.csv": (lambda path: path.write_bytes(bytes(range(1, 256)) * 9), "is no text"),
    "one.csv": (lambda path: write_csv(path, [("a",)] * 30, ("text",)), "has one column"),
    "open.csv": (lambda path: path.write_text('text,label\n"a,b,c\n'), "close its quotes"),
    "ids.csv": (
        lambda path: write_csv(path, [(f"t{n}", n) for n in range(60)], TEXT_LABEL),
        "label has 60 values in 60 rows (0, 1, 2, ...), as an id",
    ),
    "texts.csv": (
        lambda path: write_csv(path, [(t, t) for t, _ in reviews()], ("text", "other")),
        "no column looks like a label",
    ),
    "many.csv": (
        lambda path: write_csv(
            path, [(f"t{n}", f"c{n % 10_000}") for n in range(20_000)], TEXT_LABEL
        ),
        "has 10000 classes (c0, c1, c10 and 9997 more), and 1000 are the most",
    ),
    "one_class.csv": (
        lambda path: write_csv(path, [(t, "a") for t, _ in reviews()], TEXT_LABEL),
        "all 60 examples are of one class, a",
    ),
    "numbers.csv": (
        lambda path: write_csv(path, [(n * 7.5, n % 2) for n in range(60)], ("size", "label")),
        "no column holds texts beside the label label",
    ),
    "short.csv": (lambda path: write_csv(path, reviews(9)), "has 9 examples that can be used"),
    "names.csv": (lambda path: write_csv(path, []), "has no rows"),
    "paths.csv": (
        lambda path: write_csv(path, [(f"{n}.jpg", n % 2) for n in range(60)], TEXT_LABEL),
        "text holds names of images: put the images into a folder for each class",
    ),
    "lists.jsonl": (
        lambda path: path.write_text('{"text": "a", "label": ["b", "c"]}\n' * 30),
        "label holds neither words nor numbers",
    ),
    "films.dat": (lambda path: path.write_text("hello"), "cannot tell what this file is"),
    "list.json": (lambda path: path.write_text("[1, 2, 3, 4]"), "4 of 4 rows are damaged"),
    "columns.json": (
        lambda path: path.write_text(json.dumps({name: ["a", "b"] for name in TEXT_LABEL})),
        "is one JSON object of text, label: give a list of objects, one for each row",
    ),
    "wrapped.json": (
        lambda path: path.write_text('{\n"data": [\n{"text": "a", "label": 1}]}'),
        "is one JSON object of data: give a list of objects, one for each row",
    ),
    "arrays.jsonl": (
        lambda path: path.write_text("\n".join(map(json.dumps, reviews()))),
        "60 of 60 rows are damaged: line 1, line 2",
    ),
    "cut.json": (lambda path: path.write_text('[{"a": 1'), "is no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_in_a_line_and_nothing_is_kept(name, tmp_path, look):
    write, what = BAD[name]
    write(tmp_path / name)
    with pytest.raises(UserError) as said:
        look(tmp_path / name)
    line = str(said.value)
    assert what in line and line.startswith(str(tmp_path / name)) and "\n" not in line
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert all(path.parent.name == "digests" for path in kept)


def test_several_tables_are_one_if_their_columns_are_the_same(tmp_path, look):
    (tmp_path / "films").mkdir()
    write_csv(tmp_path / "films/a.csv", reviews(40))
    write_csv(tmp_path / "films/b.csv", reviews(20, first=40))
    assert pairs_of(look(tmp_path / "films")) == set(reviews())
    write_csv(tmp_path / "films/c.csv", reviews(), TEXT_LABEL)
    with pytest.raises(UserError, match=r"with different columns, a\.csv and c\.csv: give one"):
        look(tmp_path / "films")


def test_columns_of_one_name_are_told_apart(tmp_path, look):
    rows = [(text, label, label, label, "") for text, label in reviews()]
    names = ("text", "label", "label", "label3", "")
    found = look(write_csv(tmp_path / "films.csv", rows, names))
    assert found.guessed[-1] == "columns that are not read: label3_, label3, column5"


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("What could be better? " * 5, "Rating"), ("What could be better?", "Rating")),
        (("text", "label", "2019"), ("text", "label")),
        (("two\nlines", "a  b"), ("two lines", "a b")),
    ],
)
def test_first_row_that_is_unlike_those_below_holds_names(names, columns, tmp_path, look):
    rows = [(*row, n)[: len(names)] for n, row in enumerate(reviews())]
    found = look(write_csv(tmp_path / "films.csv", rows, names))
    assert pairs_of(found) == set(reviews())
    assert found.columns["text"].startswith(columns[0]) and found.columns["label"] == columns[1]


def test_tables_beside_a_stray_image_are_tables(tmp_path, look):
    write_csv(tmp_path / "films.csv", reviews())
    (tmp_path / "logo.png").write_bytes(b"")
    assert pairs_of(look(tmp_path)) == set(reviews())


def test_words_of_a_run_hold_wherever_it_starts(tmp_path, look, monkeypatch):
    path = write_csv(tmp_path / "films.csv", reviews())
    monkeypatch.chdir(tmp_path)
    found = look("films.csv")
    assert found.overrides[1] == f"task.data.path={path}"
    assert found.describe()[0].startswith("films.csv: texts")


@pytest.mark.parametrize("name", ["'label'", "null", '"x', "price ${usd}", "is (ok)?, =", "it's"])
def test_column_of_any_name_is_in_the_words_of_a_run(name, tmp_path, look):
    path = tmp_path / "films.jsonl"
    path.write_text("\n".join(json.dumps({"text": t, name: label}) for t, label in reviews()))
    assert path_in(look(path, label=name).overrides[-1]) == name


def test_path_that_is_not_there_and_wrong_kind(tmp_path, look):
    with pytest.raises(UserError, match="there is no file or folder"):
        look(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="File name too long"):
        look("x" * 300)
    with pytest.raises(UserError, match="there is no file or folder : correct"):
        look("")
    with pytest.raises(UserError, match="kind=classes: must be one of"):
        look(write_csv(tmp_path / "films.csv", reviews()), kind="classes")
    with pytest.raises(UserError, match="verdict has 'bad', which is no number"):
        look(tmp_path / "films.csv", kind="regression", label="verdict")
