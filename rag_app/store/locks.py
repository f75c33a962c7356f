"""One at a time: who changes a collection holds its lock, in files beside an embedded store; and parts of it side by side."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rag_app.errors import RagError
from rag_app.words import Message, msg

# Seconds for which the lock of a whole collection is waited for by a part, which holds it but for a moment.
_MOMENT = 5.0


def part_name(part: str) -> str:
    """Return a part such as 3/8 as it stands in names."""
    return part.replace("/", "of")


def clash(part: str, other: str) -> bool:
    """Whether two holders may not work at once: both parts of as many are apart, and "", the whole, is apart from none."""
    return not part or not other or part == other or part.partition("of")[2] != other.partition("of")[2]


@contextmanager
def file_lock(folder: Path, name: str, part: str = "") -> Iterator[None]:
    """Hold the lock of a collection, or of a part of it. RagError, which names the holder, if another process or thread has it.

    The system lets go of the files when the process ends, however it ends.
    """
    whole = FileLock(folder / f"{name}.lock")
    _take(whole, name, _MOMENT if part else 0)
    try:
        own = part_name(part)
        for path in sorted(folder.glob(f"{name}.*.lock")):
            other = path.name.removeprefix(f"{name}.").removesuffix(".lock")
            if re.fullmatch(r"\d+of\d+", other) and other != own and clash(own, other):
                probe = FileLock(path)
                _take(probe, name, 0)
                probe.release()
        lock = whole
        if part:
            lock = FileLock(folder / f"{name}.{own}.lock")
            _take(lock, name, 0)
    except RagError:
        whole.release()
        raise
    if lock is not whole:
        whole.release()
    holder = _holder(lock)
    try:
        holder.write_text(f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}", "utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def all_locks(folder: Path) -> Iterator[None]:
    """Hold the locks of all collections of a folder. RagError, which names the holder, if one is held."""
    with ExitStack() as held:
        for path in sorted(folder.glob("*.lock")):
            if path.name != "keeper.lock":
                lock = FileLock(path)
                _take(lock, path.stem, 0)
                held.callback(lock.release)
        yield


def changed_by(name: str, who: str) -> RagError:
    """Return the error for a collection that somebody else changes."""
    return RagError(
        msg("collection {collection} is being changed by {who}", collection=name, who=who),
        msg("wait until that has ended, or stop it"),
    )


def _take(lock: FileLock, name: str, seconds: float) -> None:
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise changed_by(name, _who(_holder(lock))) from None
    except OSError as error:
        raise RagError(
            msg("{path} cannot be locked ({reason})", path=lock.lock_file, reason=error.strerror or error),
            msg("check its permissions"),
        ) from None


def _holder(lock: FileLock) -> Path:
    return Path(lock.lock_file).with_suffix(".holder")


def _who(holder: Path) -> Message:
    with suppress(OSError, ValueError):
        pid, started = holder.read_text("utf-8").split(maxsplit=1)
        return msg("process {pid}, started {started}", pid=pid, started=started)
    return msg("another process")
