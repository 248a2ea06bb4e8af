"""What was found out about a user's data: guesses, what was left out, warnings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.errors import UserError
from tasks.format import plural

NAMED = 3  # this many of what was left out are named in a line
TOLERATED = 0.01  # a larger part of damaged images or rows is refused


@dataclass(frozen=True)
class LeftOut:
    """Examples, or files, that are not used."""

    names: tuple[str, ...]
    thing: str  # "row"
    why: str  # such as "without a label"

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.names)

    def __str__(self) -> str:
        return f"{plural(self.count, self.thing)} {self.why}: {listed(self.names)}"


@dataclass
class Findings:
    """Sentences for the user, in the order in which they were found."""

    where: str  # the path as the user gave it
    guessed: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def leave_out(self, thing: str, why: str, names: Sequence[str]) -> None:
        """Note what is not used, if anything."""
        if names:
            self.left_out.append(LeftOut(tuple(names), thing, why))

    def because(self) -> str:
        """Return what was left out, in brackets, where it may be why nothing is left."""
        gone = "; ".join(f"left out: {one}" for one in self.left_out)
        return f" ({gone})" if gone else ""

    def leave_out_damaged(self, thing: str, names: Sequence[str], total: int, todo: str) -> None:
        """Note damaged examples.

        Raises:
            UserError: if they are more than a hundredth of all, and more than one.
        """
        if len(names) > max(1, TOLERATED * total):
            damaged = f"{len(names)} of {plural(total, thing)} are damaged: {listed(names)}"
            raise UserError(f"{self.where}: {damaged}; {todo}")
        self.leave_out(thing, "damaged", names)


def listed(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
