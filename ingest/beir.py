"""An evaluation corpus into a collection of its own: one chunk a record, under the record's id."""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ingest.lock import alone
from rag_app import language, pipeline
from rag_app.embeddings import Embeddings
from rag_app.evaluation.sets import EvalSet, from_labels, is_beir, read_beir
from rag_app.labels import Labels
from rag_app.settings import Settings
from rag_app.store import Store, Version
from rag_app.types import Chunk, RagError

# Records that are embedded before they are stored: what a kill can cost.
AT_ONCE = 256


def collection_of(name: str, digest: str, embeddings: Embeddings) -> str:
    """Return the collection for a corpus of this content embedded so: another one for other content or another model."""
    recipe = sorted(embeddings.recipe.items())
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")[:80] or "set"
    return f"eval-{slug}-{hashlib.sha256(f'{digest}{recipe}'.encode()).hexdigest()[:8]}"


def prepared(
    settings: Settings, folder: Path | None, progress: Callable[[int, int], None] = lambda done, of: None
) -> tuple[Settings, EvalSet]:
    """Return a set of questions, and the settings with the collection that it is asked of.

    Without a folder, or with one of labelled questions, that is the collection in the settings; a folder in BEIR layout is
    ingested into one of its own first. RagError if there are no questions.
    """
    folder = folder or settings.eval_path
    if not is_beir(folder):
        if not (folder / "queries.jsonl").is_file():
            raise RagError(
                f"{folder} is no evaluation set: name a folder with queries.jsonl and qrels.jsonl (labelled questions), "
                "or with corpus.jsonl, queries.jsonl and qrels.tsv (BEIR)"
            )
        store = Store(settings.chroma_path, settings.chroma_url, settings.collection)
        return settings, from_labels(Labels(folder), store, "/".join(folder.resolve().parts[-2:]))
    beir = read_beir(folder)
    embeddings = pipeline.embeddings(settings)
    own = settings.model_copy(update={"collection": collection_of(beir.name, beir.digest, embeddings)})
    ingest(own, beir.records, beir.digest, embeddings, progress)
    return own, beir.questions


def ingest(
    settings: Settings,
    records: Sequence[tuple[str, str, str]],
    digest: str,
    embeddings: Embeddings,
    progress: Callable[[int, int], None],
) -> int:
    """Store the records (id, title, text) that are not stored yet; return how many were embedded.

    Empty ones are left out, as are those that the endpoint refuses: nothing finds them. RagError if the endpoint or Chroma
    fails; what was stored by then stays.
    """
    store = Store(settings.chroma_path, settings.chroma_url, settings.collection, create=True)
    with alone(store):
        stored = set(store.documents())
        missing = [(identity, title, text) for identity, title, text in records if text.strip() and identity not in stored]
        done = len(records) - len(missing)
        for start in range(0, len(missing), AT_ONCE):
            progress(done + start, len(records))
            part = [_chunk(*record) for record in missing[start : start + AT_ONCE]]
            at = 0
            for embedded in embeddings.passages(chunk.text_in_context for chunk in part):
                batch = part[at : at + len(embedded.vectors)]
                at += len(batch)
                rows = [i for i in range(len(batch)) if i not in embedded.refused]
                if rows:
                    store.create({**embeddings.recipe, "corpus": digest}, embedded.vectors.shape[1])
                    version = Version("", digest, 1, time.time())
                    store.put([(batch[i], version) for i in rows], embedded.vectors[rows])
        if missing:
            store.touch()
    if not store.count():
        raise RagError(f"no record of the corpus could be stored in {settings.collection}: look at `rag-app doctor`")
    return len(missing)


def _chunk(identity: str, title: str, text: str) -> Chunk:
    return Chunk(
        id=identity,
        document=identity,
        title=title,
        headings=(),
        page=None,
        position=0,
        start=0,
        end=len(text),
        language=language.detect(text),
        text=text,
    )
