"""The exceptions of tasks: what the user can put right, and outputs that are no numbers."""

import difflib

# More names than this are not listed in one line.
MANY = 100


class UserError(Exception):
    """Bad input or surroundings. The message says what is wrong and what to do, in one line.

    The command line prints it without a traceback and exits with status 2.
    """


class NotFinite(ArithmeticError):  # noqa: N818
    """A network's outputs are infinite or no numbers: it has no answers."""


def reason(error: BaseException) -> str:
    """Return what an error says, as part of a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(name: str, valid: list[str]) -> str:
    """Return the valid names that may have been meant, or all of them."""
    close = difflib.get_close_matches(name, valid, n=3)
    if not close:  # the last part of a key alone may be what was meant: lr for opt.lr
        last = [key.split(".")[-1] for key in valid]
        near = difflib.get_close_matches(name.split(".")[-1], last, n=1)
        close = [key for key, part in zip(valid, last, strict=True) if part in near]
        close = sorted(close, key=lambda key: key.count("."))[:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    if len(valid) > MANY:
        return "`python run.py --cfg job` shows all"
    return f"choose from {', '.join(valid)}"
