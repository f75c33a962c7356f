"""Evaluation sets: quotes of people found in the chunks of today, and folders in BEIR layout."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.chunk import Cutting, chunks, text_of
from ingest.readers.document import Block, Document
from rag_app.errors import RagError
from rag_app.evaluation import measures
from rag_app.evaluation.report import Outcome, outcome_of
from rag_app.evaluation.sets import EvalSet, Question, Spread, from_labels, is_beir, read_beir
from rag_app.labels.labels import Labels
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.types import Chunk
from tests.helpers import ROOT, ingest_into


def spread(*spans: tuple[int, int], text: str) -> Spread:
    """Return a document cut at these spans; its chunks are called 0, 1, 2 …"""
    return Spread(
        [
            Chunk(
                id=str(i),
                document="a.md",
                title="A",
                headings=(),
                page=None,
                position=i,
                start=start,
                end=end,
                language="en",
                text=text[start:end],
            )
            for i, (start, end) in enumerate(spans)
        ]
    )


def holders(document: Spread, quote: str) -> list[str]:
    return [chunk.id for chunk in document.holders(quote)]


ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class TestQuotes:
    @pytest.mark.parametrize(
        ("spans", "quote", "held"),
        [
            ([(0, 10), (10, 20), (20, 36)], "klmno", ["1"]),
            ([(0, 10), (10, 20), (20, 36)], "klmnopqrst", ["1"]),
            # Half of ten letters stand in each.
            ([(0, 12), (12, 36)], "hijklmnopq", ["0", "1"]),
            # 8 of 12 in the first; 4 are less than half of the quote, and of the chunk.
            ([(0, 10), (10, 20)], "cdefghijklmn", ["0"]),
            # 3, 10 and 3 of 16: none has half but the middle, which is quoted whole.
            ([(0, 10), (10, 20), (20, 36)], "hijklmnopqrstuvw", ["1"]),
            # 8, 4 and 8 of 20: the outer ones have less than half of it, but most of them is quoted.
            ([(0, 10), (10, 14), (14, 24)], "cdefghijklmnopqrstuv", ["0", "1", "2"]),
            # 4, 2 and 4 of 10: nobody has half of it, nor is half of the outer ones quoted; the middle one is, whole.
            ([(0, 10), (10, 12), (12, 24)], "ghijklmnop", ["1"]),
            # Larger than each chunk.
            ([(0, 4), (4, 8), (8, 12), (12, 36)], "abcdefghijkl", ["0", "1", "2"]),
            # Overlapping chunks both hold it whole.
            ([(0, 12), (8, 20), (20, 36)], "ijkl", ["0", "1"]),
            # The first has 4 of 8 too.
            ([(0, 12), (8, 20), (20, 36)], "ijklmnop", ["0", "1"]),
        ],
        ids=[
            "within one",
            "one from end to end",
            "half and half",
            "more in one",
            "over three, the middle one whole",
            "over three, most of each",
            "over three, a small one whole",
            "larger than a chunk",
            "in both that overlap",
            "in one, half in the other that overlaps",
        ],
    )
    def test_a_quote_is_held_by_who_has_half_of_it_or_is_half_quoted(
        self, spans: list[tuple[int, int]], quote: str, held: list[str]
    ) -> None:
        assert holders(spread(*spans, text=ALPHABET), quote) == held

    def test_white_space_is_none_of_its_business(self) -> None:
        text = "Dinner  is paid\nup to 32 EUR.\n\nA hotel may\u00a0cost 150 EUR a night."
        cut = text.index("A hotel")
        document = spread((0, cut), (cut, len(text)), text=text)
        assert holders(document, "is paid up to\t32 EUR") == ["0"]
        assert holders(document, " a\nhotel may cost") == [] and holders(document, "A hotel\n\nmay cost") == ["1"]
        # 8 of 16 letters stand in each.
        assert holders(document, "to32EUR. Ahotel ma") == ["0", "1"]

    def test_words_that_stand_in_several_places_are_held_in_each(self) -> None:
        text = "It is so. It is not. It is so. Or so."
        document = spread((0, 9), (10, 20), (21, 30), (31, 37), text=text)
        assert holders(document, "It is so.") == ["0", "2"]

    def test_words_that_stand_nowhere_are_held_by_none(self) -> None:
        document = spread((0, 10), (10, 20), text=ALPHABET)
        # The last letter of qrstu is in no chunk.
        for quote in ("hello", "qrstu", "ABC", "", " \n"):
            assert holders(document, quote) == []
        assert holders(Spread([]), "abc") == []

    def test_what_stands_between_chunks_is_in_none(self) -> None:
        # A heading, for example: its letters are in no chunk's text.
        document = spread((0, 10), (15, 25), text=ALPHABET)
        assert holders(document, "lmn") == [] and holders(document, "ghijpqr") == ["0"]

    @pytest.mark.parametrize("cutting", [Cutting(60, 0), Cutting(90, 45), Cutting(25, 10), Cutting(1000, 0)], ids=str)
    def test_every_chunk_of_a_document_holds_its_own_words_and_every_sentence_is_held(self, cutting: Cutting) -> None:
        rows = tuple(
            Block("row", f"Site: {site} | Spaces: {n}0 | Cost:   {n} EUR") for n, site in enumerate(["Jena", "Ulm", "Bonn"])
        )
        said = [f"Sentence number {n} says that {n * n} is the square of {n}." for n in range(1, 30)]
        blocks = (Block("heading", "Squares", 1), Block("paragraph", " ".join(said)), Block("heading", "Sites", 1), *rows)
        document = Document("A", blocks)
        cut = chunks("a.md", document, cutting)
        whole = Spread(cut)
        for chunk in cut:
            assert chunk.id in holders(whole, chunk.text)
        for sentence in said:
            held = whole.holders(sentence)
            assert {c.id for c in cut if sentence in c.text} <= {c.id for c in held}
            start = text_of(document).index(sentence)
            assert held and all(c.start < start + len(sentence) and start < c.end for c in held)


@pytest.fixture
def store(settings: Settings, corpus: Path) -> Iterator[Store]:
    ingest_into(settings, corpus)
    with open_store(settings) as store:
        yield store


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def judgement(query: str, document: str, quote: str, grade: int) -> dict[str, Any]:
    return {"query": query, "document": document, "quote": quote, "grade": grade}


def ids(store: Store, document: str) -> dict[str, str]:
    """Return the id of each chunk, by the words that it begins with."""
    return {" ".join(c.text.split()[:2]): c.id for c, _ in store.chunks_of(document)}


QUERIES: list[dict[str, Any]] = [
    {"_id": "dinner", "text": "What may dinner cost?", "answer": "32 EUR"},
    {"_id": "moon", "text": "Who pays for the moon?", "answer": None},
    {"_id": "trip", "text": "Who approves a trip?"},
    {"_id": "cinema", "text": "Is there a cinema?", "answer": "yes"},
]


class TestLabels:
    def test_judgements_are_found_in_the_chunks_of_today(self, store: Store, tmp_path: Path) -> None:
        travel, notes = ids(store, "policies/travel.md"), ids(store, "notes.txt")
        labels = Labels(tmp_path / "eval")
        write(labels.queries, *QUERIES)
        write(
            labels.qrels,
            judgement("dinner", "policies/travel.md", "paid up\nto 32 EUR", 2),
            judgement("dinner", "policies/travel.md", "A hotel may cost", 0),
            # The same chunk, judged by other words: the higher grade counts.
            judgement("dinner", "policies/travel.md", "in France", 1),
            judgement("trip", "policies/travel.md", "Every trip", 1),
            judgement("trip", "notes.txt", "It closes at two", 0),
            judgement("cinema", "notes.txt", "The cinema opens at nine.", 2),
            judgement("cinema", "gone.md", "x" * 100, 2),
        )
        found = from_labels(labels, store, "mine")
        assert found.name == "mine" and [q.id for q in found.questions] == ["dinner", "moon", "trip", "cinema"]
        dinner, moon, trip, cinema = found.questions
        assert dinner == Question(
            "dinner", "What may dinner cost?", {travel["Dinner is"]: 2, travel["A hotel"]: 0}, ("32 EUR",), lost=()
        )
        assert dinner.answerable and not dinner.unanswerable
        assert moon == Question("moon", "Who pays for the moon?", {}, ())
        assert moon.unanswerable and not moon.answerable
        assert trip.qrels == {travel["Every trip"]: 1, notes["The canteen"]: 0} and trip.answers is None
        assert trip.answerable
        # Its judgements are lost: it is neither answerable nor known to be without an answer.
        assert cinema.lost == ("notes.txt: The cinema opens at nine.", f"gone.md: {'x' * 80}")
        assert cinema.qrels == {} and not cinema.answerable and not cinema.unanswerable

    def test_a_question_that_only_0_was_given_to_is_not_answerable(self, store: Store, tmp_path: Path) -> None:
        labels = Labels(tmp_path / "eval")
        write(labels.queries, QUERIES[0])
        write(labels.qrels, judgement("dinner", "notes.txt", "The canteen", 0))
        (question,) = from_labels(labels, store, "").questions
        assert list(question.qrels.values()) == [0] and not question.answerable and not question.unanswerable

    def test_a_chunk_that_is_cut_anew_keeps_its_judgement(self, store: Store, settings: Settings, tmp_path: Path) -> None:
        labels = Labels(tmp_path / "eval")
        write(labels.queries, QUERIES[2])
        write(labels.qrels, judgement("trip", "policies/travel.md", "Every trip is approved by the manager.", 2))
        before = from_labels(labels, store, "").questions[0].qrels
        travel = tmp_path / "docs" / "policies" / "travel.md"
        travel.write_text(travel.read_text().replace("approved by the manager.", "approved by the manager. Ask early."))
        ingest_into(settings, tmp_path / "docs")
        after = from_labels(labels, store, "").questions[0]
        assert list(after.qrels.values()) == [2] and after.qrels.keys() != before.keys() and not after.lost

    def test_changing_one_judgement_changes_the_outcome_of_its_question_alone(self, store: Store, tmp_path: Path) -> None:
        chunks_of_all = [c for name in store.documents() for c, _ in store.chunks_of(name)]
        assert len(chunks_of_all) == 5
        labels = Labels(tmp_path / "eval")
        write(labels.queries, *({"_id": f"q{i}", "text": f"Question {i}?"} for i in range(5)))
        rows = [judgement(f"q{i}", c.document, c.text, 2) for i, c in enumerate(chunks_of_all)]
        names = measures.usual(4)

        def outcomes(*rows: dict[str, Any]) -> dict[str, Outcome]:
            write(labels.qrels, *rows)
            before = measures.ranked([c.id for c in chunks_of_all])
            after = measures.ranked([c.id for c in chunks_of_all[::-1]])
            return {q.id: outcome_of(q, before, after, names) for q in from_labels(labels, store, "").questions if q.qrels}

        first = outcomes(*rows)
        # By hand: q1's chunk is second of five before, and fourth after.
        assert (first["q1"].before["RR@10"], first["q1"].after["RR@10"], first["q1"].recall) == (1 / 2, 1 / 4, 1)
        moved = rows.copy()
        moved[1] = judgement("q1", chunks_of_all[3].document, chunks_of_all[3].text, 1)
        second = outcomes(*moved)
        assert (second["q1"].before["RR@10"], second["q1"].after["RR@10"]) == (1 / 4, 1 / 2)
        assert {name for name in first if first[name] != second[name]} == {"q1"} and len(first) == 5
        # A second judgement, a lower grade and one taken back, each of q1 alone.
        more = judgement("q1", chunks_of_all[0].document, chunks_of_all[0].text, 1)
        for changed in ([*rows, more], [*rows[:1], *rows[2:]]):
            third = outcomes(*changed)
            assert {name for name in first if first[name] != third.get(name)} == {"q1"}

    def test_without_questions_it_says_where_they_come_from(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(RagError, match=r"none has no labelled questions: judge candidates .*`rag-app questions`"):
            from_labels(Labels(tmp_path / "none"), store, "")

    def test_no_judgement_of_the_sample_is_lost(self, sample: Settings) -> None:
        with open_store(sample) as store:
            found = from_labels(Labels(ROOT / "data" / "eval"), store, "sample")
        assert len(found.questions) >= 20 and not [q.lost for q in found.questions if q.lost]
        assert all(q.answerable or q.unanswerable for q in found.questions)


CORPUS: list[dict[str, Any]] = [{"_id": "d 1", "title": "One", "text": "first"}, {"_id": "d%202", "text": "zweiter Text 中文"}]
ASKED: list[dict[str, Any]] = [
    {"_id": "q1", "text": "Which?", "answers": ["one", " ", "first"]},
    {"_id": "q2", "text": "What?", "answer": "two"},
    {"_id": "q3", "text": "Where?", "answerable": False},
    {"_id": "q4", "text": "Who?", "answer": None},
    {"_id": "q5", "text": "Why?", "answers": [], "other": 1},
]


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "small set"
    write(folder / "corpus.jsonl", *CORPUS)
    write(folder / "queries.jsonl", *ASKED)
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td 1\t1\nq2\td%202\t2\nq2\td 1\t0\nqx\td 1\t1\n")
    return folder


def zipped(folder: Path) -> None:
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress((folder / "corpus.jsonl").read_bytes()))
    (folder / "corpus.jsonl").unlink()


class TestBeir:
    @pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
    def test_a_folder_is_read(self, beir: Path, gz: bool) -> None:
        plain = read_beir(beir)
        if gz:
            zipped(beir)
        assert is_beir(beir)
        found = read_beir(beir)
        assert found == plain
        assert found.name == "small set" and found.questions.name == f"{beir.parent.name}/small set"
        assert found.records == (("d 1", "One", "first"), ("d%202", "", "zweiter Text 中文"))
        assert found.questions.questions == (
            Question("q1", "Which?", {"d 1": 1}, ("one", "first")),
            # Names stand as they are, percent signs too.
            Question("q2", "What?", {"d%202": 2, "d 1": 0}, ("two",)),
            Question("q3", "Where?", {}, ()),
            Question("q4", "Who?", {}, ()),
            Question("q5", "Why?", {}, None),
        )
        assert [q.unanswerable for q in found.questions.questions] == [False, False, True, True, False]

    def test_the_digest_is_that_of_the_content_whatever_its_order(self, beir: Path) -> None:
        first = read_beir(beir).digest
        write(beir / "corpus.jsonl", *CORPUS[::-1])
        write(beir / "queries.jsonl", *ASKED[:2])
        assert read_beir(beir).digest == first
        write(beir / "corpus.jsonl", CORPUS[0], {**CORPUS[1], "title": "Two"})
        assert read_beir(beir).digest != first

    @pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('{"_id": "d 1", "text": "again"}', "line 4 repeats the _id d 1"),
            ('{"_id": "d3"}', "line 4 needs _id and text"),
            ('{"_id": "d3", "text": null}', "line 4 needs _id and text"),
            ('{"_id": "", "text": "x"}', "line 4 needs _id and text"),
            ('{"_id": 3, "text": "x"}', "line 4 needs _id and text"),
            ("[]", "line 4 is not a JSON object"),
            ('{"_id": "d3", "text": "x', "line 4 is not JSON"),
        ],
        ids=["_id twice", "no text", "text null", "empty _id", "_id a number", "no object", "broken"],
    )
    def test_a_line_of_the_corpus_that_cannot_be_is_named(self, beir: Path, gz: bool, line: str, said: str) -> None:
        first, second = (beir / "corpus.jsonl").read_text().splitlines()
        # An empty line is nothing, but it is a line.
        (beir / "corpus.jsonl").write_text(f"{first}\n\n{second}\n{line}\n")
        if gz:
            zipped(beir)
        with pytest.raises(RagError, match=rf"corpus\.jsonl(\.gz)?, {said}.*fix or remove the line"):
            read_beir(beir)

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"_id": "q9"}, "line 6 needs _id and text"),
            ({"text": "x"}, "line 6 needs _id and text"),
            ({"_id": "q1", "text": "x"}, "repeats an _id"),
        ],
        ids=["no text", "no _id", "_id twice"],
    )
    def test_a_question_that_cannot_be_is_named(self, beir: Path, row: dict[str, str], said: str) -> None:
        write(beir / "queries.jsonl", *ASKED, row)
        with pytest.raises(RagError, match=rf"queries\.jsonl.*{said}"):
            read_beir(beir)

    def test_judgements_that_contradict_each_other_are_named(self, beir: Path) -> None:
        with (beir / "qrels.tsv").open("a") as qrels:
            qrels.write("q1\td 1\t2\n")
        with pytest.raises(RagError, match=r"qrels\.tsv, line 6 gives document d 1 another grade for query q1"):
            read_beir(beir)

    @pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels.tsv", ""])
    def test_a_folder_that_is_none_says_what_it_needs(self, beir: Path, missing: str) -> None:
        folder = beir
        if missing:
            (beir / missing).unlink()
        else:
            folder = beir / "none"
        # A set that lacks something is not taken for labelled questions.
        assert is_beir(folder) == bool(missing)
        with pytest.raises(RagError, match=f"is not an evaluation set, {missing or 'corpus.jsonl'}.* missing: add corpus"):
            read_beir(folder)

    def test_qrels_lie_where_downloads_of_beir_have_them(self, beir: Path) -> None:
        plain = read_beir(beir)
        (beir / "qrels").mkdir()
        (beir / "qrels.tsv").rename(beir / "qrels" / "test.tsv")
        assert is_beir(beir) and read_beir(beir) == plain

    def test_judgements_of_what_is_not_stored_are_lost(self, beir: Path) -> None:
        questions = read_beir(beir).questions
        some = {name for q in questions.questions for name in q.qrels}
        gone = sorted(some)[0]
        kept = questions.stored(some - {gone}, 1)
        assert kept.left_out == 1 and all(gone not in q.qrels for q in kept.questions)
        assert {words for q in kept.questions for words in q.lost} == {f"{gone} is not stored"}

    @pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
    def test_a_folder_without_questions_or_records_is_refused(self, beir: Path, name: str) -> None:
        (beir / name).write_text("\n")
        with pytest.raises(RagError, match="has no questions or no records"):
            read_beir(beir)

    @pytest.mark.parametrize("how", ["no gzip", "cut off", "damaged", "no UTF-8"])
    def test_a_packed_corpus_that_is_damaged_is_named(self, beir: Path, how: str) -> None:
        zipped(beir)
        path = beir / "corpus.jsonl.gz"
        whole = path.read_bytes()
        damaged = {
            "no gzip": b"no gzip",
            "cut off": whole[:-10],
            "damaged": whole[:12] + b"\xff" * 8 + whole[20:],
            "no UTF-8": gzip.compress(b'{"_id": "caf\xe9", "text": "x"}\n'),
        }
        path.write_bytes(damaged[how])
        with pytest.raises(RagError, match=r"corpus\.jsonl\.gz cannot be read"):
            read_beir(beir)

    def test_marks_of_byte_order_and_other_ends_of_lines_are_read(self, beir: Path) -> None:
        plain = read_beir(beir)
        for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv"):
            (beir / name).write_bytes(b"\xef\xbb\xbf" + (beir / name).read_bytes().replace(b"\n", b"\r\n"))
        assert read_beir(beir) == plain


class TestEvalSet:
    def test_a_sample_is_drawn_by_its_seed_and_keeps_the_order(self) -> None:
        whole = EvalSet("set", tuple(Question(f"q{i}", f"{i}?", {}) for i in range(100)))
        drawn = whole.sample(10, seed=1)
        assert drawn.name == "set" and len(drawn.questions) == 10
        numbers = [int(q.id[1:]) for q in drawn.questions]
        assert numbers == sorted(set(numbers)) and numbers != list(range(10))
        assert whole.sample(10, seed=1) == drawn != whole.sample(10, seed=2)
        assert whole.sample(10) == whole.sample(10, seed=0)

    @pytest.mark.parametrize("n", [None, 3, 4])
    def test_no_more_than_there_are_is_all(self, n: int | None) -> None:
        whole = EvalSet("set", tuple(Question(f"q{i}", f"{i}?", {}) for i in range(3)))
        assert whole.sample(n) is whole

    def test_other_judgements_replace_all_that_were_there(self) -> None:
        whole = EvalSet("set", (Question("a", "A?", {"x": 1}, ("1",), ("lost",)), Question("b", "B?", {"x": 1}, ())))
        assert whole.judged_by({"a": {"y": 2}, "c": {"z": 1}}).questions == (
            Question("a", "A?", {"y": 2}, ("1",)),
            Question("b", "B?", {}, ()),
        )
