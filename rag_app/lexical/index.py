"""The one module that knows tantivy: an index of chunks by their terms, in a folder, ranked by BM25.

tantivy (a library in Rust) keeps it on disk, takes in changes and gives whole what was committed, whoever writes meanwhile or
is killed. SQLite's full-text search took 124 ms of CPU for a question over 34,000 chunks, and matrices in memory are made
anew with each change.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tantivy

from rag_app.lexical.terms import terms
from rag_app.store.stored import facets, names_of
from rag_app.types import Chunk

# Bytes of memory for what is not yet written; tantivy asks for 15 million at least.
_HEAP = 50_000_000


class Found(NamedTuple):
    """A chunk's row, and its BM25 score (Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75)."""

    row: str
    score: float


class Index:
    """The terms of chunks in a folder."""

    def __init__(self, folder: Path) -> None:
        """Open it, or make it if the folder is empty. ValueError or OSError if what is there is no such index."""
        folder.mkdir(parents=True, exist_ok=True)
        self._index = tantivy.Index(_schema(), path=str(folder))
        self._index.config_reader("manual")
        # Terms are cut here, not by tantivy.
        self._index.register_tokenizer("terms", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())

    def reload(self) -> None:
        """See what was committed since."""
        self._index.reload()

    def search(self, question: str, n: int, only: Sequence[str] = ()) -> list[Found]:
        """Return at most n chunks that share a term with the question, best first; `only` as of `Store.nearest`."""
        schema, occur, query = self._index.schema, tantivy.Occur, tantivy.Query
        wanted = [query.term_query(schema, "terms", term, "freq") for term in dict.fromkeys(terms(question))]
        sought = query.boolean_query([(occur.Should, one) for one in wanted])
        if only:
            groups = [query.const_score_query(query.term_set_query(schema, "names", names), 0.0) for names in facets(only)]
            sought = query.boolean_query([(occur.Must, sought), *((occur.Must, inside) for inside in groups)])
        searcher = self._index.searcher()
        hits = searcher.search(sought, n, count=False).hits
        return [Found(searcher.doc(address)["row"][0], float(score)) for score, address in hits]

    def has(self, document: str, version: str = "") -> bool:
        """Whether there are chunks of a document, or of one version of it."""
        field, value = ("version", f"{version} {document}") if version else ("document", document)
        term = tantivy.Query.term_query(self._index.schema, field, value, "basic")
        return bool(self._index.searcher().search(term, 1).hits)

    def documents(self) -> list[str]:
        """Return the documents that there are chunks of."""
        return [name for name, _ in self._index.searcher().terms_with_prefix("document", "") if self.has(name)]

    def update(self, gone: Iterable[str], added: Iterable[tuple[str, str, Chunk]]) -> None:
        """Take out documents, then take in chunks with their rows and their documents' versions: all at once, or nothing."""
        writer = self._index.writer(_HEAP, 1)
        try:
            for document in gone:
                writer.delete_documents_by_term("document", document)
            for row, version, chunk in added:
                writer.add_document(_entry(row, version, chunk))
            writer.commit()
        except BaseException:
            writer.rollback()
            raise
        finally:
            writer.wait_merging_threads()
        self.reload()


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("row", stored=True, tokenizer_name="raw", index_option="basic")
    for name in ("document", "version", "names"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("terms", tokenizer_name="terms", index_option="freq")
    return builder.build()


def _entry(row: str, version: str, chunk: Chunk) -> Any:
    entry = tantivy.Document()
    entry.add_text("row", row)
    entry.add_text("document", chunk.document)
    entry.add_text("version", f"{version} {chunk.document}")
    for name in names_of(chunk.document, chunk.language, chunk.fields):
        entry.add_text("names", name)
    entry.add_text("terms", " ".join(terms(chunk.text_in_context)))
    return entry
