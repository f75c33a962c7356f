"""An HTTP endpoint of one stage: where it is, what it is called, and how its failures read."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from rag_app.errors import RagError

RERANK_PATHS = ("/rerank", "/reranks", "/reranking", "/ranking", "/text-rerank")

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
    """A call that failed: `kind` says how, for those who try again, cut, halve or diagnose."""

    def __init__(self, text: str, kind: Kind, reason: str, remedy: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Endpoint:
    """One model at one address. `url` is an OpenAI-style base URL, or for rerank the full URL of the call."""

    stage: str
    setting: str
    url: str
    model: str
    key: SecretStr
    timeout: float
    builtin: bool = False

    @property
    def address(self) -> str:
        """The URL as it may be shown: without user, password or query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def call(self, name: str) -> str:
        """Return the URL of a call below the base URL."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    @property
    def name(self) -> str:
        return f"{self.stage} ({self.model} at {self.address})"

    def error(self, kind: Kind, reason: str, remedy: str = "") -> EndpointError:
        """Return the one error for this endpoint: who, what, what to do next."""
        # Some servers repeat the key that they refuse.
        if key := self.key.get_secret_value():
            reason = reason.replace(key, "…")
        remedy = remedy or self.remedy(kind)
        return EndpointError(f"{self.name}: {reason}; {remedy}", kind, reason, remedy)

    def status_error(
        self, status: int, phrase: str, body: bytes, retry_after: str | None, location: str | None
    ) -> EndpointError:
        """Return the error for an HTTP status that is not a success."""
        message = error_message(body)
        reason = f"{status} {phrase}".strip() + (f": {message}" if message else "")
        if location:
            reason += f" (to {location})"
        if retry_after:
            reason += f" (retry after {retry_after} s)"
        return self.error(status_kind(status, body), reason)

    def transport_error(self, error: Exception, timed_out: bool) -> EndpointError:
        """Return the error for a call that got no answer."""
        if timed_out:
            return self.error("timeout", f"no answer within {self.timeout:g} s")
        return self.error("unreachable", f"cannot be reached ({error.__cause__ or error or type(error).__name__})")

    def remedy(self, kind: Kind) -> str:
        """Return what to do about a kind of failure."""
        url, key, model = (f"RAG_{self.setting}_{part}" for part in ("URL", "API_KEY", "MODEL"))
        at = f"check {url} or RAG_BASE_URL"
        remedies: dict[Kind, str] = {
            "unreachable": f"is it running? {at}",
            "timeout": f"raise RAG_{self.setting}_TIMEOUT if it is slow, else {at}",
            "auth": f"check {key} or RAG_API_KEY",
            "model": f"check {model}",
            "url": f"{at} (is /v1 missing or doubled?) and {model}",
            "redirect": f"put the address that it redirects to into {url}",
            "rate": "wait and try again",
            "quota": "top up the account, or use another key",
            "too_many": "lower RAG_EMBEDDING_BATCH_SIZE" if self.setting == "EMBEDDING" else "lower RAG_RERANK_MAX_DOCUMENTS",
            "too_long": "shorten the question" + (", or lower RAG_RERANK_MAX_TOKENS" if self.setting == "RERANK" else ""),
            "request": "check RAG_RERANK_DIALECT and RAG_RERANK_PARAMETERS" if self.setting == "RERANK" else f"check {model}",
            "reply": f"{at} and {model}",
            "server": "try again; if it stays, look at the server's log",
        }
        return remedies[kind]


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


def openai_base(url: str) -> str:
    """Return the base URL for an OpenAI-style client: the call's own path taken off, /v1 added where no version is."""
    parts = urlsplit(url)
    path = _without_call(parts.path)
    if not re.search(r"/v\d", path):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def rerank_url(url: str) -> str:
    """Return the full rerank URL: a path that already names a rerank call stands, else /rerank under its version."""
    parts = urlsplit(url)
    path = _without_call(parts.path)
    if not path.endswith(RERANK_PATHS):
        path += "/rerank" if re.search(r"/v\d+$", path) else "/v1/rerank"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _without_call(path: str) -> str:
    """Return a path without the name of another call at its end, and with a doubled version made one."""
    path = re.sub(r"/(embeddings|chat/completions|models)$", "", path.rstrip("/"))
    return re.sub(r"(/v\d+)\1(?=/|$)", r"\1", path)


def is_html(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def error_message(body: bytes) -> str:
    """Return what an error body says, whatever its shape, on one line of at most 300 characters."""
    if is_html(body):
        return "a web page instead of JSON"
    text = body.decode("utf-8", "replace").strip()
    try:
        found = message_in(json.loads(text))
    except (ValueError, RecursionError):
        found = text
    return " ".join(found.split())[:300]


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
