"""The exceptions of tasks: what the user can put right, and outputs that are no numbers."""


class UserError(Exception):
    """Bad input or surroundings. The message says what is wrong and what to do, in one line.

    The command line prints it without a traceback and exits with status 2.
    """


class NotFinite(ArithmeticError):  # noqa: N818
    """A network's outputs are infinite or no numbers: it has no answers."""


def one_line(error: BaseException) -> str:
    """Return all that an error says, without line breaks."""
    return " ".join(str(error).split())


def with_type(error: BaseException) -> str:
    """Return an error's type and all that it says, without line breaks."""
    return ": ".join(filter(None, (type(error).__name__, one_line(error))))


def reason(error: BaseException) -> str:
    """Return the first line of what an error says, as part of a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
