"""How often the built-in `extractive` model quotes the right words, and how often it declines rightly and wrongly.

    python benchmarks/refusal.py [--show]

Asks every labelled question of data/eval of the ingested sample corpus (run `rag-app ingest data/corpus` first).
A quote is right if it shares most of its words with a quote that a judgement names, from the same document.
"""

import json
import sys
from pathlib import Path

from rich.progress import track

from rag_app.pipeline import Pipeline, asked
from rag_app.settings import load_settings
from rag_app.types import Ask

FOLDER = Path(__file__).parents[1] / "data" / "eval"


def rows(name: str) -> list[dict[str, str]]:
    """Return the objects of a JSON-lines file."""
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").split("\n") if line]


def quotes_right(result: Ask, judgements: list[dict[str, str]]) -> bool:
    """Whether a quoted line stands for a judged quote: same document, most words of the shorter one shared."""
    documents = {citation.marker: citation.document for citation in result.answer.citations}
    for line in result.answer.text.splitlines():
        _, opened, rest = line.partition("“")
        if not opened:
            continue
        quote, _, marker = rest.rpartition("” [")
        said = set(quote.lower().split())
        for judgement in judgements:
            judged = set(judgement["quote"].lower().split())
            same = documents[int(marker.strip(" ]"))] == judgement["document"]
            if same and len(said & judged) > 0.6 * min(len(said), len(judged)):
                return True
    return False


def main() -> None:
    """Print the rates."""
    judgements: dict[str, list[dict[str, str]]] = {}
    for row in rows("qrels.jsonl"):
        judgements.setdefault(row["query"], []).append(row)
    pipeline = Pipeline.open(load_settings(base_url="", chat_url="builtin", embedding_url="builtin", rerank_url="builtin"))
    counts = {"answerable": 0, "right": 0, "declined wrongly": 0, "unanswerable": 0, "declined rightly": 0}
    # Of questions that were added on the page it is not known whether anything answers them.
    for row in track([row for row in rows("queries.jsonl") if "answer" in row], "asking"):
        search = pipeline.search(row["text"])
        answering = pipeline.answer(search)
        list(answering)
        result = asked(search, answering)
        # What it quotes, it cites.
        declined = not result.answer.citations
        if judged := judgements.get(row["_id"]):
            right = not declined and quotes_right(result, judged)
            counts["answerable"] += 1
            counts["declined wrongly"] += declined
            counts["right"] += right
        else:
            right = declined
            counts["unanswerable"] += 1
            counts["declined rightly"] += declined
        if "--show" in sys.argv:
            print(
                f"\n{row['_id']} {'ok ' if right else 'BAD'} {row['text']}\n   expected: {row['answer']}\n{result.answer.text}"
            )
    print(f"{counts['right']} of {counts['answerable']} answerable questions get a quote that holds the judged words")
    print(f"{counts['declined wrongly']} of {counts['answerable']} answerable questions are declined, wrongly")
    print(f"{counts['declined rightly']} of {counts['unanswerable']} unanswerable questions are declined, rightly")


if __name__ == "__main__":
    main()
