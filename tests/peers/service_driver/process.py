"""The process around a role: what it was told, what it says, and the library it has its sockets from."""

from __future__ import annotations

import base64
import json
import os
import queue
import sys
import threading
from typing import Any, Optional


class Settings:
    """The words `key=value` behind the role and the wire; each may come several times."""

    def __init__(self, words: list[str]) -> None:
        self._values: dict[str, list[str]] = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise SystemExit(f"{word!r} is no key=value")
            self._values.setdefault(key, []).append(value)
        self.socket = SocketMaker(self.text("libzmq", ""))

    def text(self, key: str, default: Optional[str] = None) -> str:
        values = self._values.pop(key, None)
        if values is None and default is None:
            raise SystemExit(f"{key}=… is missing")
        return values[-1] if values else default

    def texts(self, key: str) -> list[str]:
        return self._values.pop(key, [])

    def seconds(self, key: str, default_ms: int) -> float:
        return int(self.text(key, str(default_ms))) / 1000

    def finish(self) -> None:
        if self._values:
            raise SystemExit(f"nobody here knows {', '.join(self._values)}")


class SocketMaker:
    """Sockets of pyzmq's libzmq, or of the one in a file."""

    def __init__(self, path: str) -> None:
        if path:
            from service_driver import old_libzmq

            self.names = old_libzmq
            self._context = old_libzmq.Context(path)
            self.version = self._context.version()
        else:
            import zmq

            self.names = zmq
            self._context = zmq.Context()
            self.version = zmq.zmq_version()

    def __call__(self, kind: str) -> Any:
        made = self._context.socket(getattr(self.names, kind))
        made.setsockopt(self.names.LINGER, 0)
        return made

    def bound_to(self, bound: Any) -> str:
        return bound.getsockopt(self.names.LAST_ENDPOINT).rstrip(b"\0").decode()


def say(event: str, **fields: Any) -> None:
    """One line of JSON. Octets are base64."""
    line = json.dumps({"event": event, **fields}, default=encode, separators=(",", ":"))
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)


def encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def decode(frames: list[str]) -> list[bytes]:
    return [base64.b64decode(frame, validate=True) for frame in frames]


def commands() -> queue.SimpleQueue[dict[str, Any]]:
    """The lines of stdin as they come; the process ends with it, whatever it is doing."""
    lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines
