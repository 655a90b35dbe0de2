#!/usr/bin/env python3
"""Writes down what libzmq puts on the wire: a libzmq socket at one end, our plain TCP socket at the other.

    python3 tests/peers/record.py             record every scenario anew into recorded/
    python3 tests/peers/record.py --check     record and compare with recorded/, change nothing
    python3 tests/peers/record.py NAME...     only these scenarios

A transcript has one step per line group: `>` octets we sent, `<` octets libzmq sent, `=` what the
application at libzmq's end did or received, `#` comment; 16 octets per line, in hex. Each step reads
exactly the octets it expects. Where libzmq does not close by itself, we close our sending half at the
end and read on until libzmq closes, so a transcript also shows that nothing else was
sent; scenarios with timers, which may send again at any moment, say that they end without this.
"""

from __future__ import annotations

import dataclasses
import pathlib
import socket
import sys
import time
from typing import Callable, Union

import zmq


@dataclasses.dataclass
class Say:
    """We send these octets."""

    octets: bytes
    meaning: str


@dataclasses.dataclass
class Hear:
    """libzmq sends this many octets."""

    count: int
    meaning: str


@dataclasses.dataclass
class HearClose:
    """libzmq sends nothing more and closes, while our end is still open."""

    meaning: str


@dataclasses.dataclass
class Act:
    """The application at libzmq's end does something; a message it receives is written down."""

    act: Callable[[zmq.Socket], Union[list[bytes], None]]
    meaning: str


Step = Union[Say, Hear, HearClose, Act]


@dataclasses.dataclass
class Scenario:
    name: str
    about: str
    socket_type: zmq.SocketType
    steps: list[Step]
    options: dict[zmq.SocketOption, Union[int, bytes]] = dataclasses.field(default_factory=dict)
    until_closed: bool = True


def record(scenario: Scenario) -> str:
    """The transcript of one scenario against a fresh socket."""
    context = zmq.Context()
    peer = context.socket(scenario.socket_type)
    try:
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.RCVTIMEO, PATIENCE_SECONDS * 1000)
        peer.setsockopt(zmq.SNDTIMEO, PATIENCE_SECONDS * 1000)
        for option, value in scenario.options.items():
            peer.setsockopt(option, value)
        port = peer.bind_to_random_port("tcp://127.0.0.1")
        with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return header(scenario) + "".join(transcript(scenario, peer, wire))
    finally:
        peer.close()
        context.term()


def header(scenario: Scenario) -> str:
    options = " ".join(f"{option.name}={value!r}" for option, value in scenario.options.items())
    return (
        f"# {scenario.name}: {scenario.about}\n"
        f"# libzmq {zmq.zmq_version()}, {scenario.socket_type.name}, bound; options: {options or 'none'}\n"
        f"# made by: python3 tests/peers/record.py {scenario.name}\n"
        "# > we sent   < libzmq sent   = the application at libzmq's end\n"
    )


def transcript(scenario: Scenario, peer: zmq.Socket, wire: socket.socket) -> list[str]:
    parts = []
    for step in scenario.steps:
        if isinstance(step, Say):
            wire.sendall(step.octets)
            parts.append(lines(">", step.octets, step.meaning))
        elif isinstance(step, Hear):
            parts.append(lines("<", read_exactly(wire, peer, step, scenario), step.meaning))
        elif isinstance(step, HearClose):
            rest = read_to_end(wire, scenario.name)
            parts.append(lines("<", rest, "left over") if rest else f"\n# {step.meaning}\n")
            return parts
        else:
            parts.append(application_line(step.meaning, step.act(peer)))
    if not scenario.until_closed:
        parts.append("\n# not read to the end: a timer of libzmq may send more at any moment\n")
        return parts
    wire.shutdown(socket.SHUT_WR)
    rest = read_to_end(wire, scenario.name)
    parts.append(lines("<", rest, "left over") if rest else "\n# nothing else until libzmq closed, after our end did\n")
    return parts


def read_exactly(wire: socket.socket, peer: zmq.Socket, step: Hear, scenario: Scenario) -> bytes:
    """Reads what a step expects; meanwhile the application calls in, which libzmq needs to act."""
    octets = b""
    ends = time.monotonic() + PATIENCE_SECONDS
    wire.settimeout(0.02)
    while len(octets) < step.count:
        peer.getsockopt(zmq.EVENTS)
        try:
            more = wire.recv(step.count - len(octets))
        except TimeoutError:
            if time.monotonic() < ends:
                continue
            more = b""
        if not more:
            raise SystemExit(
                f"{scenario.name}: {step.meaning}: expected {step.count} octets, got {len(octets)}: {octets.hex()}"
            )
        octets += more
    return octets


def read_to_end(wire: socket.socket, name: str) -> bytes:
    octets = b""
    wire.settimeout(PATIENCE_SECONDS)
    try:
        while more := wire.recv(65536):
            octets += more
    except ConnectionResetError:
        pass  # libzmq closed with octets of ours unread; what it sent before has been read
    except TimeoutError:
        raise SystemExit(f"{name}: libzmq did not close; it sent {octets.hex() or 'nothing'}") from None
    return octets


def lines(mark: str, octets: bytes, meaning: str) -> str:
    rows = [octets[at : at + 16].hex(" ") for at in range(0, len(octets), 16)]
    return f"\n# {meaning}\n" + "".join(f"{mark} {row}\n" for row in rows)


def application_line(meaning: str, received: list[bytes] | None) -> str:
    if received is None:
        return f"\n= {meaning}\n"
    frames = " | ".join(frame.hex(" ") or "(empty)" for frame in received)
    return f"\n= {meaning}: {frames}\n"


# What we say


def greeting(minor: int) -> bytes:
    return SIGNATURE + bytes([3, minor]) + b"NULL".ljust(20, b"\0") + bytes(32)


def ready(socket_type: str) -> bytes:
    return command(b"READY", metadata("Socket-Type", socket_type.encode()))


def metadata(name: str, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + len(value).to_bytes(4, "big") + value


def command(name: bytes, data: bytes) -> bytes:
    body = bytes([len(name)]) + name + data
    return bytes([0x04, len(body)]) + body


def frame(body: bytes, more: bool = False) -> bytes:
    return bytes([int(more), len(body)]) + body


def unversioned_frame(body: bytes, more: bool = False) -> bytes:
    return bytes([len(body) + 1, int(more)]) + body


SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
PATIENCE_SECONDS = 5


# How a handshake goes, by our version


def handshake_3(minor: int, ours: str, theirs: zmq.SocketType, extra: int = 0) -> list[Step]:
    """A 3.x handshake; `extra` is how many metadata octets libzmq adds to its Socket-Type."""
    return [
        Hear(10, "signature, sent at once"),
        Say(SIGNATURE, "our signature"),
        Hear(1, "version-major"),
        Say(bytes([3, minor]), f"our version, 3.{minor}"),
        Hear(53, "version-minor, mechanism, as-server, filler"),
        Say(greeting(minor)[12:], "the rest of our greeting: NULL"),
        Hear(len(ready(theirs.name)) + extra, "READY"),
        Say(ready(ours), f"our READY: {ours}"),
    ]


def handshake_2(our_type: int, identity_octets: int) -> list[Step]:
    return [
        Hear(10, "signature, sent at once"),
        Say(SIGNATURE, "our signature"),
        Hear(1, "version-major"),
        Say(bytes([1, our_type]), f"our revision 1, ZMTP 2.0, and socket type {our_type}"),
        Hear(1 + 2 + identity_octets, "socket type, identity frame"),
        Say(frame(b""), "our identity frame, empty"),
    ]


def handshake_1_versioned(our_type: int, identity_octets: int) -> list[Step]:
    return [
        Hear(10, "signature, sent at once"),
        Say(SIGNATURE, "our signature"),
        Hear(1, "version-major"),
        Say(bytes([0, our_type]), f"our revision 0, ZMTP 1.0 framing, and socket type {our_type}"),
        Hear(1 + 2 + identity_octets, "socket type, identity frame in 1.0 framing"),
        Say(unversioned_frame(b""), "our identity frame, empty"),
    ]


def handshake_1(identity_octets: int) -> list[Step]:
    return [
        Hear(10, "signature, sent at once: to a 1.0 peer the long header of the identity frame"),
        Say(unversioned_frame(b""), "our identity frame, empty: a ZMTP 1.0 peer that knows no greeting"),
        *([Hear(identity_octets, "the body of the identity frame")] if identity_octets else []),
    ]


# What is recorded

IDENTITY = {zmq.ROUTING_ID: b"BOB"}
IDENTITY_OCTETS = len(metadata("Identity", b""))
PEER_OF = {
    zmq.PAIR: "PAIR",
    zmq.PUB: "SUB",
    zmq.SUB: "PUB",
    zmq.REQ: "REP",
    zmq.REP: "REQ",
    zmq.DEALER: "ROUTER",
    zmq.ROUTER: "DEALER",
    zmq.PULL: "PUSH",
    zmq.PUSH: "PULL",
    zmq.XPUB: "SUB",
    zmq.XSUB: "PUB",
}
ROUTER_OCTET = 6
PUB_OCTET = 1


def send(*frames: bytes) -> Act:
    told = " | ".join(repr(frame)[1:] if len(frame) < 20 else f"{len(frame)} octets" for frame in frames)
    return Act(lambda peer: peer.send_multipart(list(frames)), f"sends {told}")


def receive() -> Act:
    return Act(lambda peer: peer.recv_multipart(), "receives")


def subscribe(topic: bytes) -> Act:
    told = repr(topic)[1:] if len(topic) < 20 else f"{len(topic)} octets"
    return Act(lambda peer: peer.setsockopt(zmq.SUBSCRIBE, topic), f"subscribes to {told}")


def unsubscribe(topic: bytes) -> Act:
    return Act(lambda peer: peer.setsockopt(zmq.UNSUBSCRIBE, topic), f"unsubscribes from {repr(topic)[1:]}")


def dealers() -> list[Scenario]:
    """The same two messages out and one in, by a peer of each version."""
    hello = [b"", b"hello"]
    long = [bytes([0x61]) * 255, bytes([0x62]) * 256]

    def exchange(encode: Callable[[bytes, bool], bytes], longs: int) -> list[Step]:
        ours = encode(b"", True) + encode(b"world", False)
        return [
            send(*hello),
            Hear(len(ours), "two frames, the first one empty"),
            send(*long),
            Hear(longs, "255 octets, then 256"),
            Say(ours, "two frames of ours"),
            receive(),
        ]

    later = exchange(frame, 2 + 255 + 9 + 256)
    first = exchange(unversioned_frame, 10 + 255 + 10 + 256)
    extra = IDENTITY_OCTETS + 3
    return [
        *(
            Scenario(
                f"dealer-3.{minor}",
                f"DEALER, a 3.{minor} peer",
                zmq.DEALER,
                handshake_3(minor, "ROUTER", zmq.DEALER, extra) + later,
                IDENTITY,
            )
            for minor in (1, 0)
        ),
        Scenario("dealer-2.0", "DEALER, a 2.0 peer", zmq.DEALER, handshake_2(ROUTER_OCTET, 3) + later, IDENTITY),
        Scenario(
            "dealer-1.0-versioned",
            "DEALER, a peer with a greeting of revision 0",
            zmq.DEALER,
            handshake_1_versioned(ROUTER_OCTET, 3) + first,
            IDENTITY,
        ),
        Scenario("dealer-1.0", "DEALER, a 1.0 peer without greeting", zmq.DEALER, handshake_1(3) + first, IDENTITY),
    ]


def subscribers() -> list[Scenario]:
    """Subscribe, cancel, and a publication, by a publisher of each version."""

    def exchange(encode: Callable[[bytes], bytes]) -> list[Step]:
        commands = encode is subscription_command
        data = unversioned_frame if encode is unversioned_subscription else frame
        return [
            subscribe(b"A"),
            Hear(len(encode(b"\1A")), "SUBSCRIBE" if commands else "a subscription message"),
            Say(data(b"Apples"), "a publication"),
            receive(),
            unsubscribe(b"A"),
            Hear(len(encode(b"\0A")), "CANCEL" if commands else "a cancellation message"),
            subscribe(b""),
            Hear(len(encode(b"\1")), "to everything"),
        ]

    def subscription_command(body: bytes) -> bytes:
        return command(b"SUBSCRIBE" if body[0] else b"CANCEL", body[1:])

    def unversioned_subscription(body: bytes) -> bytes:
        return unversioned_frame(body)

    commands, messages, first = exchange(subscription_command), exchange(frame), exchange(unversioned_subscription)
    return [
        Scenario("sub-3.1", "SUB, a 3.1 publisher", zmq.SUB, handshake_3(1, "PUB", zmq.SUB) + commands),
        Scenario("sub-3.0", "SUB, a 3.0 publisher", zmq.SUB, handshake_3(0, "PUB", zmq.SUB) + messages),
        Scenario("sub-2.0", "SUB, a 2.0 publisher", zmq.SUB, handshake_2(PUB_OCTET, 0) + messages),
        Scenario(
            "sub-1.0-versioned",
            "SUB, a publisher with a greeting of revision 0",
            zmq.SUB,
            handshake_1_versioned(PUB_OCTET, 0) + first,
        ),
        Scenario("sub-1.0", "SUB, a 1.0 publisher without greeting", zmq.SUB, handshake_1(0) + first),
        Scenario(
            "sub-3.0-topic-of-255",
            "a libzmq defect: the size of a 255-octet topic is written long under a short flag",
            zmq.SUB,
            handshake_3(0, "PUB", zmq.SUB)
            + [subscribe(b"t" * 255), Hear(1 + 8 + 256, "flags 00, yet an 8-octet size; 01; the topic")],
        ),
    ]


def readies() -> list[Scenario]:
    """The READY of every socket type."""
    with_identity = (zmq.REQ, zmq.DEALER, zmq.ROUTER)
    return [
        Scenario(
            f"ready-{kind.name.lower()}",
            f"the READY of {kind.name}",
            kind,
            handshake_3(1, ours, kind, IDENTITY_OCTETS if kind in with_identity else 0),
        )
        for kind, ours in PEER_OF.items()
    ]


def commands() -> list[Scenario]:
    """Heartbeats, unknown commands, and the messages libzmq sends of itself."""
    dealer = handshake_3(1, "ROUTER", zmq.DEALER, IDENTITY_OCTETS)
    return [
        Scenario(
            "ping",
            "heartbeats of libzmq: an interval of 100 ms, a ttl of 2500 ms",
            zmq.DEALER,
            dealer + [Hear(9, "PING, ttl 25 tenths of a second, no context"), Say(command(b"PONG", b""), "our PONG")],
            {zmq.HEARTBEAT_IVL: 100, zmq.HEARTBEAT_TTL: 2500, zmq.HEARTBEAT_TIMEOUT: 60_000},
            until_closed=False,
        ),
        Scenario(
            "pong",
            "our heartbeats, answered: a context is echoed, one over 16 octets is cut off",
            zmq.DEALER,
            dealer
            + [
                Say(command(b"PING", b"\0\0"), "PING, no ttl, no context"),
                Hear(7, "PONG"),
                Say(command(b"PING", b"\0\0ctx1"), "PING, no ttl, context ctx1"),
                Hear(11, "PONG"),
                Say(command(b"PING", b"\0\0" + b"0123456789abcdefX"), "PING, a context of 17 octets"),
                Hear(7 + 16, "PONG, 16 octets of it"),
            ],
        ),
        Scenario(
            "unknown-command",
            "a command nobody knows after the handshake is passed over",
            zmq.DEALER,
            dealer + [Say(command(b"WHAT", b"x"), "command WHAT"), Say(frame(b"still here"), "a message"), receive()],
        ),
        Scenario(
            "probe-router",
            "PROBE_ROUTER: one empty message to each new peer",
            zmq.DEALER,
            dealer + [Hear(2, "an empty message")],
            {zmq.PROBE_ROUTER: 1},
        ),
        Scenario(
            "xpub-welcome",
            "XPUB_WELCOME_MSG: one message to each new subscriber",
            zmq.XPUB,
            handshake_3(1, "SUB", zmq.XPUB)
            + [
                Say(command(b"SUBSCRIBE", b"W"), "SUBSCRIBE to W"),
                receive(),
                Hear(2 + 7, "the welcome message"),
                Say(frame(b"\1M"), "the older subscription message, accepted from a 3.1 peer too"),
                receive(),
            ],
            {zmq.XPUB_WELCOME_MSG: b"Welcome"},
        ),
        Scenario(
            "rep-envelope",
            "REP: the frames up to the empty one come back before the reply",
            zmq.REP,
            handshake_3(1, "DEALER", zmq.REP)
            + [
                Say(frame(b"id", more=True) + frame(b"", more=True) + frame(b"question"), "id, empty, question"),
                receive(),
                send(b"answer"),
                Hear(len(frame(b"id") + frame(b"") + frame(b"answer")), "id, empty, answer"),
            ],
        ),
    ]


def closes() -> list[Scenario]:
    """What makes libzmq close a connection, and that it says nothing first."""
    dealer = handshake_3(1, "ROUTER", zmq.DEALER, IDENTITY_OCTETS)
    until_ready = dealer[:-1]
    closed = HearClose("libzmq closes; it sends no ERROR")
    return [
        Scenario(
            "close-wrong-socket-type",
            "READY of a type that does not fit",
            zmq.DEALER,
            until_ready + [Say(ready("PUB"), "our READY: PUB"), closed],
        ),
        Scenario(
            "close-truncated-metadata",
            "READY whose last property is cut short",
            zmq.DEALER,
            until_ready
            + [Say(command(b"READY", metadata("Socket-Type", b"ROUTER")[:-1]), "ROUTE, announced as 6 octets"), closed],
        ),
        Scenario(
            "close-error-received",
            "ERROR in place of our READY",
            zmq.DEALER,
            until_ready + [Say(command(b"ERROR", b"\x03400"), "ERROR 400"), closed],
        ),
        Scenario(
            "close-wrong-mechanism",
            "a greeting with another mechanism",
            zmq.DEALER,
            dealer[:5] + [Say(b"PLAIN".ljust(20, b"\0") + bytes(32), "the rest of our greeting: PLAIN"), closed],
        ),
        Scenario(
            "close-over-the-limit",
            "a frame longer than MAXMSGSIZE",
            zmq.DEALER,
            dealer + [Say(bytes([0, 101]), "the header of a frame of 101 octets"), closed],
            {zmq.MAXMSGSIZE: 100},
        ),
    ]


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    wanted = [argument for argument in arguments if argument != "--check"]
    scenarios = {scenario.name: scenario for scenario in dealers() + subscribers() + readies() + commands() + closes()}
    unknown = [name for name in wanted if name not in scenarios]
    if unknown:
        print(f"no scenario {unknown[0]!r}; there are: {' '.join(scenarios)}", file=sys.stderr)
        return 2
    differing = 0
    for name in wanted or scenarios:
        path = FOLDER / f"{name}.hex"
        made = record(scenarios[name])
        if not check:
            path.write_text(made)
            print(f"wrote {path.name}")
        elif not path.exists() or without_version(path.read_text()) != without_version(made):
            differing += 1
            print(f"DIFFERS {path.name}")
        else:
            print(f"same    {path.name}")
    return 1 if differing else 0


def without_version(transcript: str) -> str:
    return "\n".join(line for line in transcript.splitlines() if not line.startswith("# libzmq "))


FOLDER = pathlib.Path(__file__).parent / "recorded"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
