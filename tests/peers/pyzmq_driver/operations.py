"""The operations, one function each, entered into the driver's table."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from .deadline import STOP_CHECK_MS, Deadline
from .driver import Driver, operation
from .fields import (
    encoded,
    event_named,
    flag,
    frame_list,
    linger_time,
    message_frames,
    names,
    octets,
    option_named,
    option_values,
    poll_events,
    send_flags,
    sequence_count,
    sequence_size,
    text,
    type_named,
    whole,
    window_size,
)
from .open_socket import MonitorLog, OpenSocket
from .refusal import Refused
from .sequence import NUMBER_OCTETS, SequenceCheck, fill

TIMEOUT = (whole, 5000)


# Sockets


@operation("open", holds_socket=False, id=text, type=type_named, options=(option_values, ()))
def open_socket(driver: Driver, id: str, type: zmq.SocketType, options: Any) -> dict[str, Any]:
    if id in driver.sockets:
        raise Refused("usage", f"socket {id!r} is open already")
    socket = driver.context.socket(type)
    try:
        for option, value in options:
            socket.setsockopt(option, value)
        driver.opened += 1
        monitor = MonitorLog(driver.context, socket, f"inproc://monitor-{driver.opened}")
    except zmq.ZMQError:
        socket.close(linger=0)
        raise
    driver.sockets[id] = OpenSocket(id, socket, monitor)
    return {"id": id}


@operation("set", id=text, options=option_values)
def set_options(driver: Driver, socket: OpenSocket, options: Any) -> dict[str, Any]:
    for option, value in options:
        socket.zmq.setsockopt(option, value)
    return {}


@operation("get", id=text, option=option_named)
def option_value(driver: Driver, socket: OpenSocket, option: zmq.SocketOption) -> dict[str, Any]:
    value = socket.zmq.getsockopt(option)
    return {"value": encoded([value])[0] if isinstance(value, bytes) else value}


@operation("bind", id=text, endpoint=text)
def bind(driver: Driver, socket: OpenSocket, endpoint: str) -> dict[str, Any]:
    socket.zmq.bind(endpoint)
    return {"last_endpoint": last_endpoint(socket)}


@operation("connect", id=text, endpoint=text)
def connect(driver: Driver, socket: OpenSocket, endpoint: str) -> dict[str, Any]:
    socket.zmq.connect(endpoint)
    return {"last_endpoint": last_endpoint(socket)}


def last_endpoint(socket: OpenSocket) -> str:
    return socket.zmq.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()


@operation("unbind", id=text, endpoint=text)
def unbind(driver: Driver, socket: OpenSocket, endpoint: str) -> dict[str, Any]:
    socket.zmq.unbind(endpoint)
    return {}


@operation("disconnect", id=text, endpoint=text)
def disconnect(driver: Driver, socket: OpenSocket, endpoint: str) -> dict[str, Any]:
    socket.zmq.disconnect(endpoint)
    return {}


@operation("subscribe", id=text, topic=octets)
def subscribe(driver: Driver, socket: OpenSocket, topic: bytes) -> dict[str, Any]:
    socket.zmq.setsockopt(zmq.SUBSCRIBE, topic)
    return {}


@operation("unsubscribe", id=text, topic=octets)
def unsubscribe(driver: Driver, socket: OpenSocket, topic: bytes) -> dict[str, Any]:
    socket.zmq.setsockopt(zmq.UNSUBSCRIBE, topic)
    return {}


@operation("close", id=text, linger=(linger_time, None))
def close_socket(driver: Driver, socket: OpenSocket, linger: int | None) -> dict[str, Any]:
    del driver.sockets[socket.id]
    socket.zmq.close(linger=linger)
    return {}


# Single messages


@operation("send", id=text, frames=message_frames, flags=(send_flags, 0), timeout=TIMEOUT)
def send(driver: Driver, socket: OpenSocket, frames: list[bytes], flags: int, deadline: Deadline) -> dict[str, Any]:
    socket.send(frames, deadline, flags)
    return {}


@operation("send_fill", id=text, length=whole, via=(octets, None), prefix=(frame_list, []), timeout=TIMEOUT)
def send_fill(
    driver: Driver, socket: OpenSocket, length: int, via: bytes | None, prefix: list[bytes], deadline: Deadline
) -> dict[str, Any]:
    body = fill(length)
    socket.send([*leading_frames(via, prefix), body], deadline)
    return {"length": length, "sha256": hashlib.sha256(body).hexdigest()}


@operation("recv", id=text, skip=(octets, None), metadata=(names, None), timeout=TIMEOUT)
def recv(
    driver: Driver, socket: OpenSocket, skip: bytes | None, metadata: list[str] | None, deadline: Deadline
) -> dict[str, Any]:
    if metadata is None:
        return {"frames": encoded(socket.recv(deadline, skip))}
    frames = socket.recv_uncopied(deadline, skip)
    return {
        "frames": encoded([frame.bytes for frame in frames]),
        "metadata": {name: property_of(frames[-1], name) for name in metadata},
    }


def property_of(frame: zmq.Frame, name: str) -> str | None:
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return None  # libzmq answers EINVAL for a property the peer did not send


@operation("digest", id=text, skip=(octets, None), timeout=TIMEOUT)
def digest(driver: Driver, socket: OpenSocket, skip: bytes | None, deadline: Deadline) -> dict[str, Any]:
    frames = socket.recv_uncopied(deadline, skip)
    return {
        "frames": [
            {"length": len(frame.buffer), "sha256": hashlib.sha256(frame.buffer).hexdigest()} for frame in frames
        ]
    }


@operation("poll", id=text, events=(poll_events, zmq.POLLIN), timeout=TIMEOUT)
def poll(driver: Driver, socket: OpenSocket, events: int, deadline: Deadline) -> dict[str, Any]:
    while True:
        remaining = max(0, round((deadline.ends - time.monotonic()) * 1000))
        if socket.zmq.poll(min(remaining, STOP_CHECK_MS), events):
            return {"ready": True}
        if remaining == 0:
            return {"ready": False}
        if deadline.stop.is_set():
            raise Refused("stopped", "stopped before the socket was ready")
        deadline.attend()


# Numbered messages


@operation(
    "send_sequence",
    id=text,
    count=sequence_count,
    start=(whole, 0),
    size=(sequence_size, NUMBER_OCTETS),
    via=(octets, None),
    prefix=(frame_list, []),
    timeout=TIMEOUT,
)
def send_sequence(
    driver: Driver,
    socket: OpenSocket,
    count: int,
    start: int,
    size: int,
    via: bytes | None,
    prefix: list[bytes],
    deadline: Deadline,
) -> dict[str, Any]:
    before = leading_frames(via, prefix)
    padding = fill(size)[NUMBER_OCTETS:]
    for number in range(start, start + count):
        body = number.to_bytes(NUMBER_OCTETS, "big") + padding
        deadline.check(sent=number - start)
        socket.send([*before, body], deadline, sent=number - start)
    return {"sent": count, "elapsed": deadline.elapsed()}


@operation(
    "recv_sequence",
    id=text,
    count=sequence_count,
    start=(whole, 0),
    size=(sequence_size, None),
    prefix=(frame_list, None),
    skip=(octets, None),
    any_order=(flag, False),
    allow_gaps=(flag, False),
    timeout=TIMEOUT,
)
def recv_sequence(
    driver: Driver,
    socket: OpenSocket,
    count: int,
    start: int,
    size: int | None,
    prefix: list[bytes] | None,
    skip: bytes | None,
    any_order: bool,
    allow_gaps: bool,
    deadline: Deadline,
) -> dict[str, Any]:
    check = SequenceCheck(start, count, any_order, allow_gaps)
    first_prefix: list[str] | None = None
    padding = fill(size or NUMBER_OCTETS)[NUMBER_OCTETS:]

    def facts() -> dict[str, Any]:
        return {**check.facts(), "first_prefix": first_prefix, "elapsed": deadline.elapsed()}

    while not check.done():
        try:
            deadline.check()
            *before, body = socket.recv(deadline, skip)
        except Refused as refusal:
            refusal.facts.update(facts())
            raise
        if first_prefix is None:
            first_prefix = encoded(before)
        if len(body) < NUMBER_OCTETS:
            check.bad("short", None)
            check.received += 1
            continue
        number = int.from_bytes(body[:NUMBER_OCTETS], "big")
        if prefix is not None and before != prefix:
            check.bad("prefix", number)
        if size is not None and len(body) != size:
            check.bad("size", number)
        if len(body) != NUMBER_OCTETS + len(padding):
            padding = fill(len(body))[NUMBER_OCTETS:]
        if body[NUMBER_OCTETS:] != padding:
            check.bad("padding", number)
        check.feed(number)
    if check.first_bad is not None:
        problem = check.first_bad["problem"]
        raise Refused("mismatch", f"{problem} at message {check.first_bad['position']}", **facts())
    return facts()


@operation(
    "request_sequence",
    id=text,
    count=sequence_count,
    start=(whole, 0),
    size=(sequence_size, NUMBER_OCTETS),
    via=(octets, None),
    prefix=(frame_list, []),
    window=(window_size, 1),
    timeout=TIMEOUT,
)
def request_sequence(
    driver: Driver,
    socket: OpenSocket,
    count: int,
    start: int,
    size: int,
    via: bytes | None,
    prefix: list[bytes],
    window: int,
    deadline: Deadline,
) -> dict[str, Any]:
    before = leading_frames(via, prefix)
    padding = fill(size)[NUMBER_OCTETS:]

    def request(position: int) -> list[bytes]:
        return [*before, (start + position).to_bytes(NUMBER_OCTETS, "big") + padding]

    sent = 0
    for replies in range(count):
        while sent < count and sent - replies < window:
            socket.send(request(sent), deadline, replies=replies, first_bad=None)
            sent += 1
        reply = socket.recv(deadline, replies=replies, first_bad=None)
        if reply != request(replies):
            body = reply[-1]
            raise Refused(
                "mismatch",
                f"reply {replies} is not its request",
                replies=replies,
                elapsed=deadline.elapsed(),
                first_bad={
                    "position": replies,
                    "problem": "prefix" if body == request(replies)[-1] else "reply",
                    "expected": start + replies,
                    "got": int.from_bytes(body[:NUMBER_OCTETS], "big") if len(body) >= NUMBER_OCTETS else None,
                },
            )
    return {"replies": count, "elapsed": deadline.elapsed(), "first_bad": None}


@operation("echo", id=text, count=(sequence_count, None), timeout=TIMEOUT)
def echo(driver: Driver, socket: OpenSocket, count: int | None, deadline: Deadline) -> dict[str, Any]:
    served = 0
    try:
        while count is None or served < count:
            deadline.check(served=served)
            socket.send(socket.recv(deadline, served=served), deadline, served=served)
            served += 1
    except Refused as refusal:
        if refusal.code != "stopped" or count is not None:
            raise
    return {"served": served}


@operation("repeat", id=text, frames=message_frames, interval=(whole, 20), timeout=TIMEOUT)
def repeat(
    driver: Driver, socket: OpenSocket, frames: list[bytes], interval: int, deadline: Deadline
) -> dict[str, Any]:
    sent = 0
    try:
        while True:
            deadline.check(sent=sent)
            socket.send(frames, deadline, sent=sent)
            sent += 1
            deadline.stop.wait(interval / 1000)
    except Refused as refusal:
        if refusal.code != "stopped":
            raise
    return {"sent": sent}


# Events


@operation("monitor_wait", holds_socket=False, id=text, event=event_named, after=(whole, None), timeout=TIMEOUT)
def monitor_wait(driver: Driver, id: str, event: str, after: int | None, deadline: Deadline) -> dict[str, Any]:
    return driver.socket_named(id).monitor.wait(event, after, deadline)


@operation("events", holds_socket=False, id=text)
def kept_events(driver: Driver, id: str) -> dict[str, Any]:
    return driver.socket_named(id).monitor.kept()


# Background operations and the end


@operation("join", holds_socket=False, name=text, timeout=TIMEOUT)
def join_background(driver: Driver, name: str, deadline: Deadline) -> dict[str, Any]:
    background = driver.take_background(name)
    if not background.ended_by(deadline):
        raise Refused("EAGAIN", f"background operation {name!r} has not ended within {deadline.timeout_ms} ms")
    del driver.background[name]
    return background.answer


@operation("stop", holds_socket=False, name=text, timeout=TIMEOUT)
def stop_background(driver: Driver, name: str, deadline: Deadline) -> dict[str, Any]:
    driver.take_background(name).stop.set()
    return join_background(driver, name, deadline)


@operation("quit", holds_socket=False, linger=(linger_time, 0), timeout=TIMEOUT)
def end(driver: Driver, linger: int, deadline: Deadline) -> dict[str, Any]:
    driver.finished = True
    for background in driver.background.values():
        background.stop.set()
    for name, background in driver.background.items():
        if not background.ended_by(deadline):
            raise Refused("EAGAIN", f"background operation {name!r} did not stop")
    for socket in driver.sockets.values():
        socket.zmq.close(linger=linger)
    ending = threading.Thread(target=driver.context.term, daemon=True)
    ending.start()
    ending.join(max(0.0, deadline.ends - time.monotonic()))
    if ending.is_alive():
        raise Refused("EAGAIN", f"libzmq has not flushed its sockets within {deadline.timeout_ms} ms")
    return {}


def leading_frames(via: bytes | None, prefix: list[bytes]) -> list[bytes]:
    return prefix if via is None else [via, *prefix]


# Authentication


@operation("authenticate", holds_socket=False, deny=(names, []), users=(names, []), keys=(names, None))
def authenticate(driver: Driver, deny: list[str], users: list[str], keys: list[str] | None) -> dict[str, Any]:
    """pyzmq's own authenticator on this process's context, in the place of an earlier one."""
    stop_authenticating(driver)
    authenticator = ThreadAuthenticator(driver.context)
    authenticator.start()
    if deny:
        authenticator.deny(*deny)
    authenticator.configure_plain(domain="*", passwords=dict(user.split(":", 1) for user in users))
    if keys is None:
        authenticator.configure_curve(domain="*", location=zmq.auth.CURVE_ALLOW_ANY)
    else:
        authenticator.configure_curve_callback(domain="*", credentials_provider=KnownKeys(keys))
    driver.authenticator = authenticator
    return {}


@operation("stop_authenticating", holds_socket=False)
def stop_authenticating(driver: Driver) -> dict[str, Any]:
    if driver.authenticator is not None:
        driver.authenticator.stop()
        driver.authenticator = None
    return {}


class KnownKeys:
    """Lets these keys in, as Z85."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = {key.encode() for key in keys}

    def callback(self, domain: str, key: bytes) -> bool:
        return key in self.keys
