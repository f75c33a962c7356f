"""JSON Lines files that several people add to: a lock around each change, and each file whole or as it was."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from filelock import FileLock, Timeout

from rag_app.errors import RagError

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a file, none if it is not there. RagError, which names the line, if one is no JSON object."""
    try:
        text = path.read_text("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RagError(f"{path} cannot be read ({error}): mend or remove it") from None
    return [row for _, row in numbered(path, text)]


def numbered(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Yield number and row of each line of a file's text that has one. RagError as `read` has it."""
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RagError(f"{path}, line {n} is not JSON ({error}): mend or remove the line") from None
        if not isinstance(row, dict):
            raise RagError(f"{path}, line {n} is not a JSON object: mend or remove the line")
        yield n, row


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is text that can be written down: JSON can hold halves of characters, which cannot."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def append(path: Path, row: Row) -> None:
    """Add a row at the end."""
    with _alone(path):
        held = path.read_bytes() if path.exists() else b""
        joint = b"" if not held or held.endswith(b"\n") else b"\n"
        try:
            with path.open("ab") as file:
                file.write(joint + _line(row))
        except OSError:
            # Half a line would be in the way of every later read.
            os.truncate(path, len(held))
            raise


def change(path: Path, rows: Callable[[list[Row]], list[Row]]) -> None:
    """Replace the rows by what a function makes of them."""
    with _alone(path):
        partial = path.with_name(f".{path.name}.part")
        partial.write_bytes(b"".join(map(_line, rows(read(path)))))
        partial.replace(path)


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=10):
            yield
    except Timeout:
        raise RagError(f"{path} is being written by another for ten seconds already: try again") from None
    except OSError as error:
        raise RagError(f"{path} cannot be written ({error.strerror or error}): check its permissions") from None
