"""The chat endpoint: a streamed answer whose [n] markers are checked against the passages."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import openai

from rag_app import openai_client
from rag_app.endpoint import Endpoint, error_message
from rag_app.prompt import Message
from rag_app.types import Answer, Candidate, Citation

# [1], [1, 2], [1-3] and their full-width forms.
_MARKER = re.compile(r"[\[【]\s*(\d{1,3}(?:\s*[,;，、–-]\s*\d{1,3})*)\s*[\]】]")
_OPEN_MARKER = re.compile(r"\s*[\[【][\d\s,;，、–-]{0,24}$|\s+$")
_THINKING = re.compile(r"\A<think>.*?(?:</think>\s*|\Z)", re.DOTALL)


class Chat:
    """A client of one `/v1/chat/completions` endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.client = openai_client.connect(endpoint)

    def answer(self, messages: Sequence[Message], passages: Sequence[Candidate]) -> "Answering":
        """Return the answer as a stream; nothing is sent before it is iterated."""
        return Answering(self, messages, passages)


class Answering:
    """An answer under way: iterate it for pieces of text, then read `answer`, `ms` and `tokens`."""

    def __init__(self, chat: Chat, messages: Sequence[Message], passages: Sequence[Candidate]) -> None:
        self.chat = chat
        self.messages = messages
        self.passages = passages
        self.finish: Literal["stop", "length", "cut_short"] = "cut_short"
        self.answer: Answer | None = None
        self.tokens: tuple[int | None, int | None] = (None, None)
        self.first_token_ms: float | None = None
        self.ms = 0.0

    def __iter__(self) -> Iterator[str]:
        start = time.perf_counter()
        markers = Markers(len(self.passages))
        pieces: list[str] = []
        for piece in markers.check(without_thinking(self._received())):
            if self.first_token_ms is None:
                self.first_token_ms = (time.perf_counter() - start) * 1000
            pieces.append(piece)
            yield piece
        self.ms = (time.perf_counter() - start) * 1000
        text = "".join(pieces).strip()
        if not text:
            raise self.chat.endpoint.error("an empty answer came back", "ask again, or try another RAG_CHAT_MODEL")
        citations = tuple(
            Citation(marker=n, id=self.passages[n - 1].id, document=self.passages[n - 1].document) for n in markers.cited
        )
        self.answer = Answer(
            text=text,
            citations=citations,
            finish=self.finish,
            model=self.chat.endpoint.model,
            dropped=tuple(markers.dropped),
        )

    def _received(self) -> Iterator[str]:
        endpoint = self.chat.endpoint
        body = {"model": endpoint.model, "messages": list(self.messages), "stream": True, "temperature": 0}
        try:
            with openai_client.stream(self.chat.client, "/chat/completions", body) as events:
                kind = events.response.headers.get("content-type", "")
                if "json" in kind or "html" in kind:
                    raise endpoint.error(f"answered {kind} instead of a stream", "check RAG_CHAT_URL or RAG_BASE_URL")
                for event in events:
                    yield from self._read(event)
        except openai.OpenAIError as error:
            raise openai_client.failure(endpoint, error) from error
        except ValueError as error:
            raise endpoint.error(f"the answer is not a JSON stream ({error})", "check RAG_CHAT_URL") from error

    def _read(self, event: Any) -> Iterator[str]:
        if not isinstance(event, dict):
            return
        if error := event.get("error"):
            raise self.chat.endpoint.error(error_message(json.dumps(error).encode()), "ask again")
        if isinstance(usage := event.get("usage"), dict):
            self.tokens = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        # Some servers send a last event with usage and no choices.
        for choice in event.get("choices") or ():
            if choice.get("finish_reason"):
                self.finish = "length" if choice["finish_reason"] == "length" else "stop"
            content = (choice.get("delta") or {}).get("content")
            if isinstance(content, str) and content:
                yield content


class Markers:
    """Checks [n] markers while text streams through; `cited` and `dropped` in order of first use."""

    def __init__(self, n_passages: int) -> None:
        self.n_passages = n_passages
        self.cited: list[int] = []
        self.dropped: list[int] = []

    def check(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the text with markers written [1][2], and without those that point to no passage."""
        held = ""
        for piece in pieces:
            held += piece
            # An unfinished marker, and the space before it, wait for the next piece.
            unfinished = _OPEN_MARKER.search(held)
            cut = unfinished.start() if unfinished else len(held)
            if cut:
                yield self._checked(held[:cut])
                held = held[cut:]
        if held:
            yield self._checked(held)

    def _checked(self, text: str) -> str:
        return re.sub(r"(\s*)" + _MARKER.pattern, self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        kept = ""
        for number in _numbers(match[2]):
            if 1 <= number <= self.n_passages:
                kept += f"[{number}]"
                if number not in self.cited:
                    self.cited.append(number)
            elif number not in self.dropped:
                self.dropped.append(number)
        return match[1] + kept if kept else ""


def _numbers(inside: str) -> Iterator[int]:
    for part in re.split(r"[,;，、]", inside):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        if len(ends) == 2 and 0 <= ends[1] - ends[0] <= 20:
            yield from range(ends[0], ends[1] + 1)
        else:
            yield from ends


def without_thinking(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the text without <think>…</think> at its start; what a model thinks is not its answer."""
    held = ""
    started = False
    for piece in pieces:
        if started:
            yield piece
            continue
        held += piece
        text = held.lstrip()
        if "<think>".startswith(text[:7]) and "</think>" not in text:
            continue
        started = True
        if rest := _THINKING.sub("", text, count=1):
            yield rest
    if not started and held and (rest := _THINKING.sub("", held.lstrip(), count=1)):
        yield rest
