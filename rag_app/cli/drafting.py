"""The command `rag-app questions`: test questions drafted by the chat model, accepted or dropped by a person."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rag_app.cli.measuring import progress_bar
from rag_app.cli.terminal import CollectionOption, JsonOption, configure, err, out, printable, show_json
from rag_app.errors import RagError
from rag_app.words import msg, nmsg


def questions(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="DOCS", help="Documents or folders of the collection, as `rag-app documents` names them."),
    ] = None,
    collection: CollectionOption = None,
    n: Annotated[int, typer.Option("--n", min=1, max=1000, help="Drafts to make, each from another chunk.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Draft test questions from documents with the chat model, for you to accept or drop.

    A draft is kept in drafts.jsonl in RAG_EVAL_PATH and counts once you accept it: in a terminal, here, or on the page
    Evaluate. Without DOCS, you review the waiting drafts.
    """
    from ingest.sync import chosen
    from rag_app.evaluation.drafts import Drafts, draft
    from rag_app.pipeline import Pipeline

    settings = configure(collection=collection)
    drafts = Drafts(settings.eval_path)
    if names:
        with Pipeline.open(settings) as pipeline, progress_bar(msg("drafting")) as told:
            documents = chosen(pipeline.store, names)
            made, refused = draft(pipeline, documents, n, drafts, lambda done, of: told(done, of, 0))
        err.print(
            nmsg("{n} question drafted, in {file}", "{n} questions drafted, in {file}", len(made), file=drafts.path),
            style="dim",
        )
        for reason, count in refused.items():
            err.print(
                nmsg("left out: {n} draft: {reason}", "left out: {n} drafts: {reason}", count, reason=reason), style="yellow"
            )
    waiting = drafts.waiting()
    if as_json:
        show_json(json.dumps({"drafts": [one.model_dump() for one in waiting]}, indent=2, ensure_ascii=False))
    elif not waiting:
        out.print(msg("no drafts are waiting: name documents to draft from, as in `rag-app documents`"))
    elif sys.stdin.isatty():
        go_through(drafts, waiting)
    else:
        for one in waiting:
            show_draft(one)
        out.print(
            nmsg(
                "{n} draft is waiting: accept or drop it on the page Evaluate, or in a terminal with `rag-app questions`",
                "{n} drafts are waiting: accept or drop them on the page Evaluate, or in a terminal with `rag-app questions`",
                len(waiting),
            )
        )


def go_through(drafts: Any, waiting: Sequence[Any]) -> None:
    """Ask of each draft whether it is accepted or dropped."""
    accepted = dropped = 0
    for i, one in enumerate(waiting, 1):
        out.print()
        out.print(msg("{n} of {of}", n=i, of=len(waiting)), style="dim")
        show_draft(one)
        asked = printable(msg("accept, drop, later or quit? [a/d/l/q]"))
        said = typer.prompt(asked, default="l", show_default=False).strip().lower()[:1]
        if said == "q":
            break
        if said == "a":
            try:
                drafts.accept(one)
                accepted += 1
            except RagError as error:
                err.print(msg("error: {error}", error=error), style="red")
        elif said == "d":
            drafts.drop(one)
            dropped += 1
    left = len(drafts.waiting())
    out.print(
        msg("{accepted} accepted, {dropped} dropped, {left} waiting", accepted=accepted, dropped=dropped, left=left),
        style="bold",
    )


def show_draft(draft: Any) -> None:
    """Print a draft: its question, answer, document and quote."""
    out.print(draft.question, style="bold")
    out.print(
        msg("  answer: {answer}\n  {document}: “{quote}”", answer=draft.answer, document=draft.document, quote=draft.quote)
    )
