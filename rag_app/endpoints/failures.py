"""How a call fails: the kinds of failure, what a status and its body mean, and the error that says so."""

import json
import re
from contextlib import suppress
from typing import Any, Literal

from rag_app.errors import RagError
from rag_app.words import Message, msg

Kind = Literal[
    "unreachable", "trust", "timeout", "auth", "model", "url", "redirect", "rate", "quota", "too_many", "too_long", "filtered",
    "text", "request", "reply", "server",
]  # fmt: skip
# These pass by themselves and are tried again, whatever the server says with them, but for what is listed below.
_PASSING = {408, 425, 429, *range(500, 600)}
# What certain servers say with such a status although it does not pass. An entry is exact, and names its server.
_EXACT: list[tuple[set[int], str, Kind]] = [
    # OpenAI and Moonshot, by the error's type; Zhipu, error 1113.
    # DashScope says the first of a limit per minute too, with a link to its page on limits.
    ({429}, r"^(?!.*(alibabacloud|aliyun)\.com).*insufficient_quota|exceeded_current_quota_error|余额不足|已欠费", "quota"),
    ({429}, r"insufficient balance or no resource package", "quota"),
    # llama.cpp, where one input is longer than its --ubatch-size.
    ({500}, r"is too large to process\. increase the physical batch size", "too_long"),
    # Ollama, where the model gives NaN for one text.
    ({500}, r"unsupported value: nan", "text"),
    # One API and New API.
    ({503}, r"no available channels? for model|无可用渠道", "model"),
    # llama.cpp and others: not built or started for this call.
    ({501, 505}, r"", "url"),
]
# What the message of a 4xx speaks of; the first that matches wins.
_SPEAKS_OF: list[tuple[Kind, str]] = [
    ("too_long", r"is too large to process\. increase the physical batch size"),
    # Gemini; LiteLLM, to a key that is not its master key where it has no database.
    ("auth", r"api.?key not valid|api_key_invalid|no connected db"),
    # LiteLLM; AWS; several.
    ("quota", r"budget has been exceeded|budget_exceeded|freetieronly|free quota"),
    ("rate", r"rate exceeded|too many requests"),
    ("request", r"max(_completion|_output)?_tokens is too large"),
    ("quota", r"insufficient.?(user.?)?(quota|balance|credit|funds)|\bbalance\b|arrear|billing|欠费|余额不足|额度"),
    ("model", r"model_not_found|model_not_exist|模型不存在"),
    (
        "filtered",
        r"content.?filter|content management policy|data.?inspection.?failed|inappropriate content|input was flagged|敏感|违规",
    ),
    # Ollama, vLLM, OpenAI, DashScope, Bedrock, TEI, TGI, Zhipu: of one text, where what is below speaks of their number.
    (
        "too_long",
        r"(input|context|prompt) length|too many tokens(?! overall)|length of the input messages|maxlength: \d+|"
        r"inputs?\W.{0,20}less than \d+ tokens|tokens\W.{0,40}must be <=|超长",
    ),
    (
        "too_many",
        r"batch.?size|(array|input|inputs|list|contents)\W.{0,40}(length|size|items|elements)|"
        r"数组.{0,12}(最大|超过|不得|长度)|\d\s*条|too many|"
        r"(more|fewer|less|greater|larger) than \d+ (documents|inputs|texts|items|elements)|"
        r"number of (documents|inputs|texts|items)|at most \d+ (documents|inputs|texts|items)",
    ),
    (
        "too_long",
        r"too (large|long)|context.?(length|size|window)|max\w*.(seq|input|context|model|prompt)\w*|"
        r"max\w* (\w+ )?(length|tokens)|"
        r"token.?limit|exceed|prompt_tokens|range of input length|过长|超过|超出",
    ),
    ("model", r"(unknown|invalid|no such|unsupported|unavailable) (\w+ )?model|model\W.{0,80}?(not|n't|no) "),
]


class EndpointError(RagError):
    """A call that failed: `kind` says how, for those who try again, cut, halve or diagnose; `reason` leaves out who failed.

    `status` and `body` are of the HTTP reply, where there was one.
    """

    def __init__(
        self, happened: Message, remedy: Message, kind: Kind, reason: Message, status: int = 0, body: bytes = b""
    ) -> None:
        super().__init__(happened, remedy)
        self.kind = kind
        self.reason = reason
        self.status = status
        self.body = body

    @property
    def message(self) -> Message:
        return msg("{happened}; {remedy}", happened=self.happened, remedy=self.remedy) if self.remedy else self.happened


def status_kind(status: int, body: bytes) -> Kind:
    """Return what an HTTP status means, and where it leaves that open, its body."""
    text = _readable(body)
    if 300 <= status < 400:
        return "redirect"
    if status in _PASSING:
        exact = (kind for statuses, pattern, kind in _EXACT if status in statuses and re.search(pattern, text))
        return next(exact, "rate" if status == 429 else "server")
    if status == 401:
        return "auth"
    if status == 402:
        return "quota"
    if is_html(body):
        # A proxy, nginx for one, to which the request is too big.
        return "auth" if status == 403 else "too_many" if status == 413 else "url"
    spoken: Kind | None = next((kind for kind, pattern in _SPEAKS_OF if re.search(pattern, text)), None)
    if status == 403:
        return spoken if spoken in ("quota", "filtered") else "auth"
    if status in (404, 405):
        return "model" if spoken == "model" else "url"
    if status == 413:
        return "too_many" if spoken == "too_many" else "too_long"
    return spoken or "request"


def _readable(body: bytes) -> str:
    """Return the beginning of a body in lower case, with what JSON has escaped."""
    text = body[:4000].decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(body), ensure_ascii=False)[:4000]
    return text.lower()


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
