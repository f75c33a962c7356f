"""A document's chunks as they were cut, beside the original where that can be shown: the way to see what was read wrongly."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from ingest import beside
from ingest.beside import Excerpt, PagePicture
from ingest.sync import cutting_and_limits
from ingest.worker import Limits
from rag_app.errors import RagError
from rag_app.page import resources, states
from rag_app.page.citations import open_link_to
from rag_app.page.hostile import html, joined, plain, visible
from rag_app.page.say import t
from rag_app.page.visit import Widget
from rag_app.settings import Settings
from rag_app.store.stored import StoredDocument
from rag_app.types import Chunk
from rag_app.words import msg, nmsg

# Alone, and beside a text.
CHUNKS_A_PAGE, CHUNKS_BESIDE = 50, 10
# Words that are named one by one.
MOST_MISSING = 12
LEGEND = {
    "stored": msg("stored"),
    "missing": msg("in no chunk, such as page numbers and running heads"),
    "passage": msg("the passage"),
}


def show(settings: Settings, document: StoredDocument) -> None:
    """Show a document's chunks; the address may name one of them, `passage`, which is opened and marked."""
    with resources.store(settings.collection) as store:
        chunks = [chunk for chunk, _ in store.chunks_of(document.document)]
    st.subheader(plain(document.title), anchor=False)
    st.html(
        html(
            '<p class="quiet"><bdi>{path}</bdi> · {n} · {link}</p>',
            path=document.document,
            n=t(nmsg("{n} chunk", "{n} chunks", len(chunks))),
            link=open_link_to(settings.collection, document.document),
        )
    )
    wanted = next((chunk for chunk in chunks if chunk.id == st.query_params.get(Widget.PASSAGE)), None)
    kind = _kind(document.path)
    if not kind or not st.toggle(t("Beside the original"), value=True, key="beside"):
        _alone(chunks, wanted)
        return
    key = hashlib.sha256(f"{document.document} {wanted.id if wanted else ''}".encode()).hexdigest()[:12]
    try:
        limits = cutting_and_limits(settings)[1]
        (_beside_page if kind == "pages" else _beside_text)(document.path, chunks, wanted, key, limits)
    except (RagError, OSError) as error:
        states.show_error(
            error if isinstance(error, RagError) else RagError(msg("{reason}", reason=error), msg("check its permissions"))
        )
        _alone(chunks, wanted)


def _kind(path: Path) -> str:
    try:
        return beside.kind(path)
    except OSError:
        # The link to it says what is wrong.
        return ""


def _alone(chunks: Sequence[Chunk], wanted: Chunk | None) -> None:
    n_pages = -(-len(chunks) // CHUNKS_A_PAGE)
    first = 1 + chunks.index(wanted) // CHUNKS_A_PAGE if wanted else 1
    shown = st.pagination(n_pages, default=first, key="chunk_page") if n_pages > 1 else 1
    _list(chunks[(shown - 1) * CHUNKS_A_PAGE : shown * CHUNKS_A_PAGE], wanted)


def _list(chunks: Sequence[Chunk], wanted: Chunk | None) -> None:
    items = [
        html(
            '<li class="{wanted}"><p class="quiet">{n} · <bdi>{path}</bdi>{page} · {size}</p>'
            '<div class="passage" dir="auto">{text}</div></li>',
            wanted="wanted" if chunk == wanted else "",
            n=chunk.position + 1,
            path=chunk.heading_path,
            page=", " + t(chunk.page_label) if chunk.page else "",
            size=t("characters {start:,} to {end:,}", start=chunk.start, end=chunk.end),
            text=chunk.text,
        )
        for chunk in chunks
    ]
    st.html(html('<ol class="chunks">{items}</ol>', items=joined(items)))


def _beside_page(path: Path, chunks: Sequence[Chunk], wanted: Chunk | None, key: str, limits: Limits) -> None:
    """Show a page of a PDF as a picture, and the chunks that begin on it; the one before them may go on there."""
    above = st.container()
    number = int(st.session_state.get(f"page-{key}") or (wanted.page if wanted and wanted.page else 1))
    before = [chunk for chunk in chunks if chunk.page and chunk.page < number][-1:]
    on_page = [chunk for chunk in chunks if chunk.page == number]
    passage = wanted.text if wanted and wanted in [*before, *on_page] else ""
    # A heading at the foot of a page is stored with what follows on the next one.
    following = next((chunk for chunk in chunks if chunk.page and chunk.page > number), None)
    stored = "\n".join((_whole([*before, *on_page]), *(following.headings if following else ())))
    with st.spinner(t("Drawing the page")):
        found = _picture(path, path.stat().st_mtime_ns, number, stored, passage, limits)
    with above:
        st.pagination(found.n_pages, default=number, key=f"page-{key}")
        _legend(found.n_words, found.missing, passage)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.image(found.png, width="stretch", alt=t("Page {n} of the original", n=number))
    with right:
        if not on_page:
            states.note(msg("No chunk begins on this page."))
        _list(on_page or before, wanted)


def _beside_text(path: Path, chunks: Sequence[Chunk], wanted: Chunk | None, key: str, limits: Limits) -> None:
    """Show some chunks, and the part of a text that they were cut from."""
    n_pages = -(-len(chunks) // CHUNKS_BESIDE)
    first = 1 + chunks.index(wanted) // CHUNKS_BESIDE if wanted else 1
    page = st.pagination(n_pages, default=first, key=f"page-{key}") if n_pages > 1 else 1
    shown = chunks[(page - 1) * CHUNKS_BESIDE : page * CHUNKS_BESIDE]
    passage = wanted.text if wanted in shown and wanted else ""
    before = _whole(chunks[: (page - 1) * CHUNKS_BESIDE][-1:]) if page > 1 else ""
    texts = tuple(_whole([chunk]) for chunk in shown)
    found = _excerpt(path, path.stat().st_mtime_ns, texts, passage, before, page == n_pages, limits)
    _legend(found.n_words, found.missing, passage)
    pieces = [
        html('<span class="{mark}">{text}</span>', mark=mark, text=text) if mark else html("{text}", text=text)
        for text, mark in found.pieces
    ]
    left, right = st.columns(2, gap="medium")
    with left:
        st.html(html('<div class="original" dir="auto" tabindex="0">{text}</div>', text=joined(pieces)))
    with right:
        _list(shown, wanted)


def _whole(chunks: Sequence[Chunk]) -> str:
    """Return all that is stored of chunks: their headings too, once."""
    headings = dict.fromkeys(heading for chunk in chunks for heading in (chunk.title, *chunk.headings))
    return "\n".join((*headings, *(chunk.text for chunk in chunks)))


def _legend(n_words: int, missing: Sequence[str], passage: str) -> None:
    """Say what the marks are, and how many words are in no chunk."""
    if not n_words:
        states.note(msg("This page has no text of its own: what is stored of it was read from the picture."))
        return
    kinds = ["stored", "missing", *(["passage"] if passage else [])]
    items = [html('<li><span class="{kind}">{name}</span></li>', kind=kind, name=t(LEGEND[kind])) for kind in kinds]
    named = ", ".join(map(visible, missing[:MOST_MISSING])) + (", …" if len(missing) > MOST_MISSING else "")
    told = nmsg(
        "{n:,} word, {missing:,} of them in no chunk",
        "{n:,} words, {missing:,} of them in no chunk",
        n_words,
        missing=len(missing),
    )
    st.html(
        html(
            '<ul class="legend original-legend">{items}</ul><p class="quiet">{told}{named}</p>',
            items=joined(items),
            told=t(told),
            named=f": {named}" if missing else "",
        )
    )


@st.cache_data(show_spinner=False, max_entries=50)
def _picture(path: Path, changed: int, number: int, stored: str, passage: str, limits: Limits) -> PagePicture:
    return beside.page_picture(path, number, stored, passage, limits)


@st.cache_data(show_spinner=False, max_entries=50)
def _excerpt(
    path: Path, changed: int, shown: tuple[str, ...], passage: str, before: str, last: bool, limits: Limits
) -> Excerpt:
    return beside.excerpt(path, shown, passage, before, to_the_end=last, limits=limits)
