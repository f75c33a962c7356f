"""What a client learns of a server from its refusals, and forgets again: how much it takes at once, which fields it refuses."""

import json
import re
import threading
import time
from collections.abc import Callable, Container, Mapping
from typing import Any

from rag_app.endpoints.failures import EndpointError, error_message
from rag_app.endpoints.limits import FORGET_AFTER


class Limit:
    """How many items a server takes at once, safe under threads: halved where it refuses more, and forgotten after a while.

    Never below a size that has worked: then it was not the number. `most` is where it begins; `clock` gives seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.clock = clock
        self._value = most
        self._worked = 0
        self._learned_at = 0.0
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
            self._worked = max(self._worked, n)

    def refused(self, n: int) -> bool:
        """Note that n items were too many; whether fewer may do."""
        with self._lock:
            half = max((n + 1) // 2, self._worked)
            if n <= 1 or half >= n:
                return False
            self._value, self._learned_at = min(self._value, half), self.clock()
            return True


class OptionalFields:
    """The fields of a request that are left out once a server refuses them by name, safe under threads."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.left_out: frozenset[str] = frozenset()

    def fields(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a request that are still sent."""
        return {name: value for name, value in body.items() if name not in self.left_out}

    def refused(self, error: EndpointError, sent: Container[str]) -> bool:
        """Note the fields that an error names; whether there is one among those that this request sent.

        Another request may have been refused for it meanwhile: this one is to be sent again all the same.
        """
        if error.status not in (400, 422):
            return False
        said = str(error_message(error.body, 4000))
        found = {name for name in self.names if name in sent and named(name, said, error.body)}
        self.left_out |= found
        return bool(found)


def named(field: str, said: str, body: bytes) -> bool:
    """Whether an error is about a field: its `param` says so, or its message has the name as a word by itself."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        decoded = None
    error = decoded.get("error", decoded) if isinstance(decoded, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if isinstance(param, str) and param not in ("", "None"):
        return param == field
    return re.search(rf"(?<![\w.-]){field}(?![\w-])", said) is not None
