"""The commands for the store itself: repair, backup, restore."""

from pathlib import Path
from typing import Annotated

import typer

from rag_app.cli.corpus import progress_bar
from rag_app.cli.terminal import JsonOption, configure, err, out, printable, show_json
from rag_app.errors import RagError
from rag_app.words import msg, nmsg


def repair(as_json: JsonOption = False) -> None:
    """Mend the embedded Chroma: look at all of it, and make anew what is damaged.

    The index of a collection is made anew from the texts and vectors that are still stored; a vector that is lost is embedded
    again. A database that cannot be read is put aside, never deleted, and its documents are ingested again from their files.
    Questions wait meanwhile. Takes minutes for a million chunks.
    """
    from ingest import mending

    settings = configure()
    with progress_bar() as progress:
        mended = mending.repair(settings, progress)
    if as_json:
        show_json(mended.model_dump_json(indent=2))
        return
    for collection, how in mended.indexes.items():
        out.print(printable(msg("{collection}: its index is made anew ({how})", collection=collection, how=how)))
    if mended.embedded:
        out.print(printable(nmsg("{n:,} vector was embedded again", "{n:,} vectors were embedded again", mended.embedded)))
    if mended.aside:
        out.print(printable(msg("the database could not be read, and is in {path} now", path=mended.aside)))
    for collection, report in mended.reports.items():
        n = report.chunks.stored
        stored = nmsg("{collection}: {n:,} chunk", "{collection}: {n:,} chunks", n, collection=collection)
        out.print(printable(msg("{stored} made anew from the files", stored=stored)))
    for document in mended.lost:
        err.print(printable(msg("lost: {document}, whose file is gone too", document=document)), style="yellow")
    if mended.aside:
        note = msg("note: what it no longer named is brought back by `rag-app ingest PATH`")
        err.print(printable(note), style="dim" if mended.reports else "yellow")
    if not (mended.aside or mended.indexes or mended.reports):
        out.print(printable(msg("nothing is damaged")))


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; a folder that is not there yet.")],
) -> None:
    """Copy the embedded Chroma to a folder, with all its collections; also while it is asked and written."""
    from ingest import mending

    settings = configure()
    with err.status(printable(msg("copying to {path}", path=folder))):
        mending.backup(settings, folder)
    out.print(printable(msg("{path} is a copy of {chroma}", path=folder, chroma=settings.chroma_path)))


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `rag-app backup` wrote.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Replace what is stored without asking.")] = False,
) -> None:
    """Put a backup in the place of the embedded Chroma."""
    from ingest import mending
    from rag_app.store.opening import is_there

    settings = configure()
    question = msg("Replace all collections in {place} by those in {folder}?", place=settings.chroma_path, folder=folder)
    if is_there(settings) and not yes and not typer.confirm(printable(question), err=True):
        raise RagError(msg("nothing was replaced"))
    mending.restore(settings, folder, replace=True)
    out.print(printable(msg("{chroma} is what was in {path}", chroma=settings.chroma_path, path=folder)))


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the application's command line."""
    for command in (repair, backup, restore):
        app.command()(command)
