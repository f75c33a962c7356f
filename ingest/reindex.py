"""Rebuild a collection from the files of its documents: in its own place, or with other settings in one beside it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from ingest import planning
from ingest.chunk import Cutting
from ingest.files import File, Found
from ingest.lock import collection_lock
from ingest.sync import Embeds, Progress, Report, State, cutting_and_limits, ingest, recipe
from ingest.worker import Limits
from rag_app.errors import RagError
from rag_app.settings import Settings
from rag_app.store.protocol import Store
from rag_app.store.stored import REINDEX, EmptyCollectionError
from rag_app.words import Message, joined, msg


def reindex(
    old: Store,
    embeddings: Embeds,
    cutting: Cutting = Cutting(),
    limits: Limits = Limits(),
    progress: Progress | None = None,
    *,
    force: bool = False,
) -> Report:
    """Rebuild a collection from the files of its documents, beside the old one, then let it take the old one's place.

    Questions go on meanwhile. RagError, and the old collection stays, if a document's file is gone or fails now; `force`
    takes that loss. An interrupted one is resumed.
    """
    with collection_lock(old), old.sibling(f"{old.name}{REINDEX}") as new:
        known = old.documents()
        if not known:
            raise EmptyCollectionError.of(old.name, old.place)
        roots = {document.version.root for document in known.values()}
        files = [File(document.path, document.version.root, name) for name, document in known.items()]
        gone = {file.document for file in files if not file.path.is_file()}
        if gone and not force:
            raise RagError(
                msg("{names} can no longer be read, so the old collection is kept", names=_names(gone)),
                msg("restore it, or run `rag-app reindex --force`"),
            )
        if new.recipe != recipe(embeddings, cutting):
            new.drop()
        found = Found([file for file in files if file.document not in gone], [Path(root) for root in roots])
        report = ingest(found, new, embeddings, cutting, limits, progress, force=True)
        lost = {failure.path for state in ("failed", "skipped", "empty") for failure in getattr(report.documents, state)}
        if (lost or not report.chunks.stored) and not force:
            raise RagError(
                msg("{names} cannot be read now, so the old collection is kept", names=_names(lost)),
                msg("fix it, or drop it with `rag-app reindex --force`"),
            )
        new.replace(old.name)
        dropped = len(known) - len(new.documents())
    return report.model_copy(update={"documents": report.documents.model_copy(update={"removed": dropped})})


def ingest_with_settings(
    old: Store, settings: Settings, embeddings: Embeds, on_file: Callable[[int, int], None] = lambda done, of: None
) -> str:
    """Ingest the files of a collection with other settings, into one of its own, and return its name.

    If the collection was made by these settings it is its own. RagError if a file is gone.
    """
    cutting, limits = cutting_and_limits(settings)
    wanted = recipe(embeddings, cutting)
    if old.recipe == wanted:
        return old.name
    known = old.documents()
    files = [File(document.path, document.version.root, name) for name, document in known.items()]
    if gone := {file.document for file in files if not file.path.is_file()}:
        raise RagError(msg("{names} can no longer be read", names=_names(gone)), msg("restore it, or `rag-app forget` it"))
    found = Found(files, [Path(root) for root in {document.version.root for document in known.values()}])
    if changed := planning.plan(found, old, prune=False, fields=cutting.fields).changed:
        raise RagError(
            msg("{names} changed since it was ingested", names=_names(changed)),
            msg("run `rag-app ingest` first, so that only the setting differs"),
        )
    digest = hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()[:8]
    done: Counter[str] = Counter()

    def ended(document: str, state: State, reason: str) -> None:
        done[state] += 1
        on_file(done.total(), len(files))

    with old.sibling(f"eval-{old.name}-{digest}") as new:
        report = ingest(found, new, embeddings, cutting, limits, Progress(file=ended), force=True)
    if failed := report.documents.failed:
        raise RagError(
            msg("{name} cannot be read now ({reason})", name=failed[0].path, reason=failed[0].reason),
            msg("fix it, or `rag-app forget` it"),
        )
    return new.name


def _names(documents: Iterable[str]) -> Message:
    names = sorted(documents)
    shown = joined(", ", names[:3])
    return msg("{names} and {n} more", names=shown, n=len(names) - 3) if len(names) > 3 else shown
