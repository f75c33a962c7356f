"""The commands on the corpus: rag-app ingest, reindex, documents, forget, reset."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table
from rich.text import Text

from rag_app import language
from rag_app.cli.terminal import CollectionOption, JsonOption, configure, err, named_path, out, printable
from rag_app.errors import RagError
from rag_app.settings import Settings

Globs = list[str] | None
IncludeOption = Annotated[
    Globs, typer.Option("--include", metavar="GLOB", help="Only files that match, as in .gitignore: '*.md'. Repeatable.")
]
ExcludeOption = Annotated[
    Globs,
    typer.Option("--exclude", metavar="GLOB", help="Without files that match: 'drafts/'. Repeatable; see .ragignore too."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Also where it removes what is stored of files that are gone.")]


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
    as_json: JsonOption = False,
) -> None:
    """Make the collection equal to the documents below PATHS.

    Reads Markdown, text, HTML, PDF, Office and OpenDocument files, EPUB, RTF, mail, tables, JSON, XML and source code. Only
    what is new or changed is embedded; a moved file keeps its vectors; what is gone leaves the collection. A file named
    .ragignore in a folder leaves files out, as .gitignore does. Exit code 1 if a file failed; the others are stored all the
    same.
    """
    from ingest import files, planning, sync
    from rag_app.endpoints.opening import open_embeddings
    from rag_app.store.from_settings import is_there, open_store

    settings = configure(collection=collection)
    choice = files.Choice(tuple(include or ()), tuple(exclude or ()), hidden)
    # Looked at before anything is made or started.
    files.find(paths, choice=choice, gone_is_empty=force)

    def run() -> "sync.Report | planning.Plan":
        # A dry run makes no folder and starts no model.
        there = is_there(settings) or not dry_run
        store = open_store(settings, create=True) if there else None
        found = planning.look_through(paths, store, choice, force=force)
        if store is None or dry_run:
            return planning.plan(found, store, prune=prune, force=force)
        cutting, limits = sync.cutting_and_limits(settings)
        with progress_bar() as progress:
            return sync.ingest(found, store, open_embeddings(settings), cutting, limits, progress, prune=prune, force=force)

    report = run()
    show(report, settings, as_json)
    if watch and isinstance(report, sync.Report):
        keep_watch(paths, run, settings, as_json)
    if isinstance(report, sync.Report) and report.documents.failed:
        raise typer.Exit(1)


def keep_watch(paths: Sequence[Path], run: Any, settings: Settings, as_json: bool) -> None:
    """Run again after each change below the paths, until Ctrl-C."""
    import watchfiles

    names = ", ".join(str(path) for path in paths)
    err.print(f"watching {printable(names)}; Ctrl-C ends it", style="dim")
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
            err.print(f"error: {printable(str(error))}", style="red")
        else:
            show(report, settings, as_json)


def reindex(collection: CollectionOption = None, force: ForceOption = False, as_json: JsonOption = False) -> None:
    """Make the collection anew from its documents' files, with the settings of now.

    For another embedding model, prefix or chunk size. It is built beside the old collection, which answers questions until
    the new one takes its place. One that was broken off is gone on with.
    """
    from ingest import sync
    from rag_app.endpoints.opening import open_embeddings
    from rag_app.store.from_settings import open_store

    settings = configure(collection=collection)
    old = open_store(settings)
    cutting, limits = sync.cutting_and_limits(settings)
    with progress_bar() as progress:
        report = sync.reindex(old, open_embeddings(settings), cutting, limits, progress, force=force)
    show(report, settings, as_json)
    if report.documents.failed:
        raise typer.Exit(1)


def documents(collection: CollectionOption = None, as_json: JsonOption = False) -> None:
    """List the documents that are stored: chunks, language, when they were indexed; with --json from which folder too."""
    from rag_app.store.from_settings import open_store

    settings = configure(collection=collection)
    store = open_store(settings)
    stored = list(store.documents().values())
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
            }
            for d in stored
        ]
        typer.echo(
            json.dumps({"collection": store.name, "recipe": store.recipe, "documents": fields}, indent=2, ensure_ascii=False)
        )
        return
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("chunks", justify="right", no_wrap=True)
    table.add_column("language", no_wrap=True)
    table.add_column("indexed", no_wrap=True)
    table.add_column("document", overflow="fold", ratio=1)
    for d in stored:
        name = Text(printable(d.document))
        if not d.whole:
            name.append("  (incomplete: run ingest again)", style="yellow")
        indexed = time.strftime("%Y-%m-%d %H:%M", time.localtime(d.version.when))
        table.add_row(str(d.chunks), language.name(d.language), indexed, name)
    Console(highlight=False, emoji=False).print(table)
    out.print(f"{len(stored)} documents, {sum(d.chunks for d in stored)} chunks in {store.name}", style="bold")
    for what, value in sorted(store.recipe.items()):
        out.print(f"{what.replace('_', ' ')}: {printable(value) or '–'}", style="dim")


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
    from rag_app.store.from_settings import open_store

    settings = configure(collection=collection)
    store = open_store(settings)
    meant = sync.chosen(store, names)
    if len(meant) > 1 and not yes and not typer.confirm(f"Forget {len(meant)} documents, {meant[0]} to {meant[-1]}?", err=True):
        raise RagError("nothing was forgotten")
    for document, chunks in sync.forget(store, meant).items():
        out.print(f"forgotten: {printable(document)} ({chunks} chunks)")
    err.print("note: the next ingest of their folder brings them back, unless a .ragignore names them", style="dim")


def reset(
    collection: CollectionOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the whole collection; the files that it was made from stay."""
    from ingest import sync
    from rag_app.store.from_settings import open_store

    settings = configure(collection=collection)
    store = open_store(settings)
    n = store.count()
    if not yes and not typer.confirm(f"Delete collection {store.name} in {store.place} with its {n} chunks?", err=True):
        raise RagError("nothing was deleted")
    sync.reset(store)
    out.print(f"{store.name} is deleted: {n} chunks")


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the application's command line."""
    for command in (ingest, reindex, documents, forget, reset):
        app.command()(command)


def show(result: Any, settings: Settings, as_json: bool) -> None:
    """Print a plan or a report, and on stderr the files that are not indexed."""
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
    elif hasattr(result, "chunks"):
        show_report(result, settings)
    else:
        show_plan(result, settings)
    listed = result.documents if hasattr(result, "documents") else result
    for state, style in (("empty", "dim"), ("skipped", "dim"), ("noted", "yellow"), ("failed", "red")):
        for failure in getattr(listed, state, ()):
            err.print(printable(f"{state}: {failure.path}: {failure.reason}"), style=style)
    if hasattr(result, "languages") and settings.endpoint("EMBEDDING").builtin:
        warn_of_languages(result.languages)


def show_report(report: Any, settings: Settings) -> None:
    """Print the result of a run in two lines."""
    d, c = report.documents, report.chunks
    out.print(
        f"{settings.collection}: {d.added} documents added, {d.changed} changed, {d.unchanged} unchanged, {d.moved} moved, "
        f"{d.removed} removed, {len(d.empty)} empty, {len(d.skipped)} skipped, {len(d.failed)} failed"
    )
    out.print(
        f"{c.stored} chunks stored: {c.embedded} embedded in {report.embedding_requests} requests, {c.deleted} deleted, "
        f"{report.seconds:.1f} s",
        style="dim",
    )


def show_plan(plan: Any, settings: Settings) -> None:
    """Print what a run would do, a line each document."""
    for mark, state in (("+", "added"), ("~", "changed"), ("-", "removed")):
        for document in getattr(plan, state):
            out.print(printable(f"{mark} {document}"))
    for old, new in plan.moved:
        out.print(printable(f"> {old} → {new}"))
    counts = ", ".join(
        f"{len(getattr(plan, state))} {state}" for state in ("added", "changed", "moved", "removed", "unchanged")
    )
    out.print(f"{settings.collection}, if run: {counts}; nothing was done", style="bold")
    err.print("note: a file may turn out empty, skipped or failed only when it is read", style="dim")


def warn_of_languages(languages: dict[str, int]) -> None:
    """Say on stderr when documents are not in the language of the built-in models."""
    from ingest import sync

    total = sum(languages.values())
    for code, count in sync.foreign(languages).items():
        err.print(
            f"note: {count} of {total} documents are in {language.name(code)}, and the built-in models are English: "
            "set RAG_BASE_URL to a gateway with multilingual models",
            style="yellow",
        )


class Stored(ProgressColumn):
    """Chunks stored, and how many a second."""

    def render(self, task: Task) -> Text:
        stored = task.fields["stored"]
        rate = stored / task.elapsed if task.elapsed else 0
        return Text(f"{stored:,} chunks, {rate:.0f}/s" if stored else "", style="dim")


@contextmanager
def progress_bar() -> Iterator[Any]:
    """Show on stderr how many files are done, the chunks stored, their rate, and the time left."""
    from ingest.planning import Plan
    from ingest.sync import Progress as Callbacks

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Stored(), TimeLeft())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("looking through the files", total=None, stored=0)

        def planned(plan: Plan) -> None:
            work = len(plan.added) + len(plan.changed) + len(plan.moved)
            bar.update(task, description="indexing", total=work, visible=work > 0)

        def file(document: str, state: str, reason: str) -> None:
            if state == "removed":
                bar.console.print(printable(f"removed: {document}"), style="dim")
            elif state != "unchanged":
                bar.advance(task)

        yield Callbacks(plan=planned, file=file, chunks=lambda stored: bar.update(task, stored=stored))
