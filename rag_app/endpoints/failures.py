"""How a call fails: the kinds of failure, what a status and its body mean, and the error that says so."""

import json
import re
from typing import Any, Literal

from rag_app.errors import RagError
from rag_app.words import Message, msg

Kind = Literal[
    "unreachable", "timeout", "auth", "model", "url", "redirect", "rate", "quota", "too_many", "too_long",
    "request", "reply", "server",
]  # fmt: skip
# What an error message speaks of, by kind; the first that matches wins.
_SPEAKS_OF: list[tuple[Kind, str]] = [
    ("quota", r"quota|insufficient|balance|billing|arrears"),
    ("model", r"model_not_found|model_not_exist|模型不存在"),
    (
        "too_many",
        r"batch.?size|too many|(more|fewer|less) than \d+ (documents|inputs|texts)|number of (documents|inputs|texts)",
    ),
    ("too_long", r"too (large|long)|context|max\w* (\w+ )?(length|tokens)|token limit|exceed"),
    ("model", r"(unknown|invalid|no such|unsupported|unavailable) (\w+ )?model|model\W.{0,80}?(not|n't|no) "),
]


class EndpointError(RagError):
    """A call that failed: `kind` says how, for those who try again, cut, halve or diagnose; `reason` leaves out who failed."""

    def __init__(self, happened: Message, remedy: Message, kind: Kind, reason: Message) -> None:
        super().__init__(happened, remedy)
        self.kind = kind
        self.reason = reason

    @property
    def message(self) -> Message:
        return msg("{happened}; {remedy}", happened=self.happened, remedy=self.remedy) if self.remedy else self.happened


def status_kind(status: int, body: bytes) -> Kind:
    """Return what an HTTP status and its body mean."""
    if 300 <= status < 400:
        return "redirect"
    if status in (401, 403):
        return "auth"
    text = body[:4000].decode("utf-8", "replace").lower()
    if status == 429:
        return "quota" if re.search(_SPEAKS_OF[0][1], text) else "rate"
    if is_html(body):
        return "url" if status < 500 else "server"
    for kind, pattern in _SPEAKS_OF:
        if re.search(pattern, text):
            return kind
    if status == 402:
        return "quota"
    if status == 413:
        return "too_long"
    if status in (404, 405, 501):
        return "url"
    return "server" if status >= 500 or status == 408 else "request"


def is_html(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def error_message(body: bytes, most: int = 300) -> Message:
    """Return what an error body says, whatever its shape, on one line of at most so many characters."""
    if is_html(body):
        return msg("a web page instead of JSON")
    text = body.decode("utf-8", "replace").strip()
    try:
        found = message_in(json.loads(text))
    except (ValueError, RecursionError):
        found = text
    return Message(" ".join(found.split())[:most])


def message_in(value: Any) -> str:
    """Return the message of a decoded error: `error`, `message`, `detail` or `msg`, as text, object or list."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(message_in, value)))
    if isinstance(value, dict):
        for field in ("error", "message", "detail", "msg"):
            if message := message_in(value.get(field)):
                code = value.get("code")
                return f"{message} ({code})" if isinstance(code, str) and not code.isdigit() else message
    return ""
