"""The package majortomo in its three roles, as its own documentation has them used."""

from __future__ import annotations

import logging
from typing import Any

import zmq
from majortomo.broker import Broker
from majortomo.client import Client
from majortomo.error import Disconnected, ProtocolError, Timeout
from majortomo.worker import Worker

from service_driver.process import Settings, commands, decode, say


def run(role: str, settings: Settings) -> None:
    logging.basicConfig(level=logging.WARNING)
    {"client": ask, "worker": work, "broker": serve}[role](settings)


def ask(settings: Settings) -> None:
    endpoint = settings.text("endpoint")
    settings.finish()
    told = commands()
    say("started", libzmq=zmq.zmq_version())
    while True:
        with Client(endpoint, zmq_linger=0) as client:
            while converse(client, told.get()):
                pass


def converse(client: Client, command: dict[str, Any]) -> bool:
    """One request; false if nothing came, after which its client wants a new connection."""
    client.send(command["service"], *decode(command["frames"]))
    seconds = command.get("patience_ms", 10_000) / 1000
    try:
        while True:
            part = client.recv_part(seconds)
            # Its last part is not marked for its user: it is the one after which no more is expected
            if part is None:
                return True
            say("partial" if client._expect_reply else "final", service=None, frames=part, raw=[])
    except Timeout:
        say("silence")
        return False


def work(settings: Settings) -> None:
    endpoint, service = settings.text("endpoint"), settings.text("service")
    interval, answers = settings.seconds("interval_ms", 2500), settings.text("handler", "ask")
    settings.finish()
    told = commands()
    say("started", libzmq=zmq.zmq_version())
    # Where its own loop ends at a DISCONNECT, whatever looks after such a process starts it again
    while True:
        worker = Worker(endpoint, service, heartbeat_interval=interval, heartbeat_timeout=4 * interval, zmq_linger=0)
        worker.connect()
        say("ready")
        try:
            while True:
                serve_one(worker, told, answers)
        except Disconnected:
            say("gone", why="disconnect")


def serve_one(worker: Worker, told: Any, answers: str) -> None:
    try:
        client, frames = worker.wait_for_request()
    except ProtocolError as cause:
        say("unreadable", why=str(cause))
        return
    say("request", frames=frames)
    if answers == "echo":
        worker.send_reply_final(client, frames)
        return
    answer = told.get()
    for part in answer.get("partials", []):
        worker.send_reply_partial(client, decode(part))
    if answer["reply"] is not None:
        worker.send_reply_final(client, decode(answer["reply"]))
    say("replied")


class AnnouncedBroker(Broker):
    """Says where it is bound, for which it has no way itself."""

    def bind(self) -> None:
        super().bind()
        say("listening", libzmq=zmq.zmq_version(), endpoint=self._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())


def serve(settings: Settings) -> None:
    interval = settings.seconds("interval_ms", 2500)
    broker = AnnouncedBroker(
        settings.text("endpoint", "tcp://127.0.0.1:*"), heartbeat_interval=interval, heartbeat_timeout=4 * interval
    )
    settings.finish()
    commands()
    broker.run()
