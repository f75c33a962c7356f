"""The files of an embedded Chroma: what is damaged in them, and what can still be read; with SQLite and NumPy alone.

Chroma keeps texts and metadata in `chroma.sqlite3`. Its index of a collection is a folder: vectors and links in
`data_level0.bin` and `link_lists.bin`, their layout in `header.bin`, and which vector is whose in a pickle of plain
dictionaries. What the index has on disk is purged from the log in SQLite, so that most vectors are in its files alone. They are
written in place: a process that is killed while it writes them, or a full disk, leaves them torn, and of some damage Chroma
says nothing and finds less, or ends the process.
"""

import os
import pickle
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.store.stored import DATABASE, INDEX
from rag_app.words import Message, msg, nmsg

# hnswlib's header: version, offset of level 0, room, count, bytes of an element, offset of its label, offset of its vector, ...
_HEADER = struct.Struct("<iQQQQQQiiQQQdQ")
_HEAD, _LENGTHS, _LINKS, _IDS = "header.bin", "length.bin", "link_lists.bin", "index_metadata.pickle"
_UNIT = 1e-3
_BLOCK = 10_000
# Bytes of links above level 0 that an element may have: 16 levels of 16 neighbours.
_MOST_LINKS = 4 + 16 * (4 + 4 * 16)
# Of an index that has so many vectors, more than half may not be of deleted chunks.
_MANY = 1000
# Operations in Chroma's log, and how it names a collection there.
_UPSERT, _DELETE = 2, 3
_TOPIC = "persistent://default/default/{}"


@dataclass(frozen=True)
class Index:
    """One of Chroma's collections, with the folder of its index, and whether the index was ever written to disk."""

    id: str
    name: str
    dimension: int
    segment: str
    rows: str
    written: bool


def check_database(folder: Path) -> None:
    """RagError if the database of a folder is missing, or is none, or is torn; quick, so that damage within is not seen."""
    path = folder / DATABASE
    indexes = list(folder.glob(f"*/{INDEX}"))
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = 0
    except OSError as error:
        raise _damaged(path, msg("cannot be read ({reason})", reason=error.strerror or error)) from None
    if not size and indexes:
        raise _damaged(path, msg("is empty") if path.exists() else msg("is missing"))
    if size:
        whole = _size_told(path)
        if not whole:
            raise _damaged(path, msg("is no database"))
        if size < whole:
            raise _damaged(path, msg("is cut off: it has {size:,} of {whole:,} bytes", size=size, whole=whole))


def _size_told(path: Path) -> int:
    """Return how many bytes an SQLite file says that it has; 0 if it is none."""
    with path.open("rb") as file:
        head = file.read(100)
    # A page of 65,536 bytes is written as 1.
    size = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    return pages * (65536 if size == 1 else size) if head.startswith(b"SQLite format 3\0") else 0


def _damaged(path: Path, how: Message) -> RagError:
    return RagError(
        msg("{path} {how}", path=path, how=how),
        msg("run `rag-app repair`, or `rag-app restore` a backup; `rag-app reset` begins anew"),
    )


def indexes(folder: Path) -> list[Index]:
    """Return the collections of a folder. sqlite3.Error if the database cannot be read."""
    # Not for reading only: what a killed process left half written is rolled back first.
    with closing(sqlite3.connect(folder / DATABASE, timeout=60)) as database:
        found = database.execute(
            "SELECT c.id, c.name, c.dimension, v.id, m.id, q.seq_id IS NOT NULL FROM collections c"
            " JOIN segments v ON v.collection = c.id AND v.scope = 'VECTOR'"
            " JOIN segments m ON m.collection = c.id AND m.scope = 'METADATA'"
            " LEFT JOIN max_seq_id q ON q.segment_id = v.id WHERE c.dimension IS NOT NULL"
        )
        return [Index(*row) for row in found]


def torn(folder: Path, index: Index) -> Message | None:
    """Return what is wrong with the files of an index, as far as their sizes tell; None if they fit together."""
    path = folder / index.segment
    if not index.written:
        return None
    missing = [name for name in (INDEX, _HEAD, _LENGTHS, _LINKS, _IDS) if not (path / name).is_file()]
    if missing:
        return msg("{file} is missing", file=path / missing[0])
    header = _header(path, index.dimension)
    if header is None:
        return msg("{file} makes no sense", file=path / _HEAD)
    count, size = header[3], header[4]
    # A process killed while it wrote leaves one file of before and one of after, or a hole of terabytes in the links.
    sizes = {
        INDEX: (count * size,) * 2,
        _LENGTHS: (count * 4,) * 2,
        _LINKS: (count * 4, count * _MOST_LINKS),
        _IDS: (2, 1 << 50),
    }
    for name, (least, most) in sizes.items():
        there = (path / name).stat().st_size
        if there < least:
            return msg("{file} is cut off: it has {size:,} of {whole:,} bytes", file=path / name, size=there, whole=least)
        if there > most:
            return msg("{file} does not fit the others", file=path / name)
    with (path / _IDS).open("rb") as file:
        file.seek(-1, 2)
        if file.read(1) != pickle.STOP:
            return msg("{file} is cut off", file=path / _IDS)
    return None


def worn(folder: Path, index: Index) -> Message | None:
    """Return what is wrong with an index, looking at all of it: its links, and whether each chunk has its vector."""
    if found := torn(folder, index):
        return found
    if index.written and not _links_fit(folder / index.segment, _header(folder / index.segment, index.dimension)):
        return msg("{file} makes no sense", file=folder / index.segment / _LINKS)
    if index.written and not np.all(np.fromfile(folder / index.segment / _LENGTHS, np.float32) > 0):
        return msg("{file} makes no sense", file=folder / index.segment / _LENGTHS)
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        ids = {row[0] for row in database.execute("SELECT embedding_id FROM embeddings WHERE segment_id = ?", (index.rows,))}
    if missing := len(ids - {row_id for row_id, _ in _vectors(folder, index)}):
        return nmsg("{n:,} vector is missing or zero", "{n:,} vectors are missing or zero", missing)
    if index.written and not _owners_fit(folder / index.segment, index.dimension):
        return msg("{file} does not fit the others", file=folder / index.segment / _IDS)
    there = header[3] if index.written and (header := _header(folder / index.segment, index.dimension)) else 0
    if there > 2 * len(ids) and there > _MANY:
        return msg("{n:,} of its {of:,} vectors are of chunks that are gone", n=there - len(ids), of=there)
    return None


def _header(path: Path, dimension: int) -> tuple[Any, ...] | None:
    with suppress(OSError, struct.error):
        header = _HEADER.unpack((path / _HEAD).read_bytes())
        size, label, data = header[4:7]
        if header[0] == 1 and label == data + 4 * dimension and size == label + 8 and header[3] <= header[2]:
            return header
    return None


def _links_fit(path: Path, header: Any) -> bool:
    raw = (path / _LINKS).read_bytes()
    at = 0
    for _ in range(header[3]):
        if at + 4 > len(raw):
            return False
        at += 4 + int.from_bytes(raw[at : at + 4], "little")
    return at == len(raw)


class _Plain(pickle.Unpickler):
    """Reads what is made of dictionaries, texts and numbers, and nothing that would run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def vectors(folder: Path, index: Index) -> dict[str, Vectors]:
    """Return the vectors that are still to be had, by row id: from the index files where whole, and from the log."""
    return dict(_vectors(folder, index))


def _vectors(folder: Path, index: Index) -> Iterator[tuple[str, Vectors]]:
    """Yield row ids and vectors, those in the log last: they are newer."""
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        topic = (_TOPIC.format(index.id),)
        # Beside max(), SQLite takes the other columns from the row that has it: whether a row's last operation is a deletion.
        deleted = "SELECT id FROM embeddings_queue WHERE topic = ? GROUP BY id HAVING operation = 3 AND max(seq_id)"
        gone = {row[0] for row in database.execute(deleted, topic)}
        if index.written:
            yield from (
                (row, vector) for row, vector in _from_index(folder / index.segment, index.dimension) if row not in gone
            )
        log = database.execute(
            "SELECT id, operation, vector, encoding FROM embeddings_queue WHERE topic = ? ORDER BY seq_id", topic
        )
        for row_id, operation, vector, encoding in log:
            if operation != _DELETE and row_id not in gone and vector is not None and encoding == "FLOAT32":
                yield row_id, np.frombuffer(vector, np.float32)


def _owners(path: Path) -> dict[int, str]:
    """Return which row a vector's label belongs to; none where that cannot be read."""
    try:
        with (path / _IDS).open("rb") as file:
            owners: dict[int, str] = _Plain(file).load()["label_to_id"]
            return owners
    except (OSError, EOFError, KeyError, TypeError, ValueError, IndexError, pickle.UnpicklingError):
        return {}


def _owners_fit(path: Path, dimension: int) -> bool:
    """Whether the vectors that are not deleted are those that have owners; a process may have been killed between the two."""
    header = _header(path, dimension)
    if header is None:
        return False
    count, size, label = header[3], header[4], header[5]
    table = np.memmap(path / INDEX, np.uint8, "r", shape=(count, size)) if count else np.zeros((0, size), np.uint8)
    labels = np.ascontiguousarray(table[(table[:, 2] & 1) == 0, label:]).view(np.uint64).ravel()
    return set(labels.tolist()) == _owners(path).keys()


def _from_index(path: Path, dimension: int) -> Iterator[tuple[str, Vectors]]:
    header = _header(path, dimension)
    owners = _owners(path)
    # As Chroma's default of 16 neighbours lays it out, where the header is lost.
    size, label, data = header[4:7] if header else (4 + 4 * 32 + 4 * dimension + 8, 4 + 4 * 32 + 4 * dimension, 4 + 4 * 32)
    try:
        n = (path / INDEX).stat().st_size // size
        n = min(n, header[3]) if header else n
        table = np.memmap(path / INDEX, np.uint8, "r", shape=(n, size)) if n else np.zeros((0, size), np.uint8)
    except OSError:
        return
    for start in range(0, n, _BLOCK):
        block = np.array(table[start : start + _BLOCK])
        found = np.ascontiguousarray(block[:, data:label]).view(np.float32)
        labels = np.ascontiguousarray(block[:, label:]).view(np.uint64).ravel()
        # Each is of length 1 in a cosine index: what is not was written over. One bit marks what is deleted.
        with np.errstate(all="ignore"):
            whole = (np.abs(np.linalg.norm(found, axis=1) - 1) < _UNIT) & ((block[:, 2] & 1) == 0)
        for i in np.flatnonzero(whole):
            if (owner := owners.get(int(labels[i]))) is not None:
                yield owner, found[i]


def set_aside(folder: Path) -> Path:
    """Move what Chroma keeps in a folder into a new folder within it, whose path is returned."""
    aside = folder / f"damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    aside.mkdir()
    for path in list(folder.iterdir()):
        if path.name.startswith(DATABASE) or (path.is_dir() and (path / INDEX).exists()):
            path.rename(aside / path.name)
    return aside


def remembered(folder: Path) -> dict[str, dict[str, str]]:
    """Return what a damaged database still says of its documents: by collection, their names and the folders they are from.

    The collection is "" where that is lost. Reads what can be read, page by page, and leaves out what cannot.
    """
    found: dict[str, dict[str, str]] = {}
    path = folder / DATABASE
    if not path.is_file():
        return found
    with tempfile.TemporaryDirectory() as name:
        copied = Path(name) / DATABASE
        shutil.copy2(path, copied)
        # SQLite reads nothing of a file that is shorter than it says.
        if copied.stat().st_size < (whole := _size_told(copied)) < 1 << 40:
            os.truncate(copied, whole)
        with closing(sqlite3.connect(copied)) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            named = (
                "SELECT 0, c.name, m.str_value FROM collection_metadata m JOIN collections c ON c.id = m.collection_id"
                " WHERE m.key = 'documents' AND 0 < ?"
            )
            collections = {row[2]: row[1] for row in _readable(database, named, once=True)}
            whose = "SELECT 0, s.id, c.name FROM segments s JOIN collections c ON c.id = s.collection WHERE 0 < ?"
            segments = {row[1]: row[2] for row in _readable(database, whose, once=True)}
            owners = _readable(database, "SELECT id, segment_id FROM embeddings WHERE id > ? ORDER BY id")
            rows = {row[0]: row[1] for row in owners}
            fields: dict[int, dict[str, str]] = {}
            values = (
                "SELECT id, key, string_value FROM embedding_metadata"
                " WHERE id > ? AND key IN ('kind', 'document', 'rest') ORDER BY id"
            )
            for number, key, value in _readable(database, values):
                fields.setdefault(number, {})[key] = value
    for number, row in fields.items():
        with suppress(KeyError, TypeError, ValueError):
            if row["kind"] == "document":
                collection = collections.get(segments.get(rows.get(number, ""), ""), "")
                found.setdefault(collection, {})[row["document"]] = orjson.loads(row["rest"])["version"]["root"]
    return found


def _readable(database: sqlite3.Connection, query: str, *, once: bool = False) -> Iterator[Any]:
    """Yield the rows of a query that go by their first column, and of what cannot be read none."""
    last, step = 0 if not once else 1, 1
    while step < 1 << 20:
        try:
            for row in database.execute(query, (last,)):
                last, step = max(last, int(row[0])), 1
                yield row
        except sqlite3.Error:
            if once:
                return
            last, step = last + step, step * 2
        else:
            return


def texts(folder: Path, index: Index, row_ids: set[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield id, text and metadata of rows."""
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        rows = database.execute("SELECT id, embedding_id FROM embeddings WHERE segment_id = ?", (index.rows,)).fetchall()
        for number, row_id in rows:
            if row_id not in row_ids:
                continue
            values = "SELECT key, coalesce(string_value, int_value, bool_value) FROM embedding_metadata WHERE id = ?"
            fields = dict(database.execute(values, (number,)))
            yield row_id, str(fields.pop("chroma:document", "")), fields


def rebuild(folder: Path, index: Index, embed: Callable[[list[tuple[str, str, dict[str, Any]]]], Vectors]) -> int:
    """Have Chroma make an index anew when it is next opened; return how many vectors had to be embedded again.

    All vectors are put back into the log, and that there is an index on disk is forgotten. `embed` gives vectors, shape (n,
    dim), for rows whose vector is nowhere to be had; it may raise, and then nothing has changed.
    """
    found = vectors(folder, index)
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        rows = dict(
            database.execute("SELECT embedding_id, seq_id FROM embeddings WHERE segment_id = ? ORDER BY id", (index.rows,))
        )
        lost = list(texts(folder, index, rows.keys() - found.keys()))
        if lost:
            found |= dict(zip((row[0] for row in lost), embed(lost), strict=True))
        topic = _TOPIC.format(index.id)
        with database:
            for row_id, number in rows.items():
                # Those that the log still has come from there.
                database.execute(
                    "INSERT OR IGNORE INTO embeddings_queue (seq_id, operation, topic, id, vector, encoding, metadata)"
                    " VALUES (?, ?, ?, ?, ?, 'FLOAT32', NULL)",
                    (_number(number), _UPSERT, topic, row_id, np.asarray(found[row_id], np.float32).tobytes()),
                )
            database.execute("DELETE FROM max_seq_id WHERE segment_id = ?", (index.segment,))
    shutil.rmtree(folder / index.segment, ignore_errors=True)
    return len(lost)


def _number(seq: Any) -> int:
    return int.from_bytes(seq, "big") if isinstance(seq, bytes) else int(seq)


def wipe(folder: Path) -> None:
    """Take the text of what was deleted out of the database's file: SQLite only marks the room as free, and the log has it too.

    Also beside a client that has the folder open, for it is done by a process of its own: SQLite's locks are a process's, and
    Chroma's SQLite and Python's in one would not see each other's. Takes about a minute for each million chunks. OSError with
    what SQLite says.
    """
    # It ends with this process: the next one has the folder for itself.
    command = [sys.executable, "-c", _WIPE, str(folder / DATABASE), str(os.getpid())]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError(said[-1] if said else f"exit {done.returncode}")


# Needs nothing but Python. Whatever came later for the same row has a vector too, and all else is applied as it is written.
_WIPE = """
import os, sqlite3, sys, threading, time
def end_with_parent():
    while os.getppid() == int(sys.argv[2]):
        time.sleep(0.1)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=300)
database.execute("BEGIN IMMEDIATE")
database.execute(
    "DELETE FROM embeddings_queue WHERE EXISTS (SELECT 1 FROM embeddings_queue later"
    " WHERE later.topic = embeddings_queue.topic AND later.id = embeddings_queue.id"
    " AND later.seq_id > embeddings_queue.seq_id)"
)
database.execute("COMMIT")
database.execute("INSERT INTO embedding_fulltext_search(embedding_fulltext_search) VALUES ('optimize')")
database.execute("VACUUM")
database.close()
"""


def copy(folder: Path, target: Path) -> None:
    """Copy what Chroma keeps in a folder to another, which is made; nobody may write meanwhile. Nothing is left half copied.

    RagError if there is something in the target, or if it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RagError(msg("{path} is not empty", path=target), msg("name a folder that is not there yet"))
    partial = Path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
        for path in folder.iterdir():
            if path.is_dir() and (path / INDEX).exists():
                shutil.copytree(path, partial / path.name)
            elif path.name.startswith(DATABASE):
                shutil.copy2(path, partial / path.name)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        if partial.name:
            shutil.rmtree(partial, ignore_errors=True)
        raise RagError(
            msg("{path} cannot be written ({reason})", path=target, reason=error.strerror or error),
            msg("check its permissions"),
        ) from None


def remove(folder: Path) -> None:
    """Delete what Chroma keeps in a folder."""
    for path in list(folder.iterdir()):
        if path.name.startswith(DATABASE):
            path.unlink()
        elif path.is_dir() and (path / INDEX).exists():
            shutil.rmtree(path)


def is_sound(folder: Path) -> bool:
    """Whether SQLite finds nothing wrong with the database; reads all of it."""
    try:
        with closing(sqlite3.connect(folder / DATABASE, timeout=60)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False
