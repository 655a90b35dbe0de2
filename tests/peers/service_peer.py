#!/usr/bin/env python3
"""One program of a service that a test steers: lines of JSON on stdin, lines of JSON on stdout.

    service_peer.py client WIRE endpoint=… [socket=REQ|DEALER]
    service_peer.py worker WIRE endpoint=… service=… [handler=ask|echo] [interval_ms=…] [reconnect_ms=…]
    service_peer.py broker WIRE [endpoint=…] [interval_ms=…]
    service_peer.py publish endpoint=…
    service_peer.py subscribe endpoint=… [filter=…]…
    service_peer.py forward
    service_peer.py majortomo-client endpoint=…
    service_peer.py majortomo-worker endpoint=… service=… [handler=ask|echo] [interval_ms=…]
    service_peer.py majortomo-broker endpoint=… [interval_ms=…]

WIRE is mdp01 (RFC 7, with the timing of the guide's worker), domogik (domogik-mq's frames and timing), mdp02 (RFC 18)
or zproto (zeromq/majordomo's 0.2). The last three roles are the package majortomo itself. All but those may have
libzmq=FILE, a libzmq to use in place of pyzmq's.

What it says; octets are base64:
    started, listening                     it is there; libzmq's version, and endpoint, or pub and sub
    ready, gone                            a worker: READY is sent; its socket is given up, and why
    action, request, replied               a worker: the handler begins (action and data, or frames); it is done
    partial, final, silence                a client: parts of a reply (service, frames, and the raw message); nothing came
    came, went, died, disconnected         a broker, of its workers
    event, published                       id, category and content
    unreadable                             what came is not of this wire, and why

What it takes:
    client         {"service":TEXT,"frames":[…],"timeout":SECONDS or null,"patience_ms":…,"tries":…}
    worker         {"reply":[…] or null,"partials":[[…]…]}, once for each request that its handler has
    broker         {}: sends DISCONNECT to every worker
    publish        {"category":TEXT,"content":JSON,"timestamp":TEXT,"beacon":true or false}

A handler holds up the whole worker until it is told its answer: no heartbeat leaves and none is read. The process ends
with its stdin. Without pyzmq, or for the last three without majortomo, it says {"event":"missing",…} and exits with 3.
"""

from __future__ import annotations

import sys


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    role, words = sys.argv[1], sys.argv[2:]
    try:
        return start(role, words)
    except ImportError as cause:
        from service_driver.process import say

        say("missing", why=f"{cause}; install with: pip install -r tests/peers/requirements.txt")
        return 3


def start(role: str, words: list[str]) -> int:
    from service_driver.process import Settings

    if role in ("client", "worker", "broker") and words:
        from service_driver import brokers, clients, workers

        roles = {"client": clients.run, "worker": workers.run, "broker": brokers.run}
        roles[role](words[0], Settings(words[1:]))
        return 0
    if role in ("publish", "subscribe", "forward"):
        from service_driver import events

        getattr(events, role)(Settings(words))
        return 0
    if role.startswith("majortomo-"):
        from service_driver import with_majortomo

        with_majortomo.run(role.removeprefix("majortomo-"), Settings(words))
        return 0
    print(f"no role {role!r}; see the head of this file", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
