"""What is wrong with a file becomes one line about it; mistakes of this package keep their traceback."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import BadInput, ScrditError

# What a damaged or foreign file makes its reader raise: h5py, zarr, pandas, NumPy and SciPy included, whose own errors
# are kinds of these. Anything else (AttributeError, NameError, ...) is a mistake in the reader.
FILE_ERRORS = (
    OSError, LookupError, ValueError, TypeError, EOFError, OverflowError, RuntimeError, zlib.error, struct.error,
)  # fmt: skip
BUGS = (NotImplementedError, RecursionError)
REASON_LENGTH = 200


@contextlib.contextmanager
def reading(path: Path, formats: str = "") -> Iterator[None]:
    """Around what reads `path`, which is to be of one of `formats`: BadInput where the file is to blame."""
    try:
        yield
    except BUGS:
        raise
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read: permission denied; ask its owner, or copy it") from error
    except MemoryError as error:
        raise BadInput(
            f"{path} needs more memory than there is ({_reason(error)}); it is damaged, or use a machine with more"
        ) from error
    except FILE_ERRORS as error:
        suffix = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
        what = f"no {suffix} file" if suffix else f"not {formats or 'a file of cells'}"
        raise BadInput(
            f"{path} is {what} that can be read, or is cut short ({_reason(error)}); fetch or write it again, "
            "or give it the suffix of what it is"
        ) from error


def _reason(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return text if len(text) <= REASON_LENGTH else text[:REASON_LENGTH] + "..."


@contextlib.contextmanager
def foreign() -> Iterator[None]:
    """Around a call of another package's reader and nothing else: all that it raises comes of the file."""
    try:
        yield
    except BUGS as error:  # RuntimeErrors to Python, and here the file's
        raise ValueError(f"{type(error).__name__}: {error}") from error
    except (ScrditError, *FILE_ERRORS, MemoryError):
        raise
    except Exception as error:  # anndata, of a group where an array was to be: AttributeError
        raise ValueError(str(error)) from error
