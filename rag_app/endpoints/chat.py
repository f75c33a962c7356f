"""The chat endpoint: a streamed answer whose [n] markers are checked against the passages."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rag_app.endpoints import openai_client
from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import EndpointError, error_message
from rag_app.endpoints.markers import Markers
from rag_app.prompt import Message
from rag_app.types import Answer, Candidate, Citation, Finish
from rag_app.words import msg

_FINISH: dict[Any, Finish] = {"length": "length", "content_filter": "cut_short"}
_THINKING = re.compile(r"\A<think>.*?(?:</think>\s*|\Z)", re.DOTALL)


class Answering:
    """An answer under way: iterate it for pieces of text, then read `answer`, `ms` and `tokens`.

    `retracted` is true if what was streamed turned out, at a late </think>, to be the model's thinking: then only
    `answer.text` is the answer.
    """

    def __init__(self, pieces: Iterable[str] = (), answer: Answer | None = None) -> None:
        self.pieces = pieces
        self.answer = answer
        self.finish: Finish = "cut_short"
        self.retracted = False
        self.tokens: tuple[int | None, int | None] = (None, None)
        self.first_token_ms: float | None = None
        self.ms = 0.0

    def __iter__(self) -> Iterator[str]:
        start = time.perf_counter()
        for piece in self.pieces:
            if self.first_token_ms is None:
                self.first_token_ms = (time.perf_counter() - start) * 1000
            yield piece
        self.ms = (time.perf_counter() - start) * 1000


class Chat:
    """A client of one `/v1/chat/completions` endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.client = openai_client.connect(endpoint)
        # Learned: this model's thoughts come without <think> before them, so nothing is shown before </think>.
        self.thinks_aloud = False

    @property
    def fingerprint(self) -> list[str]:
        """What an answer depends on beside its messages."""
        return self.endpoint.fingerprint

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def answer(self, messages: Sequence[Message], passages: Sequence[Candidate]) -> Answering:
        """Return the answer as a stream; nothing is sent before it is iterated."""
        answering = Answering()
        answering.pieces = self._checked(answering, messages, passages)
        return answering

    def reply(self, messages: Sequence[Message]) -> tuple[str, Answering]:
        """Return what the model says, without its thinking, and the time and tokens it took; markers are not looked at."""
        answering = Answering()
        answering.pieces = without_thinking(_sound(self._received(answering, messages)), self.thinks_aloud)
        text = "".join(answering)
        return text.rpartition("</think>")[2].strip(), answering

    def _checked(self, answering: Answering, messages: Sequence[Message], passages: Sequence[Candidate]) -> Iterator[str]:
        """Yield the answer without thinking and with its markers checked; at its end `answering.answer` is set."""
        received: list[str] = []
        shown: list[str] = []
        markers = Markers(len(passages))
        pieces = _kept(_sound(self._received(answering, messages)), received)
        for piece in markers.check(without_thinking(pieces, self.thinks_aloud)):
            shown.append(piece)
            yield piece
        text = "".join(shown).strip()
        if "</think>" in text:
            self.thinks_aloud = answering.retracted = True
            markers = Markers(len(passages))
            text = "".join(markers.check(["".join(received).rpartition("</think>")[2]])).strip()
        if not text:
            raise self.endpoint.error(
                "reply", msg("an empty answer came back"), msg("try again, or use another RAG_CHAT_MODEL")
            )
        citations = tuple(Citation(marker=n, id=passages[n - 1].id, document=passages[n - 1].document) for n in markers.cited)
        answering.answer = Answer(
            text=text,
            citations=citations,
            finish=answering.finish,
            model=self.endpoint.model,
            dropped=tuple(markers.dropped),
        )

    def _received(self, answering: Answering, messages: Sequence[Message]) -> Iterator[str]:
        endpoint = self.endpoint
        body = {"model": endpoint.model, "messages": list(messages), "stream": True, "temperature": 0}
        started = False
        try:
            with (
                openai_client.translated(endpoint),
                openai_client.stream(self.client, "/chat/completions", body) as events,
            ):
                kind = events.response.headers.get("content-type", "")
                if "html" in kind:
                    raise endpoint.error("url", msg("replied with {kind} instead of a stream", kind=kind))
                if "application/json" in kind:
                    # A server that does not stream answers all at once.
                    yield from self._read(json.loads(events.response.read()), answering)
                for event in events:
                    for piece in self._read(event, answering):
                        started = True
                        yield piece
        except EndpointError as error:
            # What has come of an answer stays, and is told to be cut short.
            if not started or error.kind not in ("unreachable", "timeout"):
                raise
        except (ValueError, RecursionError) as error:
            raise endpoint.error("reply", msg("the reply is not a JSON stream ({reason})", reason=error)) from error

    def _read(self, event: Any, answering: Answering) -> Iterator[str]:
        if not isinstance(event, dict):
            return
        if error := event.get("error"):
            raise self.endpoint.error("server", error_message(json.dumps(error).encode()) or msg("an error without a message"))
        if isinstance(usage := event.get("usage"), dict):
            answering.tokens = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        choices = event.get("choices")
        # Some servers send a last event with usage and no choices.
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            if choice.get("finish_reason"):
                answering.finish = _FINISH.get(choice["finish_reason"], "stop")
            said = choice.get("delta") or choice.get("message")
            content = said.get("content") if isinstance(said, dict) else None
            if isinstance(content, str) and content:
                yield content


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _sound(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces as text that can be encoded: a character that was sent in two halves is joined, a lone half is �."""
    held = ""
    for piece in pieces:
        text = held + piece
        held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        if whole := text.removesuffix(held).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"):
            yield whole
    if held:
        yield "�"


def _kept(pieces: Iterable[str], store: list[str]) -> Iterator[str]:
    """Yield pieces, keeping each as it came."""
    for piece in pieces:
        store.append(piece)
        yield piece


def without_thinking(pieces: Iterable[str], hold: bool = False) -> Iterator[str]:
    """Yield the text without <think>…</think> at its start; what a model thinks is not its answer.

    With `hold` everything before </think> is thinking, whether <think> came or not; without </think> all is the answer.
    """
    held = ""
    started = False
    for piece in pieces:
        if started:
            yield piece
            continue
        held += piece
        text = held.lstrip()
        if "</think>" not in text and (hold or "<think>".startswith(text[:7])):
            continue
        started = True
        if rest := text.partition("</think>")[2].lstrip() if hold else _THINKING.sub("", text, count=1):
            yield rest
    if not started and held and (rest := _THINKING.sub("", held.lstrip(), count=1)):
        yield rest
