"""The exceptions of tasks: what the user can put right, and outputs that are no numbers."""


class UserError(Exception):
    """Bad input or surroundings. The message says what is wrong and what to do, in one line.

    The command line prints it without a traceback and exits with status 2.
    """


class NotFinite(ArithmeticError):  # noqa: N818
    """A network's outputs are infinite or no numbers: it has no answers."""


def reason(error: BaseException) -> str:
    """Return what an error says, as part of a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
