"""TREC files: runs and qrels, as trec_eval and other tools read and write them.

A run has `query Q0 document rank score tag` on a line, qrels have `query 0 document grade`; BEIR's qrels.tsv has a heading and
`query-id corpus-id score`. In TREC's files names with white space are written percent-encoded, and read so; BEIR's stand as
they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from rag_app.errors import RagError
from rag_app.labels.jsonl import bad_line
from rag_app.labels.labels import MOST_GRADE
from rag_app.words import msg

# Query → document → score, or → grade.
Run = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, int]]


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Return a run. RagError, which names the line, if one is not in this format or repeats a document of a query."""
    run: dict[str, dict[str, float]] = {}
    for n, fields in _lines(path):
        if len(fields) != 6:
            raise bad_line(path, n, msg("does not have the six fields query Q0 document rank score tag"))
        query, document = _named(fields[0]), _named(fields[2])
        if document in run.setdefault(query, {}):
            raise bad_line(path, n, msg("repeats document {document} for query {query}", document=document, query=query))
        run[query][document] = _number(path, n, fields[4])
    if not run:
        raise RagError(msg("{path} is an empty run", path=path), msg("write lines of query Q0 document rank score tag"))
    return run


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Return qrels of TREC or BEIR. RagError, which names the line, if one is malformed or contradicts another."""
    qrels: dict[str, dict[str, int]] = {}
    for n, fields in _lines(path):
        if n == 1 and fields[-1].lower() in ("score", "relevance", "grade"):
            continue
        if len(fields) not in (3, 4):
            what = msg("does not have the fields query, document and score (BEIR), or query 0 document grade (TREC)")
            raise bad_line(path, n, what)
        query, document = (fields[0], fields[1]) if len(fields) == 3 else (_named(fields[0]), _named(fields[2]))
        grade = _number(path, n, fields[-1])
        if abs(grade) > MOST_GRADE:
            raise bad_line(path, n, msg("has the grade {grade}, above {most}", grade=fields[-1], most=MOST_GRADE))
        if grade != int(grade):
            raise bad_line(path, n, msg("has the grade {grade}, which is not a whole number", grade=fields[-1]))
        if qrels.setdefault(query, {}).setdefault(document, int(grade)) != grade:
            raise bad_line(
                path, n, msg("gives document {document} another grade for query {query}", document=document, query=query)
            )
    return qrels


def write_run(path: Path, rankings: Mapping[str, Sequence[str]], tag: str) -> None:
    """Write rankings, query → documents best first; scores fall with the rank, without ties. RagError if that fails."""
    _write(
        path,
        (
            f"{_name(query)} Q0 {_name(document)} {rank} {len(ranking) + 1 - rank} {tag}\n"
            for query, ranking in rankings.items()
            for rank, document in enumerate(ranking, 1)
        ),
    )


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write judgements, query → document → grade. RagError if that fails."""
    _write(path, (f"{_name(q)} 0 {_name(d)} {grade}\n" for q, judged in qrels.items() for d, grade in judged.items()))


def _write(path: Path, lines: Iterator[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        partial.replace(path)
    except OSError as error:
        raise RagError(
            msg("{path} cannot be written ({reason})", path=path, reason=error.strerror), msg("choose a writable folder")
        ) from None


def _name(name: str) -> str:
    return quote(name, safe="/:@!$&'()*+,;=~#?[]{}|<>^`\"\\") if any(c.isspace() or c == "%" for c in name) else name


def _named(text: str) -> str:
    """Return the name that `_name` wrote; what it did not write, such as an address of other encoding, as it is."""
    name = unquote(text)
    return name if _name(name) == text else text


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of each line that has any; by tabs where there are some, else by white space."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RagError(
            msg("{path} cannot be read ({reason})", path=path, reason=error), msg("name a text file in TREC format")
        ) from None
    for n, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield n, [field.strip() for field in (line.strip("\r\n").split("\t") if "\t" in line else line.split())]


def _number(path: Path, n: int, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise bad_line(path, n, msg("has {text!r} where a number belongs", text=text)) from None
    if number != number or abs(number) == float("inf"):
        raise bad_line(path, n, msg("has {text!r} where a finite number belongs", text=text))
    return number
