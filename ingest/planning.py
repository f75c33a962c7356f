"""The plan: which files are new, changed, moved or gone, by the hash of what they hold; nothing is done here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ingest.files import Choice, File, Found, find
from ingest.metadata import Described, Describing
from ingest.worker import Prepared, hash_file
from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.settings import FieldKind
from rag_app.store.protocol import Store
from rag_app.store.stored import StoredDocument
from rag_app.types import Record
from rag_app.words import Said, msg, nmsg


class Failure(Record):
    """A file that was not indexed, and why."""

    path: str
    reason: Said


def staying(reason: str, *, stored: bool) -> str:
    """Return why a file failed, and that what is stored of it stays, if there is something."""
    return msg("{reason}; its stored version is kept", reason=reason) if stored else reason


class Plan(Record):
    """What a run would do, by document; added and changed files may still turn out empty, skipped or failed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]
    failed: tuple[Failure, ...]


@dataclass
class Task:
    """A file on its way into the store."""

    file: File
    state: Literal["added", "changed", "moved"]
    # What is said of it outside of the file, where fields are declared.
    described: Described | None = None
    # Documents whose chunks it replaces, its own included; the vectors of all of them may serve again.
    replaces: list[str] = field(default_factory=list)
    # Another document with the same content, if there is one, and whether that one is of this run.
    twin: str = ""
    later: bool = False
    prepared: Prepared = field(default_factory=lambda: Prepared("read"))
    vectors: list[Vectors | None] = field(default_factory=list)
    missing: int = 0
    # Where to look for the first chunk without a vector.
    filled: int = 0
    refused: str = ""


def look_through(paths: Sequence[Path], store: Store | None, choice: Choice = Choice(), *, force: bool = False) -> Found:
    """Return the files below the paths that are meant, each under the root that its document in the store has.

    Where two folders hold a file of the same name, both are named from the folder above them. RagError for a path that is
    gone, without `force`.
    """
    known = store.documents() if store else {}
    roots = {Path(document.version.root) for document in known.values()}
    found = find(paths, roots, choice, gone_is_empty=force)
    while collision := _collision(found, known):
        roots.add(Path(os.path.commonpath(collision)))
        found = find(paths, roots, choice, gone_is_empty=force)
    return found


def plan(
    found: Found, store: Store | None, *, prune: bool = True, force: bool = False, fields: Sequence[tuple[str, FieldKind]] = ()
) -> Plan:
    """Return what a run would do.

    Only what lies below the paths that were looked through is touched: documents from elsewhere stay. RagError if all of
    what is stored from one of these paths would be removed, without `force`.
    """
    return planned(found, store, prune, force, fields=fields)[0]


def planned(
    found: Found,
    store: Store | None,
    prune: bool,
    force: bool,
    reembed: bool = False,
    fields: Sequence[tuple[str, FieldKind]] = (),
) -> tuple[Plan, list[Task], dict[str, StoredDocument]]:
    known = store.documents() if store else {}
    if not found.files and not found.part and not any(found.covers(document.path) for document in known.values()):
        raise RagError(
            msg("no content in {names}", names=", ".join(map(str, found.paths))), msg("put files there, or check the filters")
        )
    by_name = {file.document: file for file in found.files}
    # Of a part only its own documents may be gone: the others are not looked for.
    vanished = {
        d.document: d for d in known.values() if found.covers(d.path) and d.document not in by_name and found.has(d.document)
    }
    vanished_by_hash = {d.version.document_hash: d.document for d in vanished.values() if d.whole}
    stored_by_hash = {d.version.document_hash: d.document for d in known.values() if d.whole}
    first_by_hash: dict[str, str] = {}
    tasks: list[Task] = []
    unchanged: list[str] = []
    failed: list[Failure] = []
    describing = Describing(fields)
    for file in found.files:
        before = known.get(file.document)
        described = describing.of(file)
        digest = described.digest if described else ""
        try:
            document_hash = hash_file(file.path)
        except OSError as error:
            failed.append(Failure(path=file.document, reason=staying(error.strerror or str(error), stored=bool(before))))
            continue
        version = before.version if before else None
        if (
            not reembed
            and before
            and before.whole
            and version
            and (version.document_hash, version.root, version.described) == (document_hash, file.root, digest)
        ):
            unchanged.append(file.document)
            continue
        task = Task(file, "changed" if before else "added", described, [file.document] if before else [])
        same_file = before and before.whole and before.version.document_hash == document_hash
        if not reembed and before and same_file and before.version.root != file.root:
            # Its folder has moved.
            task.state = "moved"
        source = vanished_by_hash.get(document_hash, "")
        if not before and source in vanished and prune:
            del vanished[source]
            task.state, task.replaces = "moved", [source]
        first = first_by_hash.setdefault(document_hash, file.document)
        stored_twin = "" if reembed else stored_by_hash.get(document_hash, "")
        task.twin = source or stored_twin or (first if first != file.document else "")
        task.later = task.twin == first
        tasks.append(task)
    removed = list(vanished) if prune else []
    if not force:
        _refuse_emptying(found, known, removed)
    result = Plan(
        added=tuple(task.file.document for task in tasks if task.state == "added"),
        changed=tuple(task.file.document for task in tasks if task.state == "changed"),
        unchanged=tuple(unchanged),
        moved=tuple((task.replaces[0], task.file.document) for task in tasks if task.state == "moved"),
        removed=tuple(removed),
        failed=tuple(failed),
    )
    return result, tasks, known


def _refuse_emptying(found: Found, known: dict[str, StoredDocument], removed: Sequence[str]) -> None:
    """RagError if nothing would be left of what is stored from a path: it may be unmounted, or named wrongly."""
    going = set(removed)
    for path in found.paths:
        below = [d.document for d in known.values() if d.path.is_relative_to(path)]
        if below and going.issuperset(below) and not any(file.path.resolve().is_relative_to(path) for file in found.files):
            raise RagError(
                nmsg(
                    "nothing is left to read in {path}, but {n} document of it is stored",
                    "nothing is left to read in {path}, but {n} documents of it are stored",
                    len(below),
                    path=path,
                ),
                msg("check the mount and the filters; `rag-app ingest --force` removes what is stored"),
            )


def _collision(found: Found, known: dict[str, StoredDocument]) -> tuple[str, str] | None:
    """Return the roots of two files that would have the same name in the store, if there are such.

    What lies below the paths of this run is named again by it; from elsewhere a name is free only if its file is gone.
    """
    seen: dict[str, File] = {}
    for file in found.files:
        other = seen.setdefault(file.document, file)
        if other.root != file.root:
            return other.root, file.root
        if other.path != file.path:
            raise RagError(
                msg("{one} and {other} would both be named {name}", one=other.path, other=file.path, name=file.document),
                msg("rename one of them"),
            )
        stored = known.get(file.document)
        if stored and stored.version.root != file.root and not found.covers(stored.path) and stored.path.exists():
            return stored.version.root, file.root
    return None
