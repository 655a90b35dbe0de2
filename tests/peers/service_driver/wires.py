"""The frames of each wire, as the application on a DEALER sees them, for clients, workers and brokers.

MDP 0.1 (RFC 7), the dialect of Domogik's MQ, MDP 0.2 (RFC 18), and the one frame in front of zeromq/majordomo's own
0.2. No state, no sockets. What cannot be read raises Unreadable.
"""

from __future__ import annotations

import dataclasses
from typing import Optional, Union

Frames = list[bytes]


class Unreadable(Exception):
    """These frames are not of this wire."""


@dataclasses.dataclass
class Reply:
    """What a client received."""

    kind: str  # partial or final
    service: Optional[bytes]
    body: Frames


@dataclasses.dataclass
class Order:
    """What a worker received."""

    command: str  # request, heartbeat, disconnect
    address: bytes = b""
    body: Frames = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Request:
    """What a broker received of a client."""

    service: bytes
    body: Frames
    timeout: Optional[float] = None


@dataclasses.dataclass
class Report:
    """What a broker received of a worker."""

    command: str  # ready, partial, final, heartbeat, disconnect
    service: bytes = b""
    address: bytes = b""
    body: Frames = dataclasses.field(default_factory=list)


class Mdp01:
    """RFC 7. A REQ puts the empty frame in front by itself and takes it away again."""

    codes = {"ready": b"\x01", "request": b"\x02", "final": b"\x03", "heartbeat": b"\x04", "disconnect": b"\x05"}

    def request(self, service: bytes, body: Frames, timeout: Optional[float]) -> Frames:
        return [b"", b"MDPC01", service, *body]

    def reply(self, frames: Frames) -> Reply:
        if len(frames) < 4 or frames[:2] != [b"", b"MDPC01"]:
            raise Unreadable(f"{frames} is no reply")
        return Reply("final", frames[2], frames[3:])

    def order(self, frames: Frames) -> Order:
        if len(frames) < 3 or frames[:2] != [b"", b"MDPW01"]:
            raise Unreadable(f"{frames} is no command for a worker")
        command, rest = frames[2], frames[3:]
        if command == self.codes["request"]:
            if len(rest) < 2 or rest[1] != b"":
                raise Unreadable(f"{frames} has no one address and empty frame")
            return Order("request", rest[0], rest[2:])
        for name in ("heartbeat", "disconnect"):
            if command == self.codes[name] and not rest:
                return Order(name)
        raise Unreadable(f"{frames} is no command that a worker knows")

    def report(self, command: str, service: bytes = b"", address: bytes = b"", body: Frames = ()) -> Frames:
        if command == "partial":
            raise Unreadable("0.1 has no partial replies")
        head = [b"", b"MDPW01", self.codes[command]]
        return head + self._rest(command, service, address, body)

    def _rest(self, command: str, service: bytes, address: bytes, body: Frames) -> Frames:
        if command == "ready":
            return [service]
        return [address, b"", *body] if command in ("partial", "final", "request") else []

    # What a broker sends and receives

    def incoming(self, frames: Frames) -> Union[Request, Report]:
        if frames[:2] == [b"", b"MDPC01"] and len(frames) > 2:
            return Request(frames[2], frames[3:])
        if frames[:2] == [b"", b"MDPW01"] and len(frames) > 2:
            return self._report_of(frames[2], frames[3:])
        raise Unreadable(f"{frames} is of neither client nor worker")

    def _report_of(self, code: bytes, rest: Frames) -> Report:
        names = {octet: name for name, octet in self.codes.items()}
        name = names.get(code)
        if name == "ready" and rest:
            return Report(name, service=rest[0])
        if name in ("partial", "final") and len(rest) > 1:
            return Report(name, address=rest[0], body=rest[2:])
        if name in ("heartbeat", "disconnect"):
            return Report(name)
        raise Unreadable(f"code {code!r} is no command of a worker")

    def to_worker(self, command: str, address: bytes = b"", body: Frames = ()) -> Frames:
        return [b"", b"MDPW01", self.codes[command]] + self._rest(command, b"", address, body)

    def to_client(self, kind: str, service: bytes, body: Frames) -> Frames:
        return [b"", b"MDPC01", service, *body]


class Domogik(Mdp01):
    """What domogik-mq sends and takes: a timeout in front of action and JSON, and readers that count frames only."""

    def request(self, service: bytes, body: Frames, timeout: Optional[float]) -> Frames:
        # The text of a Python number, or the word None
        return [b"", b"MDPC01", service, str(timeout).encode(), *body]

    def reply(self, frames: Frames) -> Reply:
        # It drops two frames behind the empty one, whatever they are
        if len(frames) < 3:
            raise Unreadable(f"{frames} is too short")
        return Reply("final", frames[2], frames[3:])

    def order(self, frames: Frames) -> Order:
        # The first frame is taken for the empty one and the second for the protocol, unread: a DISCONNECT without
        # the empty frame is one frame short
        if len(frames) < 3:
            raise Unreadable(f"{frames} is too short")
        command, rest = frames[2], frames[3:]
        if command == b"\x05":
            return Order("disconnect")
        if command == b"\x02":
            # Routing ids up to the first empty frame
            empty = rest.index(b"")
            return Order("request", b"\x00".join(rest[:empty]), rest[empty + 1 :])
        return Order("heartbeat")

    def incoming(self, frames: Frames) -> Union[Request, Report]:
        arrived = super().incoming(frames)
        if isinstance(arrived, Request) and arrived.body:
            try:
                arrived.timeout = float(arrived.body[0])
            except ValueError:
                return arrived
            arrived.body = arrived.body[1:]
        return arrived

    def to_worker(self, command: str, address: bytes = b"", body: Frames = ()) -> Frames:
        frames = super().to_worker(command, address, body)
        # Its broker forgets the empty frame here
        return frames[1:] if command == "disconnect" else frames


class Mdp02(Mdp01):
    """RFC 18: no empty frame in front, partial replies."""

    codes = {
        "ready": b"\x01",
        "request": b"\x02",
        "partial": b"\x03",
        "final": b"\x04",
        "heartbeat": b"\x05",
        "disconnect": b"\x06",
    }

    def request(self, service: bytes, body: Frames, timeout: Optional[float]) -> Frames:
        return [b"MDPC02", b"\x01", service, *body]

    def reply(self, frames: Frames) -> Reply:
        kinds = {b"\x02": "partial", b"\x03": "final"}
        if len(frames) < 3 or frames[0] != b"MDPC02" or frames[1] not in kinds:
            raise Unreadable(f"{frames} is no reply")
        return Reply(kinds[frames[1]], frames[2], frames[3:])

    def order(self, frames: Frames) -> Order:
        if len(frames) < 2 or frames[0] != b"MDPW02":
            raise Unreadable(f"{frames} is no command for a worker")
        command, rest = frames[1], frames[2:]
        if command == self.codes["request"]:
            if len(rest) < 2 or rest[1] != b"":
                raise Unreadable(f"{frames} has no one address and empty frame")
            return Order("request", rest[0], rest[2:])
        for name in ("heartbeat", "disconnect"):
            if command == self.codes[name] and not rest:
                return Order(name)
        raise Unreadable(f"{frames} is no command that a worker knows")

    def report(self, command: str, service: bytes = b"", address: bytes = b"", body: Frames = ()) -> Frames:
        return [b"MDPW02", self.codes[command]] + self._rest(command, service, address, body)

    def incoming(self, frames: Frames) -> Union[Request, Report]:
        if frames[:2] == [b"MDPC02", b"\x01"] and len(frames) > 2:
            return Request(frames[2], frames[3:])
        if frames[:1] == [b"MDPW02"] and len(frames) > 1:
            return self._report_of(frames[1], frames[2:])
        raise Unreadable(f"{frames} is of neither client nor worker")

    def to_worker(self, command: str, address: bytes = b"", body: Frames = ()) -> Frames:
        return [b"MDPW02", self.codes[command]] + self._rest(command, b"", address, body)

    def to_client(self, kind: str, service: bytes, body: Frames) -> Frames:
        return [b"MDPC02", {"partial": b"\x02", "final": b"\x03"}[kind], service, *body]


class Zproto(Mdp02):
    """zeromq/majordomo: signature, id, version, message id and service in one frame."""

    ids = {
        "client-request": 1,
        "client-partial": 2,
        "client-final": 3,
        "ready": 4,
        "request": 5,
        "partial": 6,
        "final": 7,
        "heartbeat": 8,
        "disconnect": 9,
    }

    def request(self, service: bytes, body: Frames, timeout: Optional[float]) -> Frames:
        return [self._head("client-request", b"MDPC02", 1, service), *body]

    def reply(self, frames: Frames) -> Reply:
        name, service = self._read(frames, b"MDPC02")
        kinds = {"client-partial": "partial", "client-final": "final"}
        if name not in kinds or service is None:
            raise Unreadable(f"{name} is no reply")
        return Reply(kinds[name], service, frames[1:])

    def order(self, frames: Frames) -> Order:
        name, _ = self._read(frames, b"MDPW02")
        if name == "request":
            if len(frames) < 3 or frames[2] != b"":
                raise Unreadable(f"{frames} has no one address and empty frame")
            return Order("request", frames[1], frames[3:])
        if name in ("heartbeat", "disconnect"):
            return Order(name)
        raise Unreadable(f"{name} is no command for a worker")

    def report(self, command: str, service: bytes = b"", address: bytes = b"", body: Frames = ()) -> Frames:
        return self._command(command, service, address, body)

    def incoming(self, frames: Frames) -> Union[Request, Report]:
        try:
            name, service = self._read(frames, b"MDPC02")
            if name == "client-request" and service is not None:
                return Request(service, frames[1:])
        except Unreadable:
            pass
        name, service = self._read(frames, b"MDPW02")
        if name == "ready" and service is not None:
            return Report("ready", service=service)
        if name in ("partial", "final") and len(frames) > 2:
            return Report(name, address=frames[1], body=frames[3:])
        if name in ("heartbeat", "disconnect"):
            return Report(name)
        raise Unreadable(f"{name} is of neither client nor worker")

    def to_worker(self, command: str, address: bytes = b"", body: Frames = ()) -> Frames:
        return self._command(command, b"", address, body)

    def to_client(self, kind: str, service: bytes, body: Frames) -> Frames:
        number = {"partial": 2, "final": 3}[kind]
        return [self._head(f"client-{kind}", b"MDPC02", number, service), *body]

    def _command(self, command: str, service: bytes, address: bytes, body: Frames) -> Frames:
        number = self.codes[command][0]
        head = self._head(command, b"MDPW02", number, service if command == "ready" else None)
        return [head, *([address, b"", *body] if command in ("partial", "final", "request") else [])]

    def _head(self, name: str, version: bytes, number: int, service: Optional[bytes]) -> bytes:
        head = bytes([0xAA, 0xA4, self.ids[name], len(version)]) + version + bytes([number])
        return head if service is None else head + bytes([len(service)]) + service

    def _read(self, frames: Frames, version: bytes) -> tuple[str, Optional[bytes]]:
        head = frames[0] if frames else b""
        start = bytes([len(version)]) + version
        if head[:2] != b"\xaa\xa4" or head[3 : 3 + len(start)] != start:
            raise Unreadable(f"{head!r} is no header")
        names = {number: name for name, number in self.ids.items()}
        rest = head[3 + len(start) + 1 :]
        if rest and rest[0] != len(rest) - 1:
            raise Unreadable(f"{head!r} has a service of another length than it says")
        return names.get(head[2], "nothing known"), rest[1:] if rest else None


WIRES = {"mdp01": Mdp01(), "domogik": Domogik(), "mdp02": Mdp02(), "zproto": Zproto()}
