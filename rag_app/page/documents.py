"""The documents: what is stored, chunk by chunk; adding, deleting and re-embedding."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st

from ingest import jobs, sync, uploads
from ingest.jobs import FileState, Job
from rag_app import language
from rag_app.builtin.late import KeptTokens
from rag_app.errors import RagError, SettingsError
from rag_app.lexical.kept import LexicalIndex
from rag_app.page import chunk_view, resources, states
from rag_app.page.hostile import plain, visible
from rag_app.page.say import t
from rag_app.page.visit import Widget, visit
from rag_app.settings import Settings
from rag_app.store.stored import EmptyCollectionError, StoredDocument
from rag_app.words import joined as words_joined
from rag_app.words import msg, nmsg

STATES = {
    "waiting": msg("waiting"),
    "embedding": msg("embedding"),
    "added": msg("added"),
    "changed": msg("changed"),
    "moved": msg("moved"),
    "removed": msg("removed"),
    "empty": msg("empty"),
    "skipped": msg("skipped"),
    "failed": msg("failed"),
    "refused": msg("refused"),
}
POLL_SECONDS = 1.0


def page(controls: Any) -> None:
    """Lay out the page."""
    st.title(t("Documents"), anchor=False)
    with controls:
        names = resources.collection_names()
        collection = st.selectbox(
            t("Collection"),
            names,
            key=Widget.COLLECTION,
            bind="query-params",
            accept_new_options=True,
            help=t("Type a new name to create a collection."),
        )
    try:
        settings = resources.of(collection)
    except SettingsError as error:
        states.show(t("This name cannot be used"), t(error.message), t("Choose a different name."))
        return
    try:
        revision = resources.revision(settings.collection)
        there = resources.listing(settings.collection, revision).n_documents
    except EmptyCollectionError:
        revision, there = "", 0
    problem, visit().problem = visit().problem, None
    if problem:
        states.show_error(problem)
    # Who followed a citation sees its passage first.
    first = st.container()
    add(settings)
    runs(settings)
    if not there:
        states.show(
            t("No documents yet"),
            t("The collection {collection} has no documents.", collection=settings.collection),
            t("Upload some above, or run rag-app ingest PATH."),
        )
        return
    chosen = choose(settings, revision)
    act(settings, chosen)
    if len(chosen) == 1:
        with first if Widget.PASSAGE in st.query_params else st.container():
            chunk_view.show(settings, chosen[0])


def add(settings: Settings) -> None:
    """Take uploads, or a folder of the server."""
    upload, folder = st.tabs([t("Upload"), t("Server folder")])
    with upload:
        # A new key empties it once its files are taken.
        files = st.file_uploader(
            t("Files or ZIP archives"),
            accept_multiple_files=True,
            key=f"files-{visit().uploads}",
            max_upload_size=settings.upload_mb,
        )
        if st.button(t("Add to {collection}", collection=settings.collection), type="primary", disabled=not files):
            received = uploads.receive(settings, [(file.name, file) for file in files])
            visit().uploads += 1
            where = uploads.root(settings) if received.kept else None
            label = nmsg("{n} file uploaded", "{n} files uploaded", len(received.kept))
            start(settings, label, lambda progress: jobs.ingest_folder(settings, where, progress), received.refused)
    with folder, st.form("folder", border=False):
        chosen = st.selectbox(
            t("Folder under {path}", path=settings.server_path),
            uploads.server_folders(settings),
            accept_new_options=True,
            index=None,
        )
        if st.form_submit_button(t("Ingest into {collection}", collection=settings.collection)) and chosen:
            path = uploads.server_folder(settings, chosen)
            start(settings, str(path.name), lambda progress: jobs.ingest_folder(settings, path, progress))


def start(settings: Settings, label: str, work: Any, refused: Sequence[Any] = ()) -> None:
    """Start a run in the background, and show it."""
    resources.jobs().start(settings.collection, label, work, refused)
    st.rerun()


def runs(settings: Settings) -> None:
    """Show the runs on this collection, redrawn while one is under way."""
    found = resources.jobs().of(settings.collection)
    if not found:
        return
    running = any(job.ended is None for job in found)

    def draw() -> None:
        for i, job in enumerate(found[:3]):
            show_job(job, settings, opened=i == 0)
        if running and all(job.ended is not None for job in found):
            st.rerun()

    st.fragment(draw, run_every=POLL_SECONDS if running else None)()


def show_job(job: Job, settings: Settings, *, opened: bool) -> None:
    """Show a run: how far it is, and what came of every file."""
    when = time.strftime("%H:%M", time.localtime(job.started))
    files = dict(job.files)
    over = sum(file.state not in ("waiting", "embedding") for file in files.values())
    title = f"{when} · {plain(t(job.label))} · "
    if job.ended is None:
        done = nmsg("{done} of {n} file done", "{done} of {n} files done", len(files), done=over)
        title += t(done) if files else t("scanning files")
    elif job.error:
        title += t("interrupted")
    else:
        title += t("done in {seconds:.1f} s", seconds=job.ended - job.started)
    with st.expander(title, expanded=opened, icon=":material/sync:" if job.ended is None else ":material/task_alt:"):
        if job.ended is None:
            share = over / len(files) if files else 0.0
            of_files = nmsg("{done} of {n} file", "{done} of {n} files", len(files), done=over)
            stored = nmsg("{n} chunk stored", "{n} chunks stored", job.stored)
            st.progress(share, t(words_joined(" · ", (of_files, stored))))
            st.caption(t("Continues if you close this page."))
        if job.error:
            states.show_error(job.error)
        if job.report:
            st.markdown(summary(job))
            model = settings.endpoint("EMBEDDING").model
            for code, n in sync.foreign(job.report.languages, model).items():
                note = nmsg(
                    "{n} document is in {language}, and {model} reads English only: set RAG_EMBEDDING_MODEL to another.",
                    "{n} documents are in {language}, and {model} reads English only: set RAG_EMBEDDING_MODEL to another.",
                    n,
                    language=t(language.name(code)),
                    model=model,
                )
                states.note(t(note), "translate")
        if files:
            st.dataframe(
                table(files),
                hide_index=True,
                height=min(36 * len(files) + 40, 400),
                column_config={
                    t("progress"): st.column_config.ProgressColumn(min_value=0, max_value=100, format="%d%%", width="small"),
                    t("file"): st.column_config.TextColumn(width="large"),
                },
                key=f"job-{job.id}",
                alt=t("File results"),
            )


def table(files: dict[str, FileState]) -> list[dict[str, Any]]:
    """Return a row for each file."""
    rows = []
    for name, file in files.items():
        over = file.state not in ("waiting", "embedding")
        share = 100 if over else 100 * file.done // max(file.chunks, 1)
        rows.append(
            {
                t("file"): visible(name),
                t("state"): t(STATES[file.state]),
                t("progress"): share,
                t("chunks"): file.chunks,
                t("reason"): visible(t(file.reason)),
            }
        )
    return rows


def summary(job: Job) -> str:
    """Return a run's result on one line."""
    counts = Counter(file.state for file in job.files.values())
    parts = [msg("{n} {state}", n=counts[state], state=name) for state, name in STATES.items() if counts[state]]
    if job.unchanged:
        parts.append(msg("{n} unchanged", n=job.unchanged))
    return t(words_joined(" · ", parts)) if parts else t("Nothing to do.")


def choose(settings: Settings, revision: str) -> list[StoredDocument]:
    """Show what is stored, and return the documents that are chosen."""
    top = resources.listing(settings.collection, revision)
    documents = nmsg("{n:,} document", "{n:,} documents", top.n_documents)
    chunks = nmsg("{n:,} chunk", "{n:,} chunks", top.n_chunks)
    st.subheader(t(words_joined(", ", (documents, chunks))), anchor=False)
    sought = st.text_input(
        t("Search"),
        key="search",
        type="search",
        live=True,
        icon=":material/search:",
        placeholder=t("path, title, type, language"),
    )
    words = tuple((sought or "").lower().split())
    # A large collection is looked through folder by folder.
    folder = "" if top.whole else choose_folder(settings, revision)
    listing = resources.listing(settings.collection, revision, folder, words)
    found = listing.documents
    if not top.whole:
        shown = nmsg(
            "{n:,} document shown: search, or open a folder.", "{n:,} documents shown: search, or open a folder.", len(found)
        )
        st.caption(t(shown))
    rows = {
        t("document"): [visible(d.document) for d in found],
        t("title"): [visible(d.title) for d in found],
        t("type"): [Path(d.document).suffix.lstrip(".").upper() for d in found],
        t("chunks"): [d.chunks for d in found],
        t("language"): [t(language.name(d.language)) for d in found],
        t("indexed"): [datetime.fromtimestamp(d.version.when, UTC).astimezone() for d in found],
    }
    for name in sorted({name for d in found for name in d.fields}):
        rows.setdefault(name, [visible(", ".join(map(str, d.fields.get(name, ())))) for d in found])
    if not all(d.whole for d in found):
        rows[t("state")] = ["" if d.whole else t("incomplete: add it again") for d in found]
    names = [d.document for d in found]
    # Another table for other rows: what is picked is kept by its place.
    table_key = f"table-{hashlib.sha256(repr(names).encode()).hexdigest()[:12]}"

    def pick() -> None:
        selected = [names[row] for row in st.session_state[table_key]["selection"]["rows"] if row < len(names)]
        # What was chosen and is not in this table stays chosen.
        kept = [name for name in st.session_state.get(Widget.SELECTED, []) if name not in names]
        st.session_state[Widget.SELECTED] = [*kept, *selected]

    st.dataframe(
        rows,
        hide_index=True,
        on_select=pick,
        selection_mode="multi-row",
        key=table_key,
        height=min(36 * max(len(found), 1) + 40, 420),
        # In a window of common width, all columns are seen.
        column_config={
            t("document"): st.column_config.TextColumn(width=220),
            t("title"): st.column_config.TextColumn(width=180),
            t("indexed"): st.column_config.DatetimeColumn(format="localized", width=175),
        },
        alt=t("The documents that are stored"),
    )
    wanted = {*st.query_params.get_all(Widget.SELECTED), *st.session_state.get(Widget.SELECTED, [])}
    # Chosen elsewhere in a large collection, or named by the address.
    offered = [d.document for d in (top if top.whole else listing).documents]
    others = [d.document for d in resources.documents(settings.collection, wanted.difference(offered))]
    chosen = st.multiselect(
        t("Selected"),
        [*offered, *others],
        format_func=visible,
        key=Widget.SELECTED,
        bind="query-params",
        placeholder=t("Pick rows above, or type here; select one to see its chunks"),
    )
    return resources.documents(settings.collection, chosen) if chosen else []


def choose_folder(settings: Settings, revision: str) -> str:
    """Offer the folder that is open, those around it, and those in it; return the one that is chosen."""
    chosen: str = st.session_state.get("folder") or ""
    parts = chosen.split("/")[:-1]
    around = ["", *("/".join(parts[:n]) + "/" for n in range(1, len(parts) + 1))]
    inside = resources.listing(settings.collection, revision, chosen).folders
    return st.selectbox(
        t("Folder"),
        [*around, *(folder for folder in inside if folder not in around)],
        index=len(around) - 1,
        key="folder",
        format_func=lambda folder: visible(folder) or t("all folders"),
    )


def act(settings: Settings, chosen: list[StoredDocument]) -> None:
    """Offer what can be done with the chosen documents, and with all."""
    names = [d.document for d in chosen]
    with st.container(horizontal=True):
        if st.button(t("Delete"), icon=":material/delete:", disabled=not chosen):
            confirm_delete(settings, chosen)
        if st.button(t("Re-embed"), icon=":material/refresh:", disabled=not chosen):
            label = nmsg("{n} document re-embedded", "{n} documents re-embedded", len(names))
            start(settings, label, lambda progress: jobs.embed_again(settings, names, progress))
        if st.button(
            t("Re-embed all"),
            icon=":material/restart_alt:",
            help=t("For another embedding model or chunk size. The old collection answers until the new one is complete."),
        ):
            start(settings, msg("All re-embedded"), lambda progress: jobs.reindex(settings, progress))


def confirm_delete(settings: Settings, chosen: list[StoredDocument]) -> None:
    """Ask before documents are deleted."""

    def delete() -> None:
        try:
            with resources.store(settings.collection) as store:
                sync.forget(store, [d.document for d in chosen])
                LexicalIndex(store, settings.lexical_path).remove()
                KeptTokens(settings.builtin_path).remove()
            for d in chosen:
                uploads.remove(settings, d.path)
            st.session_state[Widget.SELECTED] = []
        except (RagError, OSError) as error:
            if not isinstance(error, RagError):
                error = RagError(msg("{reason}", reason=error), msg("check its permissions"))
            visit().problem = error

    def ask() -> None:
        for d in chosen[:10]:
            st.markdown(f"- {plain(d.document)}, {t(nmsg('{n} chunk', '{n} chunks', d.chunks))}")
        if len(chosen) > 10:
            st.markdown(t("and {n} more", n=len(chosen) - 10))
        st.caption(
            t("Uploaded files are deleted with their documents. Others stay where they are: the next ingest brings them back.")
        )
        if st.button(t(nmsg("Delete {n} document", "Delete {n} documents", len(chosen))), type="primary", on_click=delete):
            st.rerun()

    st.dialog(t("Delete?"))(ask)()
