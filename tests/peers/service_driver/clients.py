"""Clients: one request at a time, each ending in a final reply or in silence."""

from __future__ import annotations

import time

from service_driver.process import Settings, commands, decode, say
from service_driver.wires import WIRES, Unreadable


class Client:
    """Sends what it is told; after silence it goes on with a new socket, as clients on REQ must."""

    def __init__(self, wire: str, settings: Settings) -> None:
        self.wire = WIRES[wire]
        self.endpoint = settings.text("endpoint")
        # domogik-mq and the guide's first client have a REQ; 0.2 cannot
        self.kind = settings.text("socket", "REQ" if wire in ("domogik", "mdp01") else "DEALER")
        self.make = settings.socket
        settings.finish()
        self.commands = commands()
        self.socket = None

    def run(self) -> None:
        say("started", libzmq=self.make.version)
        while True:
            command = self.commands.get()
            patience = command.get("patience_ms", 10_000) / 1000
            for _ in range(command.get("tries", 1)):
                if self.ask(command, time.monotonic() + patience):
                    break
            else:
                say("silence")

    def ask(self, command: dict, deadline: float) -> bool:
        """One request, and every part of its reply; false if the final one does not come by then."""
        if self.socket is None:
            self.socket = self.make(self.kind)
            self.socket.connect(self.endpoint)
        frames = self.wire.request(command["service"].encode(), decode(command["frames"]), command.get("timeout"))
        # The empty frame is REQ's own
        self.socket.send_multipart(frames[1:] if self.kind == "REQ" else frames)
        while self.socket.poll(max(0, round((deadline - time.monotonic()) * 1000))):
            received = self.socket.recv_multipart()
            received = [b"", *received] if self.kind == "REQ" else received
            try:
                reply = self.wire.reply(received)
            except Unreadable as cause:
                say("unreadable", why=str(cause), frames=received)
                continue
            say(reply.kind, service=reply.service, frames=reply.body, raw=received)
            if reply.kind == "final":
                return True
        self.socket.close(0)
        self.socket = None
        return False


def run(wire: str, settings: Settings) -> None:
    Client(wire, settings).run()
