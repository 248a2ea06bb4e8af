"""Read pickles of numpy arrays without running the code that a pickle may hold."""

import pickle
from pathlib import Path
from typing import IO, Any

from tasks.errors import UserError


def read_numpy_pickle(file: Path | IO[bytes], encoding: str = "ASCII") -> Any:
    """The object in a pickle that holds numpy arrays, numbers, texts, lists, tuples and dicts.

    Anything else, which could run code, is refused: UserError; a damaged file is a ValueError.
    `encoding` is how texts pickled by Python 2 are read ("bytes" keeps them as they are).
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return read_numpy_pickle(opened, encoding)
    name = getattr(file, "name", "the pickle")
    try:
        return _NumpyUnpickler(file, encoding=encoding).load()
    except UserError as refused:
        raise UserError(f"{name} {refused}") from None
    except Exception as error:  # damaged bytes make pickle and numpy raise almost anything
        raise ValueError(f"{name} is damaged: {error}") from error


class _NumpyUnpickler(pickle.Unpickler):
    """Knows only what numpy writes to rebuild an array, under its old and its new name."""

    admitted = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.numeric", "_frombuffer"),
            ("_codecs", "encode"),  # how protocols 0 to 2 write bytes
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in self.admitted:
            raise UserError(
                f"holds {module}.{name}, and only numpy arrays are admitted: "
                "do not use this file, it could run code"
            )
        return super().find_class(module, name)
