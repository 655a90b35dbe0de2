"""A small broker of each wire, for clients and workers of ours: least recently used, in order of arrival."""

from __future__ import annotations

import collections
import time
from typing import Any, Union

from service_driver.process import Settings, commands, say
from service_driver.wires import WIRES, Report, Request, Unreadable


class WorkerAtBroker:
    """What the broker knows of one worker."""

    def __init__(self, service: bytes, lives: int) -> None:
        self.service = service
        self.lives = lives
        self.locked_until = 0.0


class Broker:
    """Keeps a queue of requests and one of idle workers for each service."""

    def __init__(self, wire: str, settings: Settings) -> None:
        self.wire = WIRES[wire]
        self.is_domogik = wire == "domogik"
        self.interval = settings.seconds("interval_ms", 1000)
        self.liveness = 5
        self.make = settings.socket
        self.socket = self.make("ROUTER")
        self.socket.bind(settings.text("endpoint", "tcp://127.0.0.1:*"))
        settings.finish()
        self.commands = commands()
        self.workers: dict[bytes, WorkerAtBroker] = {}
        self.idle: dict[bytes, collections.deque[bytes]] = collections.defaultdict(collections.deque)
        self.waiting: dict[bytes, collections.deque[tuple[bytes, Request]]] = collections.defaultdict(collections.deque)

    def run(self) -> None:
        say("listening", libzmq=self.make.version, endpoint=self.make.bound_to(self.socket))
        due = time.monotonic() + self.interval
        while True:
            if self.socket.poll(max(0, round((due - time.monotonic()) * 1000))):
                peer, *frames = self.socket.recv_multipart()
                try:
                    self.take(peer, self.wire.incoming(frames))
                except Unreadable as cause:
                    say("unreadable", why=str(cause), frames=frames)
            if time.monotonic() >= due:
                self.beat()
                due = time.monotonic() + self.interval
            # `disconnect` is the one command there is: to every worker
            if not self.commands.empty():
                self.commands.get()
                for peer in list(self.workers):
                    self.socket.send_multipart([peer, *self.wire.to_worker("disconnect")])
                    self.forget(peer, "disconnected")

    def take(self, peer: bytes, arrived: Union[Request, Report]) -> None:
        if isinstance(arrived, Request):
            self.take_request(peer, arrived)
            return
        worker = self.workers.get(peer)
        # In Domogik's, a heartbeat alone shows that a worker lives
        if worker and (arrived.command == "heartbeat" or not self.is_domogik):
            worker.lives = self.liveness
        if arrived.command == "ready" and worker is None:
            self.workers[peer] = WorkerAtBroker(arrived.service, self.liveness)
            self.idle[arrived.service].append(peer)
            say("came", service=arrived.service)
            self.dispatch(arrived.service)
        elif arrived.command in ("partial", "final") and worker:
            reply = self.wire.to_client(arrived.command, worker.service, arrived.body)
            self.socket.send_multipart([arrived.address, *reply])
            if arrived.command == "final":
                worker.locked_until = 0.0
                self.idle[worker.service].append(peer)
                self.dispatch(worker.service)
        elif arrived.command == "disconnect" and worker:
            self.forget(peer, "went")

    def take_request(self, peer: bytes, request: Request) -> None:
        if request.service == b"mmi.service":
            known = any(worker.service == request.body[0] for worker in self.workers.values())
            reply = self.wire.to_client("final", request.service, [b"200" if known else b"404"])
            self.socket.send_multipart([peer, *reply])
            return
        self.waiting[request.service].append((peer, request))
        self.dispatch(request.service)

    def dispatch(self, service: bytes) -> None:
        while self.idle[service] and self.waiting[service]:
            worker, (client, request) = self.idle[service].popleft(), self.waiting[service].popleft()
            if self.is_domogik and request.timeout is not None:
                self.workers[worker].locked_until = time.monotonic() + request.timeout
            self.socket.send_multipart([worker, *self.wire.to_worker("request", client, request.body)])

    def beat(self) -> None:
        now = time.monotonic()
        for peer, worker in list(self.workers.items()):
            if now < worker.locked_until:
                continue
            worker.lives -= 1
            if worker.lives <= 0:
                self.forget(peer, "died")
                continue
            self.socket.send_multipart([peer, *self.wire.to_worker("heartbeat")])

    def forget(self, peer: bytes, how: str) -> None:
        worker: Any = self.workers.pop(peer)
        self.idle[worker.service] = collections.deque(one for one in self.idle[worker.service] if one != peer)
        say(how, service=worker.service)


def run(wire: str, settings: Settings) -> None:
    Broker(wire, settings).run()
