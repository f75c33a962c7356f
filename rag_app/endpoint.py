"""An HTTP endpoint of one stage: where it is, what it is called, and how its failures read."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from rag_app.types import RagError

RERANK_PATHS = ("/rerank", "/reranks", "/reranking", "/ranking", "/text-rerank")


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

    @property
    def name(self) -> str:
        return f"{self.stage} ({self.model} at {self.address})"

    def error(self, reason: str, remedy: str = "") -> RagError:
        """Return the one error for this endpoint: who, what, what to do next."""
        return RagError(f"{self.name}: {reason}" + (f"; {remedy}" if remedy else ""))

    def status_error(self, status: int, phrase: str, body: bytes, retry_after: str | None = None) -> RagError:
        """Return the error for an HTTP status that is not a success."""
        message = error_message(body)
        reason = f"{status} {phrase}".strip() + (f": {message}" if message else "")
        if retry_after:
            reason += f" (retry after {retry_after} s)"
        return self.error(reason, self.remedy(status, message))

    def remedy(self, status: int, message: str) -> str:
        url, key, model = (f"RAG_{self.setting}_{part}" for part in ("URL", "API_KEY", "MODEL"))
        if "model" in message.lower() and status in (400, 404, 422, 503):
            return f"check {model}"
        if status in (401, 403):
            return f"check {key} or RAG_API_KEY"
        if status in (404, 405):
            return f"check {url} or RAG_BASE_URL (is /v1 missing or doubled?) and {model}"
        if 300 <= status < 400:
            return f"put the address that it redirects to into {url}"
        if status == 429:
            return "wait, or lower RAG_EMBEDDING_CONCURRENCY" if self.setting == "EMBEDDING" else "wait and ask again"
        return "try again; if it stays, look at the server's log"

    def transport_error(self, error: Exception, timed_out: bool) -> RagError:
        """Return the error for a call that got no answer."""
        if timed_out:
            return self.error(f"no answer within {self.timeout:g} s", f"raise RAG_{self.setting}_TIMEOUT if it is slow")
        cause = str(error.__cause__ or error) or type(error).__name__
        return self.error(f"cannot be reached ({cause})", f"is it running? check RAG_{self.setting}_URL or RAG_BASE_URL")


def openai_base(url: str) -> str:
    """Return the base URL for an OpenAI-style client: the call's own path taken off, /v1 added where no version is."""
    parts = urlsplit(url)
    path = re.sub(r"/(embeddings|chat/completions|models)$", "", parts.path.rstrip("/"))
    path = re.sub(r"(/v\d+)\1$", r"\1", path)
    if not re.search(r"/v\d", path):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def rerank_url(url: str) -> str:
    """Return the full rerank URL: a path that already names a rerank call stands, else /rerank under its version."""
    parts = urlsplit(url)
    path = re.sub(r"(/v\d+)\1(?=/|$)", r"\1", parts.path.rstrip("/"))
    if not path.endswith(RERANK_PATHS):
        path += "/rerank" if re.search(r"/v\d+$", path) else "/v1/rerank"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def error_message(body: bytes) -> str:
    """Return what an error body says, whatever its shape, on one line of at most 300 characters."""
    text = body.decode("utf-8", "replace").strip()
    if text[:1] == "<":
        return "a web page instead of JSON"
    try:
        found = _message(json.loads(text))
    except ValueError:
        found = text
    return " ".join(found.split())[:300]


def _message(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_message, value)))
    if isinstance(value, dict):
        for field in ("error", "message", "detail", "msg"):
            if message := _message(value.get(field)):
                code = value.get("code")
                return f"{message} ({code})" if isinstance(code, str) and not code.isdigit() else message
    return ""
