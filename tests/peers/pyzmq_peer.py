#!/usr/bin/env python3
"""A real libzmq peer that a test steers: JSON commands on stdin, JSON answers on stdout.

One command per line, one answer per line, in order. Nothing here waits by sleeping, and every
operation that can wait has a deadline, so a test decides on answers and events alone.

The first line, before any command:
    {"ok":true,"pyzmq":"27.3.0","libzmq":"4.3.5","draft":false,"pid":4711}
or, where pyzmq is not installed, {"ok":false,"code":"missing",...} and exit code 3.

Answers are {"ok":true,...} or {"ok":false,"error":TEXT,"code":CODE,...}. CODE is
    usage      the command itself is wrong: unknown operation, field, socket, option, bad base64
    busy       the socket is held by a background operation; join or stop that one first
    mismatch   a verification failed; the answer's fields say where
    stopped    a background operation was ended by `stop` or `quit` before it was complete
    defect     the driver itself failed; the traceback is on stderr
    EAGAIN ... libzmq's own errno name; EAGAIN also stands for every deadline that has passed

Field kinds: octets are standard base64; `frames` is a list of base64 strings; times are
milliseconds; `timeout` is 5000 unless given and covers the whole operation. A field that an
operation does not know is refused. An optional field may be left out or null.

Sockets
    open          id type [options]           options by libzmq name: whole numbers, or base64 for
                                              octet-valued ones: {"SNDHWM":0,"ROUTING_ID":"Qk9C"}
    set           id options                  the same, at any time
    get           id option                   -> value (number or base64)
    bind          id endpoint                 -> last_endpoint
    connect       id endpoint                 -> last_endpoint
    unbind        id endpoint
    disconnect    id endpoint
    subscribe     id topic                    topic in base64, "" for everything
    unsubscribe   id topic
    close         id [linger]                 libzmq goes on flushing for `linger` (default: as set)

Single messages
    send          id frames [flags timeout]   flags: list out of "DONTWAIT", "SNDMORE"
    send_fill     id length [via prefix timeout]
                                              last frame: octet i is i mod 251 -> length sha256
    recv          id [skip metadata timeout]  -> frames; with metadata: [names], also metadata: {name: text or null}
    digest        id [skip timeout]           -> frames: [{"length":n,"sha256":hex}, ...]
    poll          id [events timeout]         events "in" (default) or "out" -> ready: true or false

Numbered messages: the last frame is an 8-octet big-endian number, then octet i is i mod 251 up to
`size` (8 unless given, at least 8). `via` is one frame, a routing id, put before the `prefix` frames.
    send_sequence    id count [start size via prefix timeout]
                                              -> sent elapsed
    recv_sequence    id count [start size prefix skip any_order allow_gaps timeout]
                                              -> received missing doubled elapsed first_bad first_prefix
    request_sequence id count [start size via prefix window timeout]
                                              every reply must equal its request, in order; `window`
                                              requests in flight (1 unless given; only a DEALER or
                                              ROUTER takes more) -> replies elapsed first_bad
    echo             id [count timeout]       sends each received message back as it came; without
                                              count until stopped -> served
    repeat           id frames [interval timeout]
                                              sends the message again every `interval` (20) until
                                              stopped: a beacon for subscribers not seen otherwise -> sent
recv_sequence judges order, gaps and doubles. It ends when the last number has come (with any_order:
when all have). `size` and `prefix`, when given, are checked in each message; otherwise any size and
any leading frames will do. `skip` (recv, digest, recv_sequence) passes over messages whose last
frame is exactly these octets, such as a beacon. first_bad is null or
{"position":n,"problem":"gap|double|late|stray|size|padding|prefix|short","expected":n,"got":n or null}.
first_prefix has the leading frames of the first message (a ROUTER learns a routing id from it).

Events: libzmq's socket monitor is on from `open`.
    monitor_wait  id event [after timeout]    takes the oldest event of that name not yet taken and,
                                              with `after`, of a later seq -> event value endpoint seq
    events        id                          every event kept so far, taken or not -> events dropped

Background: any operation that takes a timeout, except monitor_wait, may carry "background":NAME. It
is answered at once with {"ok":true,"background":NAME} and holds its socket until joined or stopped.
    join          name [timeout]              -> the operation's own answer; EAGAIN if still running
    stop          name [timeout]              ends it early -> its answer (echo and repeat: ok:true)
    quit          [linger timeout]            stops background operations, closes every socket
                                              (linger 0 unless given), waits for libzmq, answers, exits

Authentication: pyzmq's own ThreadAuthenticator (zmq.auth), for every PLAIN and CURVE server of this process. A handler
of the test's own is a REP opened here and bound to inproc://zeromq.zap.01.
    authenticate  [deny users keys]           deny: addresses; users: "name:password"; keys: Z85, all without it
    stop_authenticating

libzmq acts on new connections only while its application calls in (a bound SUB sends its subscriptions
then); the driver does that for every socket not held, between commands and while it waits.

When stdin closes, commands already read have CLOSING_SECONDS to finish; then the process exits.
`--self-test` runs the driver against itself and prints one line per check.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from typing import Any

try:
    import zmq
except ImportError as missing:
    print(
        json.dumps(
            {
                "ok": False,
                "error": f"{missing}; install with: pip install -r tests/peers/requirements.txt",
                "code": "missing",
            }
        ),
        flush=True,
    )
    sys.exit(3)


import pyzmq_driver.operations  # noqa: F401  (fills the table of operations)
from pyzmq_driver.deadline import STOP_CHECK_MS
from pyzmq_driver.driver import Driver
from pyzmq_driver.refusal import Refused


def main() -> int:
    if sys.argv[1:] == ["--self-test"]:
        from pyzmq_driver import self_test

        return self_test.run()
    if sys.argv[1:]:
        print(f"{sys.argv[0]}: no argument {sys.argv[1]!r}; --self-test is the only one", file=sys.stderr)
        return 2
    serve()
    return 0


def serve() -> None:
    """Answers commands until `quit` or the end of stdin; leaves without waiting for threads."""
    driver = Driver()
    answer(
        {
            "ok": True,
            "pyzmq": zmq.pyzmq_version(),
            "libzmq": zmq.zmq_version(),
            "draft": zmq.has("draft"),
            "pid": os.getpid(),
        }
    )
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=read_lines, args=(lines,), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=STOP_CHECK_MS / 1000)
        except queue.Empty:
            driver.attend()
            continue
        if line is None:
            leave(0)
        try:
            command = json.loads(line)
        except ValueError as cause:
            answer(Refused("usage", f"not a line of JSON: {cause}").answer())
            continue
        last = driver.handle(command)
        answer(last)
        if driver.finished:
            leave(0 if last["ok"] else 1)


def read_lines(lines: queue.SimpleQueue[bytes | None]) -> None:
    """Passes stdin on; once it is closed, commands already read have a bounded time left."""
    for line in sys.stdin.buffer:
        lines.put(line)
    lines.put(None)
    time.sleep(CLOSING_SECONDS)
    leave(1)


def answer(fields: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(fields, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        leave(1)


def leave(code: int) -> None:
    """Ends the process at once; a context with unsent messages would wait for them."""
    os._exit(code)


CLOSING_SECONDS = 5


if __name__ == "__main__":
    sys.exit(main())
