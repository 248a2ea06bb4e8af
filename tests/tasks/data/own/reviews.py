"""Small tables of texts to write."""

import csv

TEXT_LABEL = ("text", "label")
WORDS = ["dull", "slow", "weak", "great", "warm", "funny"]


def reviews(count=60, first=0):
    """Rows of a text and its label."""
    return [
        (f"film {n} was {WORDS[n % 6]}, they say", "bad" if n % 6 < 3 else "good")
        for n in range(first, first + count)
    ]


def write_csv(path, rows, header=("review", "verdict"), **form):
    with path.open("w", newline="", encoding=form.pop("encoding", "utf-8")) as file:
        writer = csv.writer(file, **form)
        writer.writerows([header, *rows] if header else rows)
    return path


def pairs_of(found):
    """All texts with their labels."""
    return {
        (text, found.classes[label] if found.classes else label)
        for part in ("train", "validation", "test")
        for text, label in zip(found.part(part).inputs, found.part(part).labels, strict=True)
    }
