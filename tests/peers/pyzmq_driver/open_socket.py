"""One libzmq socket as the driver holds it, and the log of its lifecycle events."""

from __future__ import annotations

import threading
import time
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from .deadline import STOP_CHECK_MS, Deadline


class OpenSocket:
    """One libzmq socket, its events, and which operation holds it."""

    def __init__(self, id: str, zmq_socket: zmq.Socket, monitor: MonitorLog) -> None:
        self.id = id
        self.zmq = zmq_socket
        self.monitor = monitor
        self.held_by: str | None = None

    def send(self, frames: list[bytes], deadline: Deadline, flags: int = 0, **facts: Any) -> None:
        """Sends one message, waiting for room until the deadline."""
        while True:
            try:
                self.zmq.send_multipart(frames, flags=flags)
                return
            except zmq.Again:
                if flags & zmq.DONTWAIT:
                    raise
            deadline.check_after_waiting(**facts)

    def recv(self, deadline: Deadline, skip: bytes | None = None, **facts: Any) -> list[bytes]:
        """Receives one message, passing over those whose last frame is `skip`."""
        while True:
            try:
                frames = self.zmq.recv_multipart()
                if skip is None or frames[-1] != skip:
                    return frames
            except zmq.Again:
                pass
            deadline.check_after_waiting(**facts)

    def recv_uncopied(self, deadline: Deadline, skip: bytes | None = None) -> list[zmq.Frame]:
        """As `recv`, leaving the octets where libzmq put them."""
        while True:
            try:
                frames = self.zmq.recv_multipart(copy=False)
                if skip is None or frames[-1].buffer != skip:
                    return frames
            except zmq.Again:
                pass
            deadline.check_after_waiting()

    def wait_in_slices_of(self, deadline: Deadline) -> None:
        self.zmq.setsockopt(zmq.SNDTIMEO, deadline.slice_ms())
        self.zmq.setsockopt(zmq.RCVTIMEO, deadline.slice_ms())


class MonitorLog:
    """The lifecycle events of one socket, read from libzmq's monitor by a thread of their own."""

    def __init__(self, context: zmq.Context, socket: zmq.Socket, address: str) -> None:
        self.changed = threading.Condition()
        self.events: list[dict[str, Any]] = []
        self.taken: set[int] = set()
        self.dropped = 0
        self.next_seq = 0
        socket.monitor(address, zmq.EVENT_ALL)
        self.thread = threading.Thread(target=self._read, args=(context, address), daemon=True)
        self.thread.start()

    def wait(self, name: str, after: int | None, deadline: Deadline) -> dict[str, Any]:
        with self.changed:
            while True:
                for event in self.events:
                    seq = event["seq"]
                    if event["event"] == name and seq not in self.taken and (after is None or seq > after):
                        self.taken.add(seq)
                        return event
                deadline.check_after_waiting(seen=[event["event"] for event in self.events])
                self.changed.wait(min(STOP_CHECK_MS / 1000, max(0.0, deadline.ends - time.monotonic())))

    def kept(self) -> dict[str, Any]:
        with self.changed:
            return {"events": list(self.events), "dropped": self.dropped}

    def _read(self, context: zmq.Context, address: str) -> None:
        pair = context.socket(zmq.PAIR)
        pair.linger = 0
        try:
            pair.connect(address)
            while True:
                raw = parse_monitor_message(pair.recv_multipart())
                if raw["event"] == zmq.EVENT_MONITOR_STOPPED:
                    return
                self._keep(raw)
        except zmq.ZMQError:
            return  # the context is being terminated
        finally:
            pair.close()

    def _keep(self, raw: dict[str, Any]) -> None:
        with self.changed:
            self.events.append(
                {
                    "seq": self.next_seq,
                    "event": zmq.Event(raw["event"]).name,
                    "value": raw["value"],
                    "endpoint": raw["endpoint"].decode("utf-8", "replace"),
                }
            )
            self.next_seq += 1
            if len(self.events) > EVENTS_KEPT:
                self.taken.discard(self.events.pop(0)["seq"])
                self.dropped += 1
            self.changed.notify_all()


EVENTS_KEPT = 10_000
