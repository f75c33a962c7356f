"""The commands that measure: rag-app eval, sweep, compare, gate."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from rag_app.cli.terminal import CollectionOption, JsonOption, configure, err, named_path, printable, show_json, w
from rag_app.errors import SettingsError
from rag_app.settings import Settings
from rag_app.types import Record
from rag_app.words import Message, joined, msg, nmsg

FolderArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER",
        help="Labelled questions (RAG_EVAL_PATH), or a folder in BEIR layout: corpus.jsonl[.gz], queries.jsonl, qrels.tsv.",
        show_default=False,
        parser=named_path,
    ),
]
CandidatesOption = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Candidates to retrieve and rerank (RAG_N_CANDIDATES).")
]
SampleOption = Annotated[int | None, typer.Option(min=1, help="Only this many questions, drawn with a fixed seed.")]
AtOnceOption = Annotated[
    int | None, typer.Option(min=1, max=64, help="Questions under way at once; default 4, and 1 for built-in models.")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Ignore cached results and call the endpoints again.")]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the report to one HTML file, to share.", parser=named_path),
]


def evaluate(
    folder: FolderArgument = None,
    collection: CollectionOption = None,
    candidates: CandidatesOption = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Measures, the first for the verdict: nDCG@k, RR@k, R@k, P@k, Success@k, AP. Default: nDCG@10,RR@10,AP, and "
            "R, Success and P at the number of passages."
        ),
    ] = "",
    sample: SampleOption = None,
    at_once: AtOnceOption = None,
    fresh: FreshOption = False,
    with_answers: Annotated[
        bool, typer.Option("--answers", help="Also ask the chat model, with and without reranking, and score the answers.")
    ] = False,
    save_run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write before.run, after.run and qrels.txt as TREC files.", parser=named_path),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            metavar="FILE",
            help="Measure TREC runs, not the pipeline; give it twice: before, after.",
            parser=named_path,
        ),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take these judgements (TREC or BEIR), not the set's.", parser=named_path),
    ] = None,
    html: HtmlOption = None,
    moved: Annotated[int, typer.Option(min=0, help="Questions to show of those that gained and lost most.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Measure what reranking is worth on labelled questions, with the verdict in one sentence.

    Every question goes through the pipeline as it serves them. Embeddings, candidates and scores are cached in RAG_RUNS_PATH,
    so a second run costs no call and an interrupted one resumes. The report is kept there too.
    """
    from rag_app.cli import reports as showing
    from rag_app.evaluation import html_report as page
    from rag_app.evaluation import report, trec
    from rag_app.evaluation.bench import only_questions

    settings = configure(collection=collection)
    names = measures_of(metrics, settings)
    if run:
        unused = {"--answers": with_answers, "--save-run": save_run, "--fresh": fresh, "--candidates": candidates}
        if named := [option for option, value in unused.items() if value]:
            raise SettingsError(
                msg("{options} cannot be combined with --run, which calls no endpoint", options=joined(", ", named)),
                msg("leave it out"),
            )
        if len(run) > 2:
            raise SettingsError(
                nmsg("{n} run was named", "{n} runs were named", len(run)),
                msg("name one, or two to compare; `rag-app compare` takes more systems"),
            )
        read = [(path.name, trec.read_run(path)) for path in run]
        evalset = only_questions(settings, folder)
        evalset = (evalset.judged_by(trec.read_qrels(qrels)) if qrels else evalset).sample(sample)
        result = report.report_of_runs(evalset, read, names)
    else:
        if with_answers:
            # A chat model or judge without a name or address fails before anything is paid for.
            settings.endpoint("CHAT"), settings.judge
        with bench_of(settings, folder, fresh=fresh, at_once=at_once, qrels=qrels, sample=sample) as bench:
            n = candidates or settings.n_candidates
            with progress_bar(msg("asking")) as told:
                asked = bench.ask(n, told)
            answers = None
            if with_answers:
                with progress_bar(msg("answering, with and without reranking")) as told:
                    answers = bench.answers(asked, told)
            result = bench.report(asked, names, n, answers)
            bench.keep(result, asked)
        if save_run:
            write_trec(save_run, asked)
    if html:
        page.write(html, page.of_report(result, w()))
    give(result, as_json, lambda: showing.show_report(result, moved))


def sweep(
    folder: FolderArgument = None,
    collection: CollectionOption = None,
    candidates: Annotated[
        str,
        typer.Option(help="Numbers of candidates, as 10,20,30. Default: up to RAG_N_CANDIDATES, which `eval` has asked for."),
    ] = "",
    passages: Annotated[str, typer.Option(help="Numbers of passages.")] = "1,2,3,4,5,8",
    metric: Annotated[str, typer.Option(help="What is measured of the passages: R, nDCG, Success or RR.")] = "R",
    weight: Annotated[
        bool, typer.Option("--weight", help="Learn the weight of the vectors beside words (RAG_DENSE_WEIGHT) instead.")
    ] = False,
    sample: SampleOption = None,
    at_once: AtOnceOption = None,
    fresh: FreshOption = False,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the cheapest number of candidates and passages that is as good as the best, within noise.

    One run at the most candidates gives the scores for all: right for rerankers that score each candidate by itself. With
    --weight nothing is reranked: it compares orders by nDCG@10 before reranking.
    """
    from rag_app.cli import reports as showing
    from rag_app.evaluation import html_report as page
    from rag_app.evaluation.sweep import KINDS, depths
    from rag_app.evaluation.sweep import sweep as swept
    from rag_app.evaluation.weights import learn

    settings = configure(collection=collection)
    if weight:
        with bench_of(settings, folder, fresh=fresh, sample=sample) as bench, progress_bar(msg("searching")) as told:
            found = learn(bench.pipeline.pipeline, bench.evalset, settings.dense_weight, on_question=told)
        if html:
            page.write(html, page.of_weights(found, w()))
        give(found, as_json, lambda: showing.show_weights(found))
        return
    if metric not in KINDS:
        raise SettingsError(
            msg("{metric!r} is not a measure of a sweep", metric=metric), msg("use one of {names}", names=joined(", ", KINDS))
        )
    of_candidates = numbers(candidates) if candidates else depths(settings.n_candidates)
    of_passages = numbers(passages)
    with bench_of(settings, folder, fresh=fresh, at_once=at_once, sample=sample) as bench, progress_bar(msg("asking")) as told:
        asked = bench.ask(max(settings.n_candidates, *of_candidates), told)
    result = swept(bench.evalset.name, asked, bench.settings, of_candidates, of_passages, metric)
    if html:
        page.write(html, page.of_sweep(result, w()))
    give(result, as_json, lambda: showing.show_sweep(result))


def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="A B…",
            help="Systems: now (the settings), none (without reranking), NAME=VALUE[,NAME=VALUE…] of settings, or a .env file.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None, typer.Option("--set", metavar="FOLDER", help="The questions, as of `rag-app eval`.", parser=named_path)
    ] = None,
    collection: CollectionOption = None,
    candidates: CandidatesOption = None,
    metric: Annotated[str, typer.Option(help="The measure.")] = "nDCG@10",
    sample: SampleOption = None,
    at_once: AtOnceOption = None,
    fresh: FreshOption = False,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare rerank models, dialects, chunk sizes or collections on the same questions, each with the first.

    For example: rag-app compare now none rerank_model=BAAI/bge-reranker-v2-m3 chunk_size=500. Other chunk settings or another
    embedding model are ingested into a collection of their own, from the files of this one.
    """
    from ingest.reindex import ingest_with_settings
    from rag_app.cli import reports as showing
    from rag_app.evaluation import html_report as page
    from rag_app.evaluation import measures
    from rag_app.evaluation.bench import shown
    from rag_app.evaluation.bench import system as settings_of
    from rag_app.evaluation.comparing import comparison

    if len(systems) < 2:
        raise SettingsError(msg("one system alone cannot be compared"), msg("name two, such as now none"))
    (name,) = measures.checked([metric])
    settings = configure(collection=collection)
    reports = []
    for system in systems:
        with progress_bar(msg("ingesting with these settings")) as told:
            own = settings_of(system, settings, folder, ingest_with_settings, told)
        with bench_of(own, folder, fresh=fresh, at_once=at_once, sample=sample) as bench:
            n = candidates or own.n_candidates
            with progress_bar(msg("asking {system}", system=shown(system))) as told:
                reports.append(bench.report(bench.ask(n, told, rerank=system != "none"), [name], n))
    result = comparison([shown(system) for system in systems], reports, name)
    if html:
        page.write(html, page.of_comparison(result, w()))
    give(result, as_json, lambda: showing.show_comparison(result))


def gate(
    folder: FolderArgument = None,
    min_ndcg: Annotated[float | None, typer.Option(min=0, max=1, help="nDCG@10 after reranking must reach this.")] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="A drop below the baseline of up to this much passes, even a significant one.")
    ] = 0.0,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A report that `rag-app eval --json` wrote, to compare with.", parser=named_path),
    ] = None,
    collection: CollectionOption = None,
    candidates: CandidatesOption = None,
    sample: SampleOption = None,
    at_once: AtOnceOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Exit with 1 if ranking is worse than a limit, or significantly worse than a stored baseline: for CI.

    Store a baseline with: rag-app eval --json > baseline.json
    """
    from rag_app.cli import reports as showing
    from rag_app.evaluation import comparing, runs

    if min_ndcg is None and baseline is None:
        raise SettingsError(
            msg("there is nothing to compare the run with"),
            msg("give --min-ndcg 0.7, or --baseline FILE of `rag-app eval --json`"),
        )
    settings = configure(collection=collection)
    stored = runs.read(baseline) if baseline else None
    n = candidates or settings.n_candidates
    with bench_of(settings, folder, fresh=fresh, at_once=at_once, sample=sample) as bench, progress_bar(msg("asking")) as told:
        now = bench.report(bench.ask(n, told), [comparing.GATED], n)
    result = comparing.gate(now, stored, min_ndcg, max_drop)
    give(result, as_json, lambda: showing.show_gate(result, now))
    if not result.passed:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the application's command line."""
    app.command(name="eval")(evaluate)
    for command in (sweep, compare, gate):
        app.command()(command)


def give(result: Record, as_json: bool, show: Callable[[], None]) -> None:
    """Print a result as JSON, or as `show` does."""
    if as_json:
        show_json(result.model_dump_json(indent=2))
    else:
        show()


@contextmanager
def bench_of(settings: Settings, folder: Path | None, **options: Any) -> Iterator[Any]:
    """Open a bench with progress on stderr, and close it."""
    from ingest.corpus_records import store_records
    from rag_app.evaluation.bench import Bench

    with progress_bar(msg("embedding the corpus")) as told:
        bench = Bench(settings, folder, store_records, on_record=told, **options)
    with bench:
        yield bench


def measures_of(metrics: str, settings: Settings) -> tuple[str, ...]:
    """Return the measures that are asked for, or the usual ones for the settings. SettingsError if one is unknown."""
    from rag_app.evaluation import measures

    asked = [name.strip() for name in metrics.split(",") if name.strip()]
    return measures.checked(asked) if asked else measures.usual(settings.n_passages)


def numbers(text: str) -> list[int]:
    """Return comma-separated whole numbers from 1 to 1000, sorted. SettingsError if there are others, or none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() and 0 < int(part) <= 1000 for part in parts):
        raise SettingsError(msg("{text!r} is not a list of numbers from 1 to 1000", text=text), msg("write 10,20,30"))
    return sorted({int(part) for part in parts})


def write_trec(folder: Path, asked: Sequence[Any]) -> None:
    """Write the rankings of all questions that did not fail, and the judgements."""
    from rag_app.evaluation import trec

    found = [(a.question, a.search) for a in asked if a.search and not a.failure]
    trec.write_run(folder / "before.run", {q.id: [c.id for c in s.candidates] for q, s in found}, "retrieved")
    trec.write_run(folder / "after.run", {q.id: [c.id for c in s.reranked] for q, s in found}, "reranked")
    trec.write_qrels(folder / "qrels.txt", {a.question.id: a.question.qrels for a in asked if a.question.qrels})
    err.print(msg("before.run, after.run and qrels.txt are in {folder}", folder=folder), style="dim")


@contextmanager
def progress_bar(description: Message) -> Iterator[Any]:
    """Show progress on stderr: how much is done, the time left, and what failed; hidden until told of something."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        said = printable(description)
        task = bar.add_task(said, total=None, visible=False)

        def told(done: int, of: int, failed: int) -> None:
            shown = printable(msg("{what}, {n} failed", what=description, n=failed)) if failed else said
            bar.update(task, completed=done, total=of, visible=True, description=shown)

        yield told
