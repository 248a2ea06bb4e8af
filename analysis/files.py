"""Writes tables and figures: where they differ, and without those that are no longer made."""

from collections.abc import Collection, Mapping
from pathlib import Path

from analysis.records import write_if_changed

# Says whose a file is: only files with it are removed when they are no longer made.
MADE_BY = "made by scripts/tables.py of dog-bench, do not edit"


def mark(made_by: str) -> str:
    """The comment at the beginning of a markdown or svg file that says what made it."""
    return f"<!-- {made_by} -->"


def write_files(
    files: Mapping[str, str],
    folder: Path,
    suffix: str,
    made_by: str = MADE_BY,
    companions: Collection[str] = (),
) -> None:
    """Write the files by their names, where they differ, and remove those no longer made.

    These are files with this suffix and our mark near their beginning, each with those beside it
    that have its name and a suffix of `companions`.
    """
    for name, content in files.items():
        write_if_changed(folder / name, content)
    for path in sorted(folder.glob(f"*{suffix}")):
        if path.name in files or mark(made_by) not in path.read_text(errors="replace")[:1000]:
            continue
        for gone in (*companions, suffix):  # that with the mark last
            path.with_suffix(gone).unlink(missing_ok=True)
