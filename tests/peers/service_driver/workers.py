"""Workers. Their handler runs in the loop that sends heartbeats, which therefore stand still meanwhile, as in the
programs that they are modelled on."""

from __future__ import annotations

import json
import math
import time

from service_driver.process import Settings, commands, decode, say
from service_driver.wires import WIRES, Order, Unreadable


class Worker:
    """What workers of every wire do alike; `converse` is when they send heartbeats and when they give up."""

    interval_ms, liveness, reconnect_ms = 2500, 3, 2500

    def __init__(self, wire: str, settings: Settings) -> None:
        self.wire = WIRES[wire]
        self.endpoint = settings.text("endpoint")
        self.service = settings.text("service").encode()
        self.interval = settings.seconds("interval_ms", self.interval_ms)
        self.reconnect = settings.seconds("reconnect_ms", self.reconnect_ms)
        self.answers = settings.text("handler", "ask")
        self.make = settings.socket
        settings.finish()
        self.commands = commands()
        self.socket = None

    def run(self) -> None:
        say("started", libzmq=self.make.version)
        while True:
            self.socket = self.make("DEALER")
            self.socket.connect(self.endpoint)
            self.send("ready", service=self.service)
            say("ready")
            why = self.converse()
            self.socket.close(0)
            say("gone", why=why)
            if why == "silence":
                time.sleep(self.reconnect)

    def converse(self) -> str:
        """Until it gives the socket up; says why."""
        raise NotImplementedError

    def send(self, command: str, **fields) -> None:
        self.socket.send_multipart(self.wire.report(command, **fields))

    def receive(self) -> Order:
        """The next command; one that cannot be read is told of and stands for a heartbeat."""
        frames = self.socket.recv_multipart()
        try:
            return self.wire.order(frames)
        except Unreadable as cause:
            say("unreadable", why=str(cause), frames=frames)
            return Order("heartbeat")

    def handle(self, order: Order) -> None:
        """Answers a request; with `handler=ask` the answer is what the test says, however long that takes."""
        say("request", frames=order.body)
        if self.answers == "echo":
            self.send("final", address=order.address, body=order.body)
            return
        answer = self.commands.get()
        for part in answer.get("partials", []):
            self.send("partial", address=order.address, body=decode(part))
        if answer["reply"] is not None:
            self.send("final", address=order.address, body=decode(answer["reply"]))
        say("replied")


class GuideWorker(Worker):
    """As in the guide to ZeroMQ: each quiet interval takes a life, and without any it waits and begins anew."""

    def converse(self) -> str:
        lives, beat_at = self.liveness, time.monotonic() + self.interval
        while True:
            if self.socket.poll(round(self.interval * 1000)):
                lives = self.liveness
                order = self.receive()
                if order.command == "disconnect":
                    return "disconnect"
                if order.command == "request":
                    self.handle(order)
            else:
                lives -= 1
                if lives == 0:
                    return "silence"
            if time.monotonic() > beat_at:
                self.send("heartbeat")
                beat_at = time.monotonic() + self.interval


class DomogikWorker(Worker):
    """As domogik-mq's: a tick each second takes a life and sends a heartbeat; with less than none it gives up.

    A tick that was due while the handler ran comes right after it, and only once. A DISCONNECT takes all lives.
    """

    interval_ms, liveness, reconnect_ms = 1000, 3, 1000

    def converse(self) -> str:
        lives, due, disconnected = self.liveness, time.monotonic() + self.interval, False
        while True:
            if self.socket.poll(max(0, math.ceil((due - time.monotonic()) * 1000))):
                order = self.receive()
                lives, disconnected = self.liveness, order.command == "disconnect"
                if disconnected:
                    lives = 0
                if order.command == "request":
                    self.handle_action(order)
            if time.monotonic() >= due:
                lives -= 1
                self.send("heartbeat")
                if lives < 0:
                    return "disconnect" if disconnected else "silence"
                due += math.ceil((time.monotonic() - due) / self.interval) * self.interval

    def handle_action(self, order: Order) -> None:
        """Action and JSON, and whatever comes behind them is not looked at; an exception leaves the request unanswered."""
        try:
            action, data = order.body[0].decode(), json.loads(order.body[1].decode())
        except (IndexError, ValueError) as cause:
            say("unreadable", why=str(cause), frames=order.body)
            return
        say("action", action=action, data=data)
        self.handle(order)


def run(wire: str, settings: Settings) -> None:
    kind = DomogikWorker if wire == "domogik" else GuideWorker
    kind(wire, settings).run()
