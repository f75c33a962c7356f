"""The terminal: its language, where text goes, how errors end, and what every command shares."""

import json
import logging
import multiprocessing.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from rag_app.errors import RagError, SettingsError
from rag_app.settings import Settings, load_settings
from rag_app.words import Message, Words, msg, nearest, words


def w() -> Words:
    """Return the words of the terminal, in the language of its environment, as gettext finds that."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    if locale.partition(".")[0] in ("C", "POSIX"):
        return words("en")
    return words(nearest(*(os.environ.get("LANGUAGE") or locale).split(":")))


def t(text: str) -> str:
    """Return a message in the language of the terminal; any other text as it is."""
    return w()(text) if isinstance(text, Message) else text


def printable(text: str) -> str:
    """Return a message or text as the terminal shows it, without control and direction characters.

    A document must not drive the terminal.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else " " if c.isspace() else "" for c in t(text))


def show_json(text: str) -> None:
    """Print JSON, with \\u in place of what the terminal would obey: JSON itself lets most of it stand."""
    typer.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


class PrintableFormatter(logging.Formatter):
    """Writes log lines that are only text, whatever an endpoint said."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Terminal(Console):
    """A console that says messages in the language of the terminal, and prints only what is printable."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **options)


out = Terminal(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Terminal(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

# Commands that the next run of them completes.
GO_ON = ("ingest", "reindex", "eval", "sweep", "compare", "gate")
JSON = "rag_app.json"


def noted(ctx: typer.Context, as_json: bool) -> bool:
    """Remember for errors that a command prints JSON."""
    ctx.meta[JSON] = as_json
    return as_json


CollectionOption = Annotated[str | None, typer.Option(help="Chroma collection (RAG_COLLECTION).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.", callback=noted)]


class Commands(TyperGroup):
    """Turns our errors into one line on stderr and an exit code: 1 failed, 2 misused, 130 interrupted."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RagError as error:
            fail(error, as_json=ctx.meta.get(JSON, False))
        except KeyboardInterrupt:
            err.print()
            err.print(
                msg("interrupted: nothing was left half-written; run the same command again to finish")
                if ctx.invoked_subcommand in GO_ON
                else msg("interrupted"),
                style="yellow",
            )
            sys.stdout.flush()
            for child in multiprocessing.active_children():
                child.kill()
            # Otherwise Python warns of leaked semaphores.
            multiprocessing.util._exit_function()  # type: ignore[attr-defined]
            # Requests under way would hold the process until they are answered.
            os._exit(130)


def fail(error: RagError, *, as_json: bool, **known: object) -> NoReturn:
    """Print an error and exit; as JSON too, beside what is known in spite of it."""
    err.print(msg("error: {error}", error=error), style="red")
    if as_json:
        show_json(json.dumps({**known, **error.record()}, indent=2, ensure_ascii=False))
    raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from error


def named_path(text: str) -> Path:
    """Return a path; an empty one, as of an unset variable, would be the working directory."""
    if not text.strip():
        raise SettingsError(msg("a path is empty"), msg("give a folder, or . for the current one"))
    return Path(text).expanduser()


def configure(**options: object) -> Settings:
    """Return the settings with the options on top, and print on stderr what is unlikely to work well."""
    settings = load_settings(**options)
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level="ERROR", handlers=[handler], force=True)
    logging.getLogger("rag_app").setLevel(settings.log_level.upper())
    for line in settings.advice():
        err.print(msg("note: {note}", note=line), style="yellow")
    return settings
