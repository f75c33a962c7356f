"""The chat endpoint: a streamed answer whose [n] markers are checked against the passages."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rag_app import words
from rag_app.endpoints import openai_client
from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.failures import EndpointError, message_in
from rag_app.endpoints.http import merged
from rag_app.endpoints.learned import OptionalFields
from rag_app.endpoints.markers import Markers
from rag_app.prompt import Message, Shorter
from rag_app.types import Answer, Candidate, Citation, Finish
from rag_app.words import msg

# What servers write where an answer ends as it should, at the token limit, or at a filter; anything else is cut short.
_FINISH: dict[str, Finish] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(
        ("length", "max_tokens", "model_length", "max_output_tokens", "model_context_window_exceeded"),
        "length",
    ),
    **dict.fromkeys(
        (
            "content_filter",
            "content_filtered",
            "sensitive",
            "safety",
            "recitation",
            "prohibited_content",
            "blocklist",
            "spii",
            "guardrail_intervened",
            "refusal",
        ),
        "filtered",
    ),
}
# A model's thoughts are held back from the second time on that their end came without a beginning.
_SAMPLES = 2
_FIELDS = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
# The system message, among the fields that a server may refuse.
SYSTEM = "system"
# vLLM with Gemma's template; Gemini with a Gemma; templates of Mistral; o1.
_NO_SYSTEM = re.compile(
    r"system (role|message|prompt)s?\b.{0,40}not (be )?(supported|allowed|enabled)|developer instruction is not enabled|"
    r"only user and assistant roles|roles must alternate|does not support 'system'",
    re.I,
)
_THINKING = re.compile(r"\A<(think(?:ing)?|thought)>.*?(?:</\1>\s*|\Z)", re.DOTALL)


class Answering:
    """An answer under way: iterate it for pieces of text, then read `answer`, `ms` and `tokens`. A piece is empty while the
    model thinks.

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
        # Passages in the messages that were answered, and whether the last of them was cut.
        self.sent = 0
        self.shortened = False
        # What the server called the end.
        self.ended = ""
        # Whether there were thoughts before the answer.
        self.thought = False

    def __iter__(self) -> Iterator[str]:
        pieces, spent = iter(self.pieces), 0.0
        while True:
            start = time.perf_counter()
            piece = next(pieces, None)
            # What the reader does between two pieces is not the model's time.
            spent += (time.perf_counter() - start) * 1000
            if piece is None:
                break
            if self.first_token_ms is None:
                self.thought = self.thought or not piece
                self.first_token_ms = spent if piece else None
            yield piece
        self.ms = spent

    def waiting(self, seconds: float) -> words.Message:
        """Return what is to be said after so many seconds without a word of the answer."""
        if self.thought:
            return msg("The model is thinking: {n:.0f} s", n=seconds)
        return msg("Waiting for the chat model: {n:.0f} s", n=seconds)


class Chat:
    """A client of one `/v1/chat/completions` endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.client = openai_client.connect(endpoint)
        self.optional = OptionalFields("temperature", "stream_options", "stream")
        self._thoughts = 0

    @property
    def thinks_aloud(self) -> bool:
        """Whether this model's thoughts come without <think> before them, so that nothing is shown before </think>."""
        return self._thoughts >= _SAMPLES

    @property
    def fingerprint(self) -> list[str]:
        """What an answer depends on beside its messages."""
        return self.endpoint.fingerprint

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def answer(self, messages: Sequence[Message], passages: Sequence[Candidate], shorter: Iterable[Shorter] = ()) -> Answering:
        """Return the answer as a stream; nothing is sent before it is iterated.

        If the messages are too long for the model, those of `shorter` are tried, one after the other: (messages, passages
        that are in them, whether the last of those is cut).
        """
        answering = Answering()
        answering.pieces = self._checked(answering, messages, passages, shorter)
        return answering

    def reply(self, messages: Sequence[Message]) -> tuple[str, Answering]:
        """Return what the model says, without its thinking, and the time and tokens it took; markers are not looked at."""
        answering = Answering()
        answering.pieces = without_thinking(_sound(self._received(answering, messages)), self.thinks_aloud)
        text = "".join(answering)
        return text.rpartition("</think>")[2].strip(), answering

    def _checked(
        self, answering: Answering, messages: Sequence[Message], passages: Sequence[Candidate], shorter: Iterable[Shorter]
    ) -> Iterator[str]:
        """Yield the answer without thinking and with its markers checked; at its end `answering.answer` is set."""
        received: list[str] = []
        shown: list[str] = []
        answering.sent = len(passages)
        markers = Markers(len(passages))
        pieces = _kept(_sound(self._fitting(answering, messages, shorter, markers)), received)
        for piece in markers.check(without_thinking(pieces, self.thinks_aloud)):
            shown.append(piece)
            yield piece
        text = "".join(shown).strip()
        if self.thinks_aloud and not thinking_end("".join(received)):
            # Those before only spoke of the mark.
            self._thoughts = 0
        if thinking_end(text):
            self._thoughts += 1
            answering.retracted = True
            # From the text as it came: the markers of the thoughts are none of the answer's.
            whole = "".join(received)
            markers = Markers(answering.sent)
            text = "".join(markers.check([whole[thinking_end(whole) :]])).strip()
        if not text:
            raise self._nothing(answering)
        citations = tuple(Citation(marker=n, id=passages[n - 1].id, document=passages[n - 1].document) for n in markers.cited)
        answering.answer = Answer(
            text=text,
            citations=citations,
            finish=answering.finish,
            model=self.endpoint.model,
            dropped=tuple(markers.dropped),
            left_out=len(passages) - answering.sent,
            shortened=answering.shortened,
        )

    def _nothing(self, answering: Answering) -> EndpointError:
        """Return the error of an answer without text."""
        if answering.finish == "filtered":
            return self.endpoint.error("filtered", msg("the answer was withheld by a content filter"))
        if answering.finish == "length":
            spent = msg("its token limit was used up by thinking") if answering.thought else msg("its token limit was reached")
            return self.endpoint.error(
                "reply",
                msg("an empty answer came back: {why}", why=spent),
                msg("raise the limit in RAG_CHAT_PARAMETERS, or use a model that thinks less"),
            )
        empty = msg("an empty answer came back")
        if answering.ended and answering.finish != "stop":
            empty = msg("an empty answer came back: {why}", why=answering.ended)
        return self.endpoint.error("reply", empty, msg("try again, or use another RAG_CHAT_MODEL"))

    def _fitting(
        self, answering: Answering, messages: Sequence[Message], shorter: Iterable[Shorter], markers: Markers
    ) -> Iterator[str]:
        """Yield the reply to the first messages that are not too long for the model; markers count the passages in them."""
        others = iter(shorter)
        while True:
            try:
                yield from self._received(answering, messages)
                return
            except EndpointError as error:
                if error.kind != "too_long" or (less := next(others, None)) is None:
                    raise
                messages, answering.sent, answering.shortened = less
                markers.n_passages = answering.sent

    def _received(self, answering: Answering, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the reply to messages, asked again without what the server refuses by name."""
        before = self.optional.left_out
        while True:
            fields = self.optional.fields(_FIELDS)
            if "stream" not in fields:
                fields.pop("stream_options", None)
            told = merged_into_user(messages) if SYSTEM in self.optional.left_out else list(messages)
            try:
                yield from self._asked(answering, told, fields)
                return
            except EndpointError as error:
                if not (self.optional.refused(error, fields) or self._refuses_system(error, told)):
                    if error.status in (400, 422):
                        self.optional.undo(before)
                    raise

    def _refuses_system(self, error: EndpointError, told: Sequence[Message]) -> bool:
        sent = any(message["role"] == "system" for message in told)
        # llama.cpp and SGLang answer 500 where a template fails.
        if error.status not in (400, 422, 500) or not sent or not _NO_SYSTEM.search(error.reason):
            return False
        self.optional.left_out |= {SYSTEM}
        return True

    def _asked(self, answering: Answering, messages: Sequence[Message], fields: dict[str, Any]) -> Iterator[str]:
        endpoint = self.endpoint
        body = merged({"model": endpoint.model, "messages": list(messages), **fields}, endpoint.parameters)
        started = False
        try:
            with (
                openai_client.translated(endpoint),
                openai_client.stream(self.client, "/chat/completions", body) as events,
            ):
                kind = events.response.headers.get("content-type", "")
                if "html" in kind:
                    raise endpoint.error("url", msg("replied with {kind} instead of a stream", kind=kind))
                if openai_client.COMPRESSED in events.response.headers:
                    raise endpoint.error(
                        "reply",
                        msg("the reply came compressed, which was not asked for"),
                        msg("switch compression off at the endpoint or its proxy"),
                    )
                empty = True
                for event in events:
                    empty = False
                    for piece in self._read(event, answering):
                        started = started or bool(piece)
                        yield piece
                if empty and (whole := openai_client.beginning(events).strip(b" \t\r\n\xef\xbb\xbf")).startswith(b"{"):
                    # A server that does not stream, or an error that is only called a stream; or an event a line.
                    for event in json_values(whole):
                        yield from self._read(event, answering)
        except EndpointError as error:
            # What has come of an answer stays, and is told to be cut short.
            if not started or error.kind not in ("unreachable", "timeout"):
                raise
        except (ValueError, RecursionError) as error:
            raise endpoint.error("reply", msg("the reply is not a JSON stream ({reason})", reason=error)) from error

    def _read(self, event: Any, answering: Answering) -> Iterator[str]:
        if not isinstance(event, dict):
            return
        if (error := event.get("error")) or event.get("object") == "error":
            raise self.endpoint.said_error(error or event)
        if isinstance(usage := event.get("usage"), dict):
            answering.tokens = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        choices = event.get("choices")
        base = event.get("base_resp")
        # MiniMax, SiliconFlow and DashScope say so with status 200.
        said = base.get("status_msg") if isinstance(base, dict) else message_in(event)
        if said and not choices and not usage:
            raise self.endpoint.said_error(event if base is None else said)
        # Some servers send a last event with usage and no choices.
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            if finish := choice.get("finish_reason"):
                answering.ended = str(finish)[:40]
                answering.finish = _FINISH.get(str(finish).lower(), "cut_short")
            said = choice["delta"] if "delta" in choice else choice.get("message")
            if not isinstance(said, dict):
                continue
            if refusal := said.get("refusal"):
                raise self.endpoint.error("filtered", msg("the model declined to answer: {said}", said=_one_line(refusal)))
            thought, content = said.get("reasoning_content") or said.get("reasoning"), _text(said.get("content"))
            answering.thought = answering.thought or bool(thought)
            if thought or content:
                yield content


def _text(content: Any) -> str:
    """Return the text of a message's content: text, or a list of parts."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") not in ("thinking", "reasoning")]
        return "".join(_text(part.get("text")) for part in parts)
    return content if isinstance(content, str) else ""


def merged_into_user(messages: Sequence[Message]) -> list[Message]:
    """Return messages without a system message: its text begins the first of the user's."""
    told = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    others = [dict(message) for message in messages if message["role"] != "system"]
    if told and others:
        others[0]["content"] = f"{told}\n\n{others[0]['content']}"
    return others


def thinking_end(text: str) -> int:
    """Return where thoughts end that have no beginning, 0 if there are none: at a </think> that is not quoted as code."""
    for match in re.finditer(r"</think>", text):
        before = text[: match.start()]
        in_code = before.count("```") % 2 or before.rpartition("\n")[2].count("`") % 2
        in_prose = before[-1:] == " " == text[match.end() : match.end() + 1]
        if not in_code and not in_prose:
            return match.end()
    return 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _sound(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces as text that can be encoded: a character that was sent in two halves is joined, a lone half is �."""
    held = ""
    for piece in pieces:
        text = held + piece
        held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        whole = text.removesuffix(held).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if whole or not piece:
            yield whole
    if held:
        yield "�"


def _kept(pieces: Iterable[str], store: list[str]) -> Iterator[str]:
    """Yield pieces, keeping each as it came."""
    for piece in pieces:
        store.append(piece)
        yield piece


def json_values(text: bytes) -> Iterator[Any]:
    """Yield the value that a text is, or that each of its lines is. ValueError if it is neither."""
    try:
        yield json.loads(text.decode("utf-8", "replace"))
    except ValueError:
        values = [json.loads(line) for line in text.splitlines() if line.strip()]
        if len(values) < 2:
            raise
        yield from values


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())[:300]


def _may_be_thinking(text: str) -> bool:
    return any(tag.startswith(text[: len(tag)]) for tag in ("<think>", "<thinking>", "<thought>"))


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
        if not re.search(r"</(think(ing)?|thought)>", text) and (hold or _may_be_thinking(text)):
            yield ""
            continue
        started = True
        if rest := text.partition("</think>")[2].lstrip() if hold and "</think>" in text else _THINKING.sub("", text, count=1):
            yield rest
    if not started and held and (rest := _THINKING.sub("", held.lstrip(), count=1)):
        yield rest
