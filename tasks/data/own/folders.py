"""Walk through a user's folder; what leads out of it or may not be read is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

from tasks.data.own.findings import Findings
from tasks.errors import UserError


def walk(root: Path, findings: Findings) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder below a resolved root, and the names of its files, sorted.

    Names that begin with a dot are passed over: programs put them there.

    Raises:
        UserError: if a folder cannot be read, or a link leads out of the root or to a folder.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{findings.where}: {error.filename} cannot be read ({error.strerror}): give yourself "
            "the right to read it, or move it elsewhere"
        ) from error

    for folder, folders, files in os.walk(root, onerror=refuse):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        visible = sorted(name for name in files if name[0] != ".")
        for name in [*folders, *visible]:
            if (here / name).is_symlink():
                _check_link(root, here / name, findings)
            elif not (here / name).is_file() and name in visible:
                raise UserError(f"{findings.where}: {here / name} is no file: remove it")
        yield here, visible


def _check_link(root: Path, path: Path, findings: Findings) -> None:
    target, name = path.resolve(), path.relative_to(root)
    if not target.is_relative_to(_repository(root)):
        raise UserError(
            f"{findings.where}: {name} is a link out of the folder, to {target}: put the files "
            "themselves there, or remove the link"
        )
    if not target.is_file():
        what = "a folder" if target.exists() else "nothing"
        raise UserError(
            f"{findings.where}: {name} is a link to {what}: "
            "put the files themselves there, or remove the link"
        )


def _repository(root: Path) -> Path:
    """Return the folder in which links are at home: of a snapshot of the hub's cache, its whole."""
    homes = (path for path in root.parents if path.name.startswith("datasets--"))
    return next(homes, root)
