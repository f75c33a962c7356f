"""What a client learns of a server and forgets again: how much it takes at once, how often, and which fields it refuses."""

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from rag_app.endpoints.failures import EndpointError, error_message
from rag_app.endpoints.limits import BYTES_A_TOKEN, FORGET_AFTER, MAX_PATIENCE, RATE_WAIT, RATE_WINDOW, SAMPLES


class Limit:
    """How many items a server takes at once, safe under threads: halved where it refuses more, and forgotten after a while.

    Never below a size that has worked: then it was not the number. `most` is where it begins; `clock` gives seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.clock = clock
        self._value = most
        self._worked = self._in_a_row = 0
        self._learned_at = self._worked_at = 0.0
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        with self._lock:
            if self._value < self.most and self.clock() - self._learned_at > FORGET_AFTER:
                self._value, self._worked = self.most, 0
            return self._value

    @property
    def learned(self) -> bool:
        """Whether it is below where it began."""
        return self.value < self.most

    def worked(self, n: int) -> None:
        """Note that n items were taken."""
        with self._lock:
            if n >= self._worked or self.clock() - self._worked_at > FORGET_AFTER:
                self._worked, self._worked_at = n, self.clock()

    def refused(self, n: int) -> bool:
        """Note that n items were too many; whether fewer may do.

        Several refusals in a row of what once worked say that the server is another one now.
        """
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if n <= self._worked else 0
            if self._in_a_row >= SAMPLES or self.clock() - self._worked_at > FORGET_AFTER:
                self._worked, self._in_a_row = 0, 0
            half = max((n + 1) // 2, self._worked)
            if n <= 1 or half >= n:
                return False
            self._value, self._learned_at = min(self._value, half), self.clock()
            return True


class Pace:
    """How often a server lets itself be asked, safe under threads; `clock` gives seconds.

    A limit shows itself by a refusal. What the server took in the minute before it, over the time until it took something
    again, is its rate: requests are spread by that, instead of running into the limit again. Where a server says with its
    replies that nothing is left, the next request waits before it is refused.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        # When, and how many bytes, the server took in the last minute, or in the minute before its first refusal.
        self._taken: deque[tuple[float, int]] = deque()
        # When the first and the last of several refusals in a row came, and how many: none while it takes requests.
        self._refused_at = self._refused_until = 0.0
        self._refusals = 0
        self._next = 0.0
        self._seconds_each = self._seconds_a_byte = 0.0
        self._learned_at = 0.0
        self._lock = threading.Lock()

    def start(self, size: int) -> float:
        """Return the time, by the clock, at which a request of so many bytes may be sent; the next one comes after it."""
        with self._lock:
            now = self.clock()
            if now - self._learned_at > FORGET_AFTER:
                # Not forgotten at once: that would be a burst, and as many refusals.
                self._seconds_each, self._seconds_a_byte = self._seconds_each / 2, self._seconds_a_byte / 2
                self._learned_at = now
            start = max(now, self._next)
            self._next = start + max(self._seconds_each, size * self._seconds_a_byte)
            return start

    def took(self, size: int, sent: float, headers: Mapping[str, str]) -> None:
        """Note that a request, sent at that time, was answered with those headers."""
        with self._lock:
            now = self.clock()
            # What was under way at the refusal says nothing of how long that lasts.
            if self._refusals and sent > self._refused_at:
                if self._taken:
                    lasted = now - self._taken[0][0]
                    self._seconds_each = lasted / len(self._taken)
                    self._seconds_a_byte = lasted / sum(n for _, n in self._taken)
                    self._learned_at = now
                    self._next = max(self._next, now + max(self._seconds_each, size * self._seconds_a_byte))
                self._refusals = 0
            self._taken.append((sent, size))
            self._last_minute(now)
            self._next = max(self._next, now + seconds_until_more(headers, size))

    def refused(self, sent: float, retry_after: float | None) -> float:
        """Note that a request, sent at that time, was refused; return the seconds for which the server is left alone.

        Without a word of how long, soon at first: some limits are of a second, most of a minute. What is asked beyond
        MAX_PATIENCE is returned, and nobody waits for it.
        """
        with self._lock:
            now = self.clock()
            if retry_after is not None and retry_after > MAX_PATIENCE:
                return retry_after
            if not self._refusals:
                self._last_minute(now)
                self._refused_at = now
            # One that was sent before the last refusal was known is not another one.
            if not self._refusals or sent >= self._refused_until or retry_after:
                # "0" says nothing to a server that is asked again at once, and refuses again.
                wait = retry_after or min(RATE_WAIT, 2.0**self._refusals)
                self._refusals += 1
                self._refused_until = max(self._refused_until, now + wait)
            self._next = max(self._next, self._refused_until)
            return self._refused_until - now

    def _last_minute(self, now: float) -> None:
        if not self._refusals:
            while self._taken and now - self._taken[0][0] > RATE_WINDOW:
                self._taken.popleft()


def seconds_until_more(headers: Mapping[str, str], size: int) -> float:
    """Return for how long a server has nothing left for a request of so many bytes, by the headers of its last reply.

    `x-ratelimit-remaining-requests` and `-tokens` with `-reset-…` ("6m0s", "20ms") are OpenAI's, Azure's, Groq's and
    LiteLLM's; `ratelimit-remaining` with `ratelimit-reset` in seconds is draft-ietf-httpapi-ratelimit-headers.
    """
    longest = 0.0
    for remaining, reset, needed in (
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", 1.0),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", size / BYTES_A_TOKEN),
        ("ratelimit-remaining", "ratelimit-reset", 1.0),
    ):
        left = re.fullmatch(r"\d+(\.\d+)?", headers.get(remaining, ""))
        if left and float(left[0]) < needed:
            longest = max(longest, _duration(headers.get(reset, "")))
    return min(longest, RATE_WINDOW)


def _duration(text: str) -> float:
    """Return the seconds that "1h2m3.5s", "20ms" or "12" means, 0 for anything else."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|h|m|s))+", text):
        return 0.0
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(n) * units[unit] for n, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|h|m|s)", text))


class OptionalFields:
    """The fields of a request that are left out once a server refuses them by name, safe under threads."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.left_out: frozenset[str] = frozenset()

    def fields(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a request that are still sent."""
        return {name: value for name, value in body.items() if name not in self.left_out}

    def refused(self, error: EndpointError, sent: Container[str]) -> bool:
        """Leave out the fields that an error names; whether there is one among those that this request sent.

        Another request may have been refused for it meanwhile: this one is to be sent again all the same.
        """
        if error.status not in (400, 422):
            return False
        said = str(error_message(error.body, 4000))
        found = {name for name in self.names if name in sent and named(name, said, error.body)}
        self.left_out |= found
        return bool(found)

    def undo(self, before: frozenset[str]) -> None:
        """Send again what a request left out in vain: the error spoke of the fields, and was not about them."""
        self.left_out &= before


def _places(value: Any) -> Iterator[str]:
    """Yield the fields that a validation error names, `{"loc": ["body", "stream_options", "include_usage"]}` (pydantic's)."""
    if isinstance(value, list):
        for one in value:
            yield from _places(one)
    elif isinstance(value, dict):
        if isinstance(place := value.get("loc"), list):
            yield from (str(name) for name in place)
        for name in ("error", "message", "detail", "errors"):
            yield from _places(value.get(name))


def named(field: str, said: str, body: bytes) -> bool:
    """Whether an error is about a field: its `param` says so, or its message has the name as a word by itself."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        decoded = None
    error = decoded.get("error", decoded) if isinstance(decoded, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if isinstance(param, str) and param not in ("", "None"):
        return re.split(r"[.\[]", param)[0] == field
    if places := list(_places(decoded)):
        return field in places
    return re.search(rf"(?<![\w.-]){field}(?![\w-])", said) is not None
