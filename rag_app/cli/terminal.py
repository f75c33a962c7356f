"""The terminal: where text goes, how errors end, and what every command shares."""

import logging
import multiprocessing.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from rag_app.errors import RagError, SettingsError
from rag_app.settings import Settings, load_settings

out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

# Commands that the next run of them completes.
GO_ON = ("ingest", "reindex", "eval", "sweep", "compare", "gate")
RUN_AGAIN = ": nothing is half-written; run the same command again to complete it"

CollectionOption = Annotated[str | None, typer.Option(help="Chroma collection (RAG_COLLECTION).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]


class Commands(TyperGroup):
    """Turns our errors into one line on stderr and an exit code: 1 failed, 2 misused, 130 interrupted."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RagError as error:
            err.print(f"error: {printable(str(error))}", style="red")
            raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from error
        except KeyboardInterrupt:
            err.print("\ninterrupted" + (RUN_AGAIN if ctx.invoked_subcommand in GO_ON else ""), style="yellow")
            sys.stdout.flush()
            for child in multiprocessing.active_children():
                child.kill()
            # Else their semaphores are complained of.
            multiprocessing.util._exit_function()  # type: ignore[attr-defined]
            # Requests under way would hold the process until they are answered.
            os._exit(130)


def named_path(text: str) -> Path:
    """Return a path; an empty one, as of an unset variable, would be the working directory."""
    if not text.strip():
        raise typer.BadParameter("a path is empty: name a folder, or . for this one")
    return Path(text).expanduser()


def configure(**options: object) -> Settings:
    """Return the settings with the options on top, and say on stderr what is unlikely to serve."""
    settings = load_settings(**options)
    logging.basicConfig(level="ERROR", format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("rag_app").setLevel(settings.log_level.upper())
    for line in settings.advice():
        err.print(f"note: {line}", style="yellow")
    return settings


def printable(text: str) -> str:
    """Return text without control and direction characters: a document must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " if c.isspace() else "" for c in text)
