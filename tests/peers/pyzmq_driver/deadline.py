"""When a command has to be over."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

from .refusal import Refused


class Deadline:
    """When an operation has to be over, and whether it has been told to stop before that."""

    def __init__(self, timeout_ms: int, stop: threading.Event, attend: Callable[[], None]) -> None:
        self.began = time.monotonic()
        self.timeout_ms = timeout_ms
        self.ends = self.began + timeout_ms / 1000
        self.stop = stop
        self.attend = attend

    def check(self, **facts: Any) -> None:
        if self.stop.is_set():
            raise Refused("stopped", "stopped before it was complete", **facts)
        if time.monotonic() > self.ends:
            raise Refused("EAGAIN", f"not complete within {self.timeout_ms} ms", **facts)

    def check_after_waiting(self, **facts: Any) -> None:
        """As `check`, when nothing has happened for a while: other sockets get their turn."""
        self.attend()
        self.check(**facts)

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def slice_ms(self) -> int:
        """How long one blocking libzmq call may take before `stop` is looked at again."""
        return min(self.timeout_ms, STOP_CHECK_MS)


STOP_CHECK_MS = 50
