"""Domogik's events: publisher, subscriber, and the forwarder between them."""

from __future__ import annotations

import json
import queue
import time
from typing import Any

from service_driver.process import Settings, commands, say


def publish(settings: Settings) -> None:
    """Publishes what it is told; a `beacon` again and again until the next command, for a PUB sees no subscriber."""
    make = settings.socket
    socket = make("PUB")
    socket.connect(settings.text("endpoint"))
    settings.finish()
    told = commands()
    say("started", libzmq=make.version)
    beacon = None
    while True:
        try:
            command: dict[str, Any] = told.get(timeout=0.02) if beacon else told.get()
        except queue.Empty:
            socket.send_multipart(event(beacon))
            continue
        beacon = command if command.get("beacon") else None
        socket.send_multipart(event(command))
        say("published")


def event(command: dict[str, Any]) -> list[bytes]:
    stamp = command.get("timestamp") or str(time.time())
    return [f"{command['category']}.{stamp.replace('.', '_')}.0_1".encode(), json.dumps(command["content"]).encode()]


def subscribe(settings: Settings) -> None:
    """Tells of each event as its application would see it; what it cannot read it passes over in silence."""
    make = settings.socket
    socket = make("SUB")
    for category in settings.texts("filter") or [""]:
        socket.setsockopt(make.names.SUBSCRIBE, category.encode())
    socket.connect(settings.text("endpoint"))
    settings.finish()
    commands()
    say("started", libzmq=make.version)
    while True:
        frames = socket.recv_multipart()
        parts = frames[0].decode().split(".")
        if len(frames) < 2 or len(parts) < 3:
            continue
        try:
            content = json.loads(frames[1].decode())
        except ValueError:
            continue
        say("event", id=frames[0].decode(), category=".".join(parts[:-2]), content=content)


def forward(settings: Settings) -> None:
    """Messages one way, subscriptions the other."""
    make = settings.socket
    front, back = make("XSUB"), make("XPUB")
    for socket in (front, back):
        socket.bind("tcp://127.0.0.1:*")
    settings.finish()
    commands()
    say("listening", libzmq=make.version, pub=make.bound_to(front), sub=make.bound_to(back))
    while True:
        for one, other in ((front, back), (back, front)):
            if one.poll(5):
                other.send_multipart(one.recv_multipart())
