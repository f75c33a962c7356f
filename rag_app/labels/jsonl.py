"""JSON Lines files that several processes add to: each change is locked, and is made wholly or not at all."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from filelock import FileLock, Timeout

from rag_app.errors import RagError
from rag_app.words import Message, msg

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a file, none if it is missing. RagError, which names the line, if one is not a JSON object."""
    try:
        text = path.read_text("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RagError(msg("{path} cannot be read ({reason})", path=path, reason=error), msg("fix or remove it")) from None
    return [row for _, row in numbered(path, text)]


def numbered(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Yield number and row of each line of a file's text that has one. RagError as for `read`."""
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise bad_line(path, n, msg("is not JSON ({reason})", reason=error)) from None
        if not isinstance(row, dict):
            raise bad_line(path, n, msg("is not a JSON object"))
        yield n, row


def bad_line(path: Path, n: int, what: Message) -> RagError:
    """Return the error of a line, numbered from 1, of a file that people write; `what` follows its name."""
    return RagError(msg("{path}, line {n} {what}", path=path, n=n, what=what), msg("fix or remove the line"))


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is text that can be encoded: JSON can hold lone surrogates, which cannot."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def append(path: Path, row: Row) -> None:
    """Add a row at the end. RagError if the file cannot be written."""
    with locked(path):
        held = path.read_bytes() if path.exists() else b""
        joint = b"" if not held or held.endswith(b"\n") else b"\n"
        try:
            with path.open("ab") as file:
                file.write(joint + _line(row))
        except OSError:
            # Half a line would break every later read.
            os.truncate(path, len(held))
            raise


def change(path: Path, rows: Callable[[list[Row]], list[Row]]) -> None:
    """Replace the rows by what a function returns for them. RagError if the file cannot be read or written."""
    # A link stays one.
    path = path.resolve()
    with locked(path):
        partial = path.with_name(f".{path.name}.part")
        partial.write_bytes(b"".join(map(_line, rows(read(path)))))
        partial.replace(path)


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, or of what a path stands for. RagError if another process does for 10 s."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=10):
            yield
    except Timeout:
        raise RagError(msg("{path} has been locked by another process for 10 s", path=path), msg("try again")) from None
    except OSError as error:
        raise RagError(
            msg("{path} cannot be written ({reason})", path=path, reason=error.strerror or error), msg("check its permissions")
        ) from None
