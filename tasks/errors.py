"""The one exception that means "the user can put this right": it is shown as a single line."""


class UserError(Exception):
    """Bad input or surroundings. The message says what is wrong and what to do, in one line.

    The command line prints it without a traceback and exits with status 2.
    """


def reason(error: BaseException) -> str:
    """Return what an error says, as part of a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
