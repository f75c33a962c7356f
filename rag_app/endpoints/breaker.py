"""The circuit breaker: an endpoint that failed several times in a row is left alone for a while."""

import threading
import time
from collections.abc import Callable

from rag_app.endpoints.limits import BREAKER_FAILURES, BREAKER_SECONDS

_BREAKERS: dict[str, "Breaker"] = {}


class Breaker:
    """Counts failures in a row of one endpoint, safe under threads; `clock` gives seconds, as `time.monotonic` does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, seconds: float = BREAKER_SECONDS) -> None:
        self.clock = clock
        self.seconds = seconds
        self.failures = 0
        self.last_reason = ""
        self._open_until = 0.0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, name: str) -> "Breaker":
        """Return this process's one breaker of an endpoint."""
        return _BREAKERS.setdefault(name, cls())

    @property
    def seconds_left(self) -> float:
        """Seconds for which the endpoint is still left alone; 0 or less when it may be asked."""
        return self._open_until - self.clock()

    def failed(self, reason: str) -> None:
        """Count a failure; BREAKER_FAILURES in a row open the circuit."""
        with self._lock:
            self.failures += 1
            self.last_reason = reason
            if self.failures >= BREAKER_FAILURES:
                self._open_until = self.clock() + self.seconds

    def reset(self) -> None:
        """Forget the failures: the endpoint answered, or whoever asks wants it tried whatever happened before."""
        with self._lock:
            self.failures = 0
            self._open_until = 0.0
