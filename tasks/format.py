"""How all of the suite writes times, sizes, numbers, overrides, and names that may be meant."""

import difflib
import json
import math
from collections.abc import Iterable
from typing import Any

# Stands where there is no number.
NONE = "–"
# More names than this are not listed in one line.
MANY = 100


def duration(seconds: float) -> str:
    """A time with two significant digits, in the unit that suits it."""
    if math.isnan(seconds):
        return NONE
    units = (("s", 1), ("min", 60), ("h", 3600), ("days", 86400))
    unit, value = next(
        ((unit, seconds / size) for unit, size in units if seconds / size < 99.5),
        (units[-1][0], seconds / units[-1][1]),
    )
    return f"{value:.{1 if value < 9.95 else 0}f} {unit}"


def size(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} bytes"


def plural(number: int, thing: str) -> str:
    """A number of things, such as "1 task" and "2 tasks"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def override_value(value: Any) -> str:
    """A plain value as Hydra's command line reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(override_value, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def did_you_mean(
    name: str, valid: Iterable[str], many: str = "`python run.py --cfg job` shows all"
) -> str:
    """The valid names that may have been meant, or all of them; `many` says where many are."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=3)
    if not close:  # the last part of a key alone may be what was meant: lr for opt.lr
        last = [one.split(".")[-1] for one in valid]
        near = difflib.get_close_matches(name.split(".")[-1], last, n=1)
        close = [one for one, part in zip(valid, last, strict=True) if part in near]
        close = sorted(close, key=lambda one: one.count("."))[:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    if len(valid) > MANY:
        return many
    return f"choose from {', '.join(valid)}"
