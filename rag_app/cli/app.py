"""The command line: rag-app ask, search, doctor and gateway.

corpus.py has ingest, documents and what changes a collection, measuring.py eval, sweep, compare and gate, drafting.py
questions, storing.py repair, backup and restore.
"""

import io
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rag_app import colours
from rag_app.cli import corpus, drafting, measuring, storing
from rag_app.cli.terminal import CollectionOption, Commands, JsonOption, configure, err, fail, out, printable, show_json, t
from rag_app.errors import RagError
from rag_app.types import FATES, FOUND, STAGES, WHERE, Ask, FirstStage, Search, arrow
from rag_app.words import msg, nmsg

COLOURS = {"promoted": colours.GAIN[0], "kept": colours.KEPT[0], "lost": colours.LOSS[0]}
ROWS = 10


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ask questions of your documents, and see what reranking did to the answer.\n\n"
    "Start with [bold]rag-app ingest data/corpus[/bold], then [bold]rag-app ask 'How …?'[/bold]. Without settings the "
    "built-in models answer; [bold].env.example[/bold] lists the settings.",
)

Question = Annotated[str, typer.Argument(help="The question, in quotes.")]
CandidatesOption = Annotated[int | None, typer.Option(help="Candidates to retrieve and rerank (RAG_N_CANDIDATES).")]
PassagesOption = Annotated[int | None, typer.Option(help="Passages for the chat model (RAG_N_PASSAGES).")]
RerankOption = Annotated[bool, typer.Option("--rerank/--no-rerank", help="Rerank, or keep the retrieval order.")]
FirstStageOption = Annotated[
    FirstStage | None,
    typer.Option("--first-stage", help="What finds the candidates: hybrid, dense (vectors alone) or lexical (words alone)."),
]
PlanOption = Annotated[
    Literal["none", "phrasings", "parts"] | None,
    typer.Option("--plan", help="Have the chat model plan the question: other phrasings too, or part by part (RAG_PLAN)."),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD=VALUE",
        help="Look only in documents that have this: a field of RAG_METADATA, or document, folder or language. "
        "May be repeated: of one field any value will do, of several fields all must hold.",
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help=f"Show every candidate in the table, not only the top {ROWS}.")]


@app.callback(invoke_without_command=True)
def about(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show_version:
        out.print(f"rag-app {version('rag-app')}")
        raise typer.Exit


corpus.add_to(app)
storing.add_to(app)
measuring.add_to(app)
app.command()(drafting.questions)


@app.command()
def ask(
    question: Question,
    rerank: RerankOption = True,
    first_stage: FirstStageOption = None,
    where: WhereOption = None,
    plan: PlanOption = None,
    candidates: CandidatesOption = None,
    passages: PassagesOption = None,
    collection: CollectionOption = None,
    show_all: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the ranking before and after reranking, then answer the question from its passages."""
    from rag_app.pipeline import Pipeline

    with Pipeline.open(configure(collection=collection, n_candidates=candidates, n_passages=passages)) as pipeline:
        how = {"rerank": rerank, "first_stage": first_stage, "plan": plan, "only": named(where or ())}
        answer(pipeline, question, how, show_all, as_json)


def answer(pipeline: Any, question: str, how: dict[str, Any], show_all: bool, as_json: bool) -> None:
    """Print the rankings as soon as they are there, the answer as it comes, then its sources."""
    from rag_app.pipeline import asked

    # A chat model without a name is found out before anything is paid for.
    pipeline.settings.endpoint("CHAT")
    search = searched(pipeline, question, how)
    if not as_json:
        show(search, show_all)
        out.print()
    answering = pipeline.answer(search)
    try:
        with ExitStack() as shown:
            shown.enter_context(err.status(Waiting(answering)))
            for piece in answering:
                if piece:
                    shown.close()
                    if not as_json:
                        out.print(piece, end="")
    except RagError as error:
        # The rankings were paid for and are worth seeing without an answer too.
        fail(error, as_json=as_json, **search.model_dump(mode="json"))
    result = asked(search, answering)
    if as_json:
        show_json(result.model_dump_json(indent=2))
        return
    if answering.retracted:
        out.print("\n")
        out.print(msg("— end of the model's thinking; its answer: —"), style="yellow")
        out.print()
        out.print(result.answer.text, end="")
    out.print("\n")
    show_sources(result)


class Waiting:
    """A line on stderr that says what an answer waits for, and how long already."""

    def __init__(self, answering: Any) -> None:
        self.answering = answering
        self.began = time.monotonic()

    def __rich__(self) -> Text:
        return Text(t(self.answering.waiting(time.monotonic() - self.began)))


@app.command()
def search(
    question: Question,
    rerank: RerankOption = True,
    first_stage: FirstStageOption = None,
    where: WhereOption = None,
    plan: PlanOption = None,
    candidates: CandidatesOption = None,
    passages: PassagesOption = None,
    collection: CollectionOption = None,
    show_all: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the ranking before and after reranking; like ask, but stops before the chat model."""
    from rag_app.pipeline import Pipeline

    with Pipeline.open(configure(collection=collection, n_candidates=candidates, n_passages=passages)) as pipeline:
        how = {"rerank": rerank, "first_stage": first_stage, "plan": plan, "only": named(where or ())}
        result = searched(pipeline, question, how)
    if as_json:
        show_json(result.model_dump_json(indent=2))
    else:
        show(result, show_all)
        out.print(result.stage_line, style="dim")


@app.command()
def doctor(collection: CollectionOption = None, as_json: JsonOption = False) -> None:
    """Try the three endpoints and Chroma with questions of known answer, and say what to do where one fails.

    Exit code 1 if anything failed.
    """
    from rag_app.doctor import Diagnosis, examine

    settings = configure(collection=collection)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", msg("part"), msg("check")):
        table.add_column(t(heading), no_wrap=True)
    table.add_column(t(msg("finding, and what to do")), overflow="fold")
    findings = []
    marks = {"ok": (msg("ok"), "green"), "warn": (msg("warn"), "yellow"), "fail": (msg("FAIL"), "bold red")}
    with err.status(t(msg("asking"))) as status:
        for finding in examine(settings):
            findings.append(finding)
            status.update(t(msg("asking: {part}", part=finding.part)))
            mark, style = marks[finding.status]
            text = Text(printable(finding.detail))
            if finding.remedy:
                text.append(f"\n→ {printable(finding.remedy)}", style="bold")
            table.add_row(Text(t(mark), style=style), t(finding.part), t(finding.check), text)
    diagnosis = Diagnosis(healthy=all(f.status != "fail" for f in findings), findings=tuple(findings))
    if as_json:
        show_json(diagnosis.model_dump_json(indent=2))
    else:
        Console(highlight=False, emoji=False).print(table)
    if not diagnosis.healthy:
        raise typer.Exit(1)


@app.command()
def gateway(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8399,
) -> None:
    """Serve the built-in models alone, as /v1/embeddings, /v1/rerank and /v1/chat/completions."""
    from rag_app import builtin

    builtin.require_builtin()
    from rag_app.builtin import server
    from rag_app.settings import load_settings

    server.serve(port, load_settings().builtin_path)


def named(where: Sequence[str]) -> tuple[str, ...]:
    """Return what `Pipeline.search` calls what --where names. RagError for what is not FIELD=VALUE."""
    names = []
    for one in where:
        name, _, value = map(str.strip, one.partition("="))
        if not name or not value:
            raise RagError(
                msg("--where {one} is not FIELD=VALUE", one=one), msg("write it like {example}", example="year=2026")
            )
        kinds = {"document": value, "folder": f"{value.rstrip('/')}/", "language": f"language:{value}"}
        names.append(kinds.get(name, f"{WHERE}{name}={value}"))
    return tuple(names)


def searched(pipeline: Any, question: str, how: dict[str, Any]) -> Search:
    """Search, with a line on stderr that says which stage is running."""
    names = list(STAGES)
    with err.status(t(STAGES["embed"])) as status:

        def on_stage(stage: str, ms: float) -> None:
            status.update(t(STAGES[names[names.index(stage) + 1]]))

        result: Search = pipeline.search(question, on_stage=on_stage, **how)
    return result


def show(result: Search, show_all: bool) -> None:
    """Print the sentence, the table of candidates after and before, and the receipt."""
    if result.plan:
        out.print(result.plan.title, style="dim")
        for n, line in enumerate(result.plan.lines, 1):
            out.print(printable(f"{n}. {t(line)}"), style="dim")
    if result.limit:
        out.print(printable(result.limit.line), style="dim")
    elif result.only:
        out.print(printable(msg("Searched only in {names}", names=result.limited_to)), style="dim")
    out.print(result.effect, style="bold")
    n_passages = len(result.passages)
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    found = result.is_hybrid
    scores = [t(result.rerank_score.name), t(result.retrieval_score.name)]
    if found:
        # One column more leaves the documents no room beside long headings.
        scores = [*(score.replace(" ", "\n") for score in scores), t(FOUND).replace(" / ", "\n/ ")]
    for heading in (t(msg("after")), t(msg("before")), t(msg("moved")), *scores):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column(t(msg("document")), no_wrap=True, overflow="ellipsis", ratio=1)
    hidden = 0
    for after, candidate in enumerate(result.reranked, 1):
        fate = t(FATES[candidate.fate])
        if after > ROWS and not fate and not show_all:
            hidden += 1
            continue
        table.add_row(
            str(after),
            str(candidate.retrieval.rank),
            arrow(candidate.retrieval.rank - after) or "=",
            t(result.rerank_score.shown(candidate.rerank)),
            t(result.retrieval_score.shown(candidate.retrieval)),
            *([t(candidate.found)] if found else []),
            fate,
            Text(printable(candidate.place), style="" if fate else "dim"),
            style=COLOURS.get(candidate.fate, ""),
            end_section=after == n_passages,
        )
    Console(highlight=False, emoji=False).print(table)
    if hidden:
        out.print(
            nmsg("… and {n} more candidate; --all shows it", "… and {n} more candidates; --all shows them", hidden), style="dim"
        )
    out.print(result.rerank.line, style="bold red" if result.rerank.status == "fallback" else "dim")


def show_sources(result: Ask) -> None:
    """Print what each marker of the answer points to, what is to be known about the answer, and the times."""
    by_id = {passage.id: passage for passage in result.passages}
    for citation in result.answer.citations:
        out.print(msg("[{n}] {place}", n=citation.marker, place=by_id[citation.id].place), style="dim")
    for note in filter(None, (*result.answer.notes, result.answer.ending)):
        out.print(note, style="dim")
    out.print(result.stage_line, style="dim")


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows another, rather than fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(args=argv, prog_name="rag-app")


if __name__ == "__main__":
    main()
