"""Takes a command apart, finds its row in the table of operations, and runs it."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any, Callable

import zmq

from .deadline import STOP_CHECK_MS, Deadline
from .fields import nearest
from .open_socket import OpenSocket
from .refusal import Refused, answer_of


class Driver:
    """Runs commands against one libzmq context."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, MOST_SOCKETS)
        self.sockets: dict[str, OpenSocket] = {}
        self.background: dict[str, Background] = {}
        self.opened = 0
        self.authenticator: Any = None
        self.finished = False
        self.never_stopped = threading.Event()

    def handle(self, command: Any) -> dict[str, Any]:
        """The answer to one command; never raises for anything a command can contain."""
        return answer_of(lambda: self._run(command))

    def attend(self) -> None:
        """Lets libzmq act on new connections: it does so only while its application calls in.

        A SUB that was bound, say, sends its subscriptions to a new publisher in here.
        """
        for socket in self.sockets.values():
            if socket.held_by is None:
                socket.zmq.getsockopt(zmq.EVENTS)

    def _run(self, command: Any) -> dict[str, Any]:
        name, op, fields, background = self._parse(command)
        stop = threading.Event() if background is not None else self.never_stopped
        if "timeout" in fields:
            attend = self.attend if background is None else lambda: None
            fields["deadline"] = Deadline(fields.pop("timeout"), stop, attend)
        if not op.holds_socket:
            return op.run(self, **fields)
        socket = self.socket_named(fields.pop("id"))
        if socket.held_by is not None:
            raise Refused("busy", f"socket {socket.id!r} is held by background operation {socket.held_by!r}")
        if "deadline" in fields:
            socket.wait_in_slices_of(fields["deadline"])
        if background is None:
            return op.run(self, socket=socket, **fields)
        if background in self.background:
            raise Refused("usage", f"background name {background!r} is in use; join it first")
        socket.held_by = background
        self.background[background] = Background(
            socket, stop, lambda: op.run(self, socket=socket, **fields)
        )
        return {"background": background}

    def _parse(self, command: Any) -> tuple[str, Operation, dict[str, Any], str | None]:
        if not isinstance(command, dict):
            raise Refused("usage", "a command is one JSON object with a field 'op'")
        given = dict(command)
        name = given.pop("op", None)
        op = OPERATIONS.get(name) if isinstance(name, str) else None
        if op is None:
            raise Refused("usage", f"no operation {name!r}{nearest(str(name), list(OPERATIONS))}")
        background = given.pop("background", None)
        if background is not None and not (op.may_be_background and isinstance(background, str)):
            raise Refused("usage", f"{name}: 'background' is a name, for operations that hold a socket and time out")
        fields = {}
        for field, (parse, default) in op.fields.items():
            value = given.pop(field, None)
            if value is None:
                if default is REQUIRED:
                    raise Refused("usage", f"{name}: field {field!r} is missing")
                fields[field] = default
                continue
            try:
                fields[field] = parse(value)
            except ValueError as cause:
                raise Refused("usage", f"{name}: field {field!r}: {cause}") from cause
        if given:
            unknown = next(iter(given))
            raise Refused("usage", f"{name}: no field {unknown!r}{nearest(unknown, list(op.fields))}")
        return name, op, fields, background

    def socket_named(self, socket_id: str) -> OpenSocket:
        try:
            return self.sockets[socket_id]
        except KeyError:
            raise Refused("usage", f"no open socket {socket_id!r}{nearest(socket_id, list(self.sockets))}") from None

    def take_background(self, name: str) -> Background:
        try:
            return self.background[name]
        except KeyError:
            raise Refused("usage", f"no background operation {name!r}") from None


class Background:
    """One operation on a thread of its own, holding its socket until it has ended."""

    def __init__(self, socket: OpenSocket, stop: threading.Event, run: Callable[[], dict[str, Any]]) -> None:
        self.socket = socket
        self.stop = stop
        self.run = run
        self.answer: dict[str, Any] = {}
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        self.answer = answer_of(self.run)

    def ended_by(self, deadline: Deadline) -> bool:
        """Whether it has ended; from then on its socket is free."""
        while self.thread.is_alive():
            remaining = deadline.ends - time.monotonic()
            if remaining < 0:
                return False
            self.thread.join(min(remaining, STOP_CHECK_MS / 1000))
            deadline.attend()
        self.socket.held_by = None
        return True


@dataclasses.dataclass
class Operation:
    """One row of the command table: what runs, which fields it takes, what it holds."""

    run: Callable[..., dict[str, Any]]
    fields: dict[str, tuple[Callable[[Any], Any], Any]]
    holds_socket: bool

    @property
    def may_be_background(self) -> bool:
        return self.holds_socket and "timeout" in self.fields


OPERATIONS: dict[str, Operation] = {}
REQUIRED = object()


def operation(name: str, /, holds_socket: bool = True, **fields: Any) -> Callable[..., Any]:
    """Enters a function into the table under `name`. A field is a parser, or (parser, default).

    A function that takes `timeout` is called with a `deadline` in its place; one that holds a
    socket is called with the `socket` in place of `id`.
    """

    def enter(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        table = {key: field if isinstance(field, tuple) else (field, REQUIRED) for key, field in fields.items()}
        OPERATIONS[name] = Operation(function, table, holds_socket)
        return function

    return enter


MOST_SOCKETS = 10_000
