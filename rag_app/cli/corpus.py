"""The commands on the corpus: rag-app ingest, reindex, documents, forget, reset."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table
from rich.text import Text

from rag_app import language
from rag_app.cli.terminal import CollectionOption, JsonOption, configure, err, named_path, out, printable, show_json
from rag_app.errors import RagError, SettingsError
from rag_app.settings import Settings
from rag_app.words import joined, msg, nmsg

# States of files that are listed with their reason, and how.
LISTED = {
    "empty": (msg("empty"), "dim"),
    "skipped": (msg("skipped"), "dim"),
    "noted": (msg("with notes"), "yellow"),
    "failed": (msg("failed"), "red"),
}
Globs = list[str] | None
IncludeOption = Annotated[
    Globs, typer.Option("--include", metavar="GLOB", help="Only files that match, as in .gitignore: '*.md'. Repeatable.")
]
ExcludeOption = Annotated[
    Globs,
    typer.Option("--exclude", metavar="GLOB", help="Without files that match: 'drafts/'. Repeatable; see .ragignore too."),
]
BatchOption = Annotated[
    bool,
    typer.Option(
        "--batch",
        help="Embed by the endpoint's batch interface: cheaper, within a day, in which nobody else changes the collection. "
        "Ctrl-C leaves it; the same command goes on.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Also where it removes what is stored of files that are gone.")]


def part(text: str) -> str:
    """Return a part such as 3/8 as it was typed. RagError if it is none."""
    numbers = re.fullmatch(r"([1-9]\d{0,3})/([1-9]\d{0,3})", text)
    if not text or (numbers and int(numbers[1]) <= int(numbers[2])):
        return text
    raise SettingsError(msg("{text} is no part", text=text), msg("write it as 3/8: the third of eight"))


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Folders and files.", show_default=False, parser=named_path)],
    collection: CollectionOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Also files and folders whose name starts with a dot.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="Remove documents whose files are gone, or keep them.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and ingest again whenever a file changes. Ctrl-C ends it.")
    ] = False,
    force: ForceOption = False,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Only part I of N, by name: run N of them at once, on machines that see the same files.",
            parser=part,
        ),
    ] = "",
    batch: BatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the collection equal to the documents below PATHS.

    Reads Markdown, text, HTML, PDF, Office and OpenDocument files, EPUB, RTF, mail, tables, JSON, XML and source code. Only
    what is new or changed is embedded; a moved file keeps its vectors; what is gone leaves the collection. A file named
    .ragignore in a folder leaves files out, as .gitignore does. Exit code 1 if a file failed; the others are stored all the
    same.
    """
    from ingest import files, planning, sync
    from rag_app.lexical.kept import bring_in_step
    from rag_app.store.opening import is_there, open_store

    if watch and batch:
        raise SettingsError(msg("--watch cannot wait for batches"), msg("leave out one of --watch and --batch"))
    settings = configure(collection=collection)
    cutting, limits = sync.cutting_and_limits(settings)
    choice = files.Choice(tuple(include or ()), tuple(exclude or ()), hidden)
    # Looked at before anything is made or started.
    files.find(paths, choice=choice, gone_is_empty=force)

    def run() -> "sync.Report | planning.Plan":
        # A dry run makes no folder and starts no model.
        if dry_run and not is_there(settings):
            found = planning.look_through(paths, None, choice, force=force)
            return planning.plan(found, None, prune=prune, force=force, fields=cutting.fields)
        with open_store(settings, create=True) as store:
            found = planning.look_through(paths, store, choice, force=force)
            found = found.only(shard) if shard else found
            if dry_run:
                return planning.plan(found, store, prune=prune, force=force, fields=cutting.fields)
            with progress_bar() as progress, embedder(settings, batch, shard) as embeddings:
                report = sync.ingest(found, store, embeddings, cutting, limits, progress, prune=prune, force=force)
                bring_in_step(store, settings, progress.lexical)
                return report

    report = run()
    show(report, settings, as_json)
    if watch and isinstance(report, sync.Report):
        keep_watch(paths, run, settings, as_json)
    if isinstance(report, sync.Report) and report.documents.failed:
        raise typer.Exit(1)


@contextmanager
def embedder(settings: Settings, batch: bool, shard: str = "") -> Iterator[Any]:
    """Lend what embeds: the client of the endpoint, or batches of it, which are deleted once all of it is stored."""
    from ingest.bulk import Bulk
    from rag_app.endpoints.opening import open_embeddings

    with closing(open_embeddings(settings)) as embeddings:
        if not batch:
            yield embeddings
            return
        place = settings.chroma_url or settings.chroma_path.resolve()
        whose = f"{place} {settings.collection} {shard}"
        with closing(
            Bulk(embeddings, settings.batch_path, whose, lambda line: err.print(printable(line), style="dim"))
        ) as bulk:
            yield bulk
            bulk.done()


def keep_watch(paths: Sequence[Path], run: Any, settings: Settings, as_json: bool) -> None:
    """Run again after each change below the paths, until Ctrl-C."""
    import watchfiles

    names = ", ".join(str(path) for path in paths)
    err.print(printable(msg("watching {names}; Ctrl-C ends it", names=names)), style="dim")
    first = True
    for changes in watchfiles.watch(*paths, debounce=1000, rust_timeout=500, yield_on_timeout=True, raise_interrupt=True):
        # Once at the start too: something may have changed during the run before.
        if not (changes or first):
            continue
        first = False
        try:
            report = run()
        except RagError as error:
            # An endpoint that is down now may be up at the next change.
            err.print(printable(msg("error: {error}", error=error)), style="red")
        else:
            show(report, settings, as_json)


def reindex(
    collection: CollectionOption = None, force: ForceOption = False, batch: BatchOption = False, as_json: JsonOption = False
) -> None:
    """Rebuild the collection from its documents' files, with the current settings.

    For another embedding model, prefix or chunk size. It is built beside the old collection, which answers questions until
    the new one takes its place. An interrupted one is resumed.
    """
    from ingest import reindex as rebuilding
    from ingest import sync
    from rag_app.lexical.kept import bring_in_step
    from rag_app.store.opening import open_store

    settings = configure(collection=collection)
    cutting, limits = sync.cutting_and_limits(settings)
    with open_store(settings) as old, progress_bar() as progress, embedder(settings, batch) as embeddings:
        report = rebuilding.reindex(old, embeddings, cutting, limits, progress, force=force)
        bring_in_step(old, settings, progress.lexical)
    show(report, settings, as_json)
    if report.documents.failed:
        raise typer.Exit(1)


def documents(collection: CollectionOption = None, as_json: JsonOption = False) -> None:
    """List the documents that are stored: chunks, language, when they were indexed; with --json from which folder too."""
    from rag_app.store.opening import open_store

    settings = configure(collection=collection)
    with open_store(settings) as store:
        stored, recipe = list(store.documents().values()), store.recipe
    if as_json:
        fields = [
            {
                "document": d.document,
                "title": d.title,
                "chunks": d.chunks,
                "language": d.language,
                "indexed": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(d.version.when)),
                "root": d.version.root,
                "whole": d.whole,
                "fields": d.fields,
            }
            for d in stored
        ]
        listed = {"collection": settings.collection, "recipe": recipe, "documents": fields}
        show_json(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column(printable(msg("chunks")), justify="right", no_wrap=True)
    table.add_column(printable(msg("language")), no_wrap=True)
    table.add_column(printable(msg("indexed")), no_wrap=True)
    table.add_column(printable(msg("document")), overflow="fold", ratio=1)
    names = sorted({field for d in stored for field in d.fields})
    for field in names:
        table.add_column(printable(field), overflow="fold")
    for d in stored:
        name = Text(printable(d.document))
        if not d.whole:
            name.append("  ").append(printable(msg("(incomplete: run ingest again)")), style="yellow")
        indexed = time.strftime("%Y-%m-%d %H:%M", time.localtime(d.version.when))
        values = (", ".join(map(str, d.fields.get(field, ()))) for field in names)
        table.add_row(str(d.chunks), language.name(d.language), indexed, name, *map(printable, values))
    Console(highlight=False, emoji=False).print(table)
    n_documents = nmsg("{n:,} document", "{n:,} documents", len(stored))
    n_chunks = nmsg("{n:,} chunk", "{n:,} chunks", sum(d.chunks for d in stored))
    counts = msg(
        "{documents}, {chunks} in {collection}", documents=n_documents, chunks=n_chunks, collection=settings.collection
    )
    out.print(counts, style="bold")
    for what, value in sorted(recipe.items()):
        out.print(printable(f"{what.replace('_', ' ')}: {value or '–'}"), style="dim")


def forget(
    names: Annotated[
        list[str], typer.Argument(metavar="PATH…", help="Documents or folders, as `rag-app documents` names them.")
    ],
    collection: CollectionOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also where it is more than one.")] = False,
) -> None:
    """Take documents out of the collection; their files stay.

    The next ingest of their folder brings them back, unless .ragignore names them.
    """
    from ingest import sync
    from rag_app.builtin.late import KeptTokens
    from rag_app.lexical.kept import LexicalIndex
    from rag_app.store.opening import open_store

    settings = configure(collection=collection)
    with open_store(settings) as store:
        meant = sync.chosen(store, names)
        question = msg("Forget {n} documents, {first} to {last}?", n=len(meant), first=meant[0], last=meant[-1])
        if len(meant) > 1 and not yes and not typer.confirm(printable(question), err=True):
            raise RagError(msg("nothing was forgotten"))
        forgotten = sync.forget(store, meant)
        LexicalIndex(store, settings.lexical_path).remove()
        KeptTokens(settings.builtin_path).remove()
    for document, n in forgotten.items():
        line = nmsg("forgotten: {document} ({n} chunk)", "forgotten: {document} ({n} chunks)", n, document=document)
        out.print(line)
    note = msg("note: the next ingest of their folder brings them back, unless a .ragignore names them")
    err.print(note, style="dim")


def reset(
    collection: CollectionOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the whole collection; the files that it was made from stay."""
    from ingest import mending, sync
    from rag_app.builtin.late import KeptTokens
    from rag_app.lexical.kept import LexicalIndex
    from rag_app.store.opening import open_store

    settings = configure(collection=collection)
    if not mending.is_readable(settings):
        question = msg("The database in {place} is damaged: delete all its collections?", place=settings.chroma_path)
        if not yes and not typer.confirm(printable(question), err=True):
            raise RagError(msg("nothing was deleted"))
        mending.clear(settings)
        out.print(printable(msg("all collections in {place} are deleted", place=settings.chroma_path)))
        return
    with open_store(settings) as store:
        try:
            n = store.count()
            chunks: str = nmsg("{n} chunk", "{n} chunks", n)
        except RagError:
            # A damaged index cannot be counted, but deleted.
            chunks = msg("all chunks")
        question = msg("Delete collection {name} in {place} with {chunks}?", name=store.name, place=store.place, chunks=chunks)
        if not yes and not typer.confirm(printable(question), err=True):
            raise RagError(msg("nothing was deleted"))
        sync.reset(store)
        LexicalIndex(store, settings.lexical_path).remove()
        KeptTokens(settings.builtin_path).remove()
    out.print(printable(msg("{name} is deleted: {chunks}", name=settings.collection, chunks=chunks)))


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the application's command line."""
    for command in (ingest, reindex, documents, forget, reset):
        app.command()(command)


def show(result: Any, settings: Settings, as_json: bool) -> None:
    """Print a plan or a report, and on stderr the files that are not indexed."""
    if as_json:
        show_json(result.model_dump_json(indent=2))
    elif hasattr(result, "chunks"):
        show_report(result, settings)
    else:
        show_plan(result, settings)
    listed = result.documents if hasattr(result, "documents") else result
    for state, (name, style) in LISTED.items():
        for failure in getattr(listed, state, ()):
            err.print(printable(joined(": ", (name, failure.path, failure.reason))), style=style)
    if hasattr(result, "languages"):
        warn_of_languages(result.languages, settings.endpoint("EMBEDDING").model)


def show_report(report: Any, settings: Settings) -> None:
    """Print the result of a run in two lines."""
    d, c = report.documents, report.chunks
    added = nmsg("{n} document added", "{n} documents added", d.added)
    line = msg(
        "{collection}: {added}, {changed} changed, {unchanged} unchanged, {moved} moved, {removed} removed, {empty} empty, "
        "{skipped} skipped, {failed} failed",
        collection=settings.collection,
        added=added,
        changed=d.changed,
        unchanged=d.unchanged,
        moved=d.moved,
        removed=d.removed,
        empty=len(d.empty),
        skipped=len(d.skipped),
        failed=len(d.failed),
    )
    out.print(line)
    line = msg(
        "{stored}: {embedded} embedded in {requests}, {deleted} deleted, {seconds:.1f} s",
        stored=nmsg("{n} chunk stored", "{n} chunks stored", c.stored),
        embedded=c.embedded,
        requests=nmsg("{n} request", "{n} requests", report.embedding_requests),
        deleted=c.deleted,
        seconds=report.seconds,
    )
    out.print(line, style="dim")


def show_plan(plan: Any, settings: Settings) -> None:
    """Print what a run would do, a line each document."""
    for mark, state in (("+", "added"), ("~", "changed"), ("-", "removed")):
        for document in getattr(plan, state):
            out.print(printable(f"{mark} {document}"))
    for old, new in plan.moved:
        out.print(printable(f"> {old} → {new}"))
    line = msg(
        "{collection} (dry run): {added} added, {changed} changed, {moved} moved, {removed} removed, {unchanged} unchanged; "
        "nothing was changed",
        collection=settings.collection,
        **{state: len(getattr(plan, state)) for state in ("added", "changed", "moved", "removed", "unchanged")},
    )
    out.print(line, style="bold")
    err.print(printable(msg("note: a file may turn out empty, skipped or failed only when it is read")), style="dim")


def warn_of_languages(languages: dict[str, int], model: str) -> None:
    """Say on stderr when documents are in languages that the embedding model does not read."""
    from ingest import sync

    total = sum(languages.values())
    for code, count in sync.foreign(languages, model).items():
        note = msg(
            "note: {count} of {total} documents are in {language}, and {model} reads English only: "
            "set RAG_EMBEDDING_MODEL to another",
            model=model,
            count=count,
            total=total,
            language=language.name(code),
        )
        err.print(note, style="yellow")


class Stored(ProgressColumn):
    """Chunks stored, and how many a second."""

    def render(self, task: Task) -> Text:
        stored = task.fields["stored"]
        rate = stored / task.elapsed if task.elapsed else 0
        line = msg("{chunks}, {rate:.0f}/s", chunks=nmsg("{n:,} chunk", "{n:,} chunks", stored), rate=rate) if stored else ""
        return Text(printable(line), style="dim")


@contextmanager
def progress_bar() -> Iterator[Any]:
    """Show on stderr how many files are done, the chunks stored, their rate, and the time left."""
    from ingest.planning import Plan
    from ingest.sync import Progress as Callbacks

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Stored(), TimeLeft())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(printable(msg("scanning files")), total=None, stored=0)

        def planned(plan: Plan) -> None:
            work = len(plan.added) + len(plan.changed) + len(plan.moved)
            bar.update(task, description=printable(msg("indexing")), total=work, visible=work > 0)

        def file(document: str, state: str, reason: str) -> None:
            if state == "removed":
                bar.console.print(printable(msg("removed: {document}", document=document)), style="dim")
            elif state != "unchanged":
                bar.advance(task)

        def waits(seconds: float, reason: str) -> None:
            line = msg("waiting {seconds:.0f} s for the embeddings endpoint: {reason}", seconds=seconds, reason=reason)
            bar.console.print(printable(line), style="yellow")

        def lexical(done: int, of: int) -> None:
            bar.update(task, description=printable(msg("indexing words")), completed=done, total=of, visible=True)

        yield Callbacks(
            plan=planned, file=file, chunks=lambda stored: bar.update(task, stored=stored), waits=waits, lexical=lexical
        )
