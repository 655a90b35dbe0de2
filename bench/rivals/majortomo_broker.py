#!/usr/bin/env python3
"""The broker of the package majortomo, in its role of `cargo xtask bench service`.

    majortomo_broker.py service-broker endpoint=tcp://127.0.0.1:* packages=FOLDER

Runs as its own program runs it, without a log. It prints `listening ENDPOINT`, answers each line of stdin with its
memory and how many requests wait, and prints one line of JSON when stdin closes. FOLDER has majortomo, pyzmq and what
they need.
"""

import json
import os
import sys
import threading
import time


def main() -> None:
    role, *words = sys.argv[1:]
    settings = dict(word.split("=", 1) for word in words)
    if role != "service-broker":
        print(f"unsupported {role}", file=sys.stderr)
        sys.exit(3)
    sys.path.insert(0, settings["packages"])

    import zmq
    from majortomo.broker import Broker

    class AnnouncedBroker(Broker):
        """Says where it is bound, for which it has no way itself."""

        def bind(self) -> None:
            super().bind()
            say("listening " + self._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())

        def waiting(self) -> int:
            return sum(service.queued_requests for service in list(self._services._services.values()))

    broker = AnnouncedBroker(settings["endpoint"])
    began = time.process_time()

    def attend() -> None:
        for _ in sys.stdin:
            say(json.dumps({"rss_kib": resident_kib(), "waiting": broker.waiting()}))
        say(json.dumps({"role": role, "cpu_seconds": time.process_time() - began}))
        os._exit(0)

    threading.Thread(target=attend, daemon=True).start()
    broker.run()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def resident_kib() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


main()
