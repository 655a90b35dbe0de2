"""The driver against itself: every operation once, and every verdict of the verifiers both ways.

Run as `python3 tests/peers/pyzmq_peer.py --self-test`; it takes a few seconds, uses tcp port 0 on
127.0.0.1 and ipc paths in a temporary directory, and prints one line per check.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, Callable

from . import operations  # noqa: F401  (fills the table of operations)
from .driver import Driver
from .fields import encoded, octets
from .sequence import SequenceCheck, fill

PROGRAM = pathlib.Path(__file__).parent.parent / "pyzmq_peer.py"
MESSAGES = 20_000


def run() -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        endpoints = {"tcp": "tcp://127.0.0.1:0", "ipc": f"ipc://{pathlib.Path(folder) / 'peer'}"}
        checks = [
            (f"{check.__name__} over {transport}", lambda check=check, endpoint=endpoint: on_driver(check, endpoint))
            for check in ON_TRANSPORT
            for transport, endpoint in endpoints.items()
        ]
        checks += [(check.__name__, check) for check in ALONE]
        for name, check in checks:
            try:
                check()
                print(f"ok      {name.replace('_', ' ')}", flush=True)
            except Exception as failure:
                failed += 1
                print(f"FAILED  {name.replace('_', ' ')}: {failure}", flush=True)
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed else 0


class Steered:
    """A driver with the expectation that commands succeed, unless a code is expected."""

    def __init__(self) -> None:
        self.driver = Driver()

    def __call__(self, op: str, expect: str | None = None, **fields: Any) -> dict[str, Any]:
        answer = self.driver.handle({"op": op, **fields})
        json.dumps(answer)
        got = None if answer["ok"] else answer["code"]
        if got != expect:
            raise AssertionError(f"{op}: expected {expect or 'ok'}, got {answer}")
        return answer

    def pair(self, binding: str, connecting: str, endpoint: str, **options: Any) -> None:
        """Opens `b`, bound, and `c`, connected to it, and waits until both have shaken hands."""
        self("open", id="b", type=binding, options=options)
        self("open", id="c", type=connecting, options=options)
        bound = self("bind", id="b", endpoint=endpoint)["last_endpoint"]
        self("connect", id="c", endpoint=bound)
        self("monitor_wait", id="b", event="HANDSHAKE_SUCCEEDED")
        self("monitor_wait", id="c", event="HANDSHAKE_SUCCEEDED")


def on_driver(check: Callable[[Steered, str], None], endpoint: str) -> None:
    steered = Steered()
    try:
        check(steered, endpoint)
    finally:
        steered("quit")


def push_and_pull_a_sequence(do: Steered, endpoint: str) -> None:
    do.pair("PULL", "PUSH", endpoint)
    prefix = encoded([b"", b"p"])
    do("send_sequence", id="c", count=MESSAGES, start=7, size=100, prefix=prefix, background="s")
    do("send", id="c", frames=prefix, expect="busy")
    got = do("recv_sequence", id="b", count=MESSAGES, start=7, size=100, prefix=prefix)
    expect(got["received"], MESSAGES)
    expect(got["first_prefix"], prefix)
    expect(do("join", name="s")["sent"], MESSAGES)


def push_and_pull_with_faults(do: Steered, endpoint: str) -> None:
    do.pair("PULL", "PUSH", endpoint)
    for faulty, problem in [
        ([0, 2], "gap"),
        ([0, 0, 1, 2], "double"),
        ([5, 0, 1, 2], "stray"),
    ]:
        for number in faulty:
            do("send", id="c", frames=encoded([number.to_bytes(8, "big")]))
        got = do("recv_sequence", id="b", count=3, expect="mismatch")
        expect(got["first_bad"]["problem"], problem)
    do("send_sequence", id="c", count=1, size=9)
    expect(do("recv_sequence", id="b", count=1, size=10, expect="mismatch")["first_bad"]["problem"], "size")
    do("send", id="c", frames=encoded([bytes(9)]))
    expect(do("recv_sequence", id="b", count=1, expect="mismatch")["first_bad"]["problem"], "padding")
    do("send_sequence", id="c", count=1)
    wrong = do("recv_sequence", id="b", count=1, prefix=encoded([b"x"]), expect="mismatch")
    expect(wrong["first_bad"]["problem"], "prefix")
    do("send", id="c", frames=encoded([b"abc"]))
    do("send_sequence", id="c", count=1)
    expect(do("recv_sequence", id="b", count=1, expect="mismatch")["first_bad"]["problem"], "short")
    late = do("recv_sequence", id="b", count=1, timeout=20, expect="EAGAIN")
    expect((late["received"], late["missing"]), (0, 1))


def request_and_reply(do: Steered, endpoint: str) -> None:
    do.pair("REP", "REQ", endpoint)
    do("echo", id="b", count=200, background="e")
    expect(do("request_sequence", id="c", count=200, size=300)["replies"], 200)
    expect(do("join", name="e")["served"], 200)
    do("recv", id="c", expect="EFSM")


def dealer_and_router(do: Steered, endpoint: str) -> None:
    do.pair("ROUTER", "DEALER", endpoint, ROUTING_ID=encoded([b"BOB"])[0])
    do("echo", id="b", background="e")
    do("request_sequence", id="c", count=2000, size=256, prefix=[""], window=50)
    expect(do("stop", name="e")["served"], 2000)
    do("send_sequence", id="b", count=10, via=encoded([b"BOB"])[0], prefix=encoded([b"x"]))
    expect(do("recv_sequence", id="c", count=10)["first_prefix"], encoded([b"x"]))
    do("send", id="c", frames=encoded([b"wrong"]))
    do("recv", id="b")
    do("send", id="b", frames=encoded([b"BOB", b"wrong"]))
    bad = do("request_sequence", id="c", count=1, expect="mismatch")
    expect((bad["replies"], bad["first_bad"]["problem"]), (0, "reply"))
    do("set", id="b", options={"ROUTER_MANDATORY": 1})
    do("send", id="b", frames=encoded([b"nobody", b""]), expect="EHOSTUNREACH")


def publish_and_subscribe(do: Steered, endpoint: str) -> None:
    do("open", id="p", type="XPUB")
    do("open", id="s", type="SUB")
    bound = do("bind", id="p", endpoint=endpoint)["last_endpoint"]
    do("connect", id="s", endpoint=bound)
    topic = encoded([b"A"])[0]
    do("subscribe", id="s", topic=topic)
    expect(do("recv", id="p")["frames"], encoded([b"\1A"]))
    do("send_sequence", id="p", count=100, prefix=[topic])
    do("recv_sequence", id="s", count=100, prefix=[topic])
    do("unsubscribe", id="s", topic=topic)
    expect(do("recv", id="p")["frames"], encoded([b"\0A"]))


def a_beacon_finds_the_subscriber(do: Steered, endpoint: str) -> None:
    do("open", id="p", type="PUB")
    do("open", id="s", type="SUB")
    bound = do("bind", id="p", endpoint=endpoint)["last_endpoint"]
    do("connect", id="s", endpoint=bound)
    do("subscribe", id="s", topic="")
    beacon = encoded([b"beacon"])
    do("repeat", id="p", frames=beacon, background="b")
    expect(do("recv", id="s")["frames"], beacon)
    do("stop", name="b")
    do("send_sequence", id="p", count=500)
    do("recv_sequence", id="s", count=500, skip=beacon[0])


def a_bound_subscriber_subscribes_unasked(do: Steered, endpoint: str) -> None:
    do("open", id="s", type="SUB")
    do("open", id="p", type="XPUB")
    do("subscribe", id="s", topic="")
    bound = do("bind", id="s", endpoint=endpoint)["last_endpoint"]
    do("connect", id="p", endpoint=bound)
    expect(do("recv", id="p")["frames"], encoded([b"\1"]))


def pair_with_huge_and_empty_frames(do: Steered, endpoint: str) -> None:
    do.pair("PAIR", "PAIR", endpoint)
    sent = do("send_fill", id="c", length=10 * 1024 * 1024, prefix=["", encoded([b"x" * 255])[0]])
    frames = do("digest", id="b")["frames"]
    expect([frame["length"] for frame in frames], [0, 255, 10 * 1024 * 1024])
    expect(frames[2]["sha256"], sent["sha256"])
    expect(frames[2]["sha256"], hashlib.sha256(fill(10 * 1024 * 1024)).hexdigest())
    expect(do("poll", id="b", timeout=0)["ready"], False)
    expect(do("poll", id="b", events="out")["ready"], True)
    do("send", id="c", frames=[""], flags=["SNDMORE"])
    do("send", id="c", frames=encoded([b"end"]))
    expect(do("poll", id="b")["ready"], True)
    got = do("recv", id="b", metadata=["Socket-Type", "X-Absent"])
    expect(got["frames"], encoded([b"", b"end"]))
    expect(got["metadata"], {"Socket-Type": "PAIR", "X-Absent": None})
    do("recv", id="b", timeout=0, expect="EAGAIN")


def events_as_a_peer_leaves_and_returns(do: Steered, endpoint: str) -> None:
    do.pair("PULL", "PUSH", endpoint, RECONNECT_IVL=10)
    bound = octets(do("get", id="b", option="LAST_ENDPOINT")["value"]).rstrip(b"\0").decode()
    do("close", id="b", linger=0)
    gone = do("monitor_wait", id="c", event="DISCONNECTED")
    do("open", id="b", type="PULL")
    do("bind", id="b", endpoint=bound)
    back = do("monitor_wait", id="c", event="HANDSHAKE_SUCCEEDED", after=gone["seq"])
    expect(back["seq"] > gone["seq"], True)
    do("send_sequence", id="c", count=5)
    do("recv_sequence", id="b", count=5)
    expect("LISTENING" in [event["event"] for event in do("events", id="b")["events"]], True)
    do("monitor_wait", id="c", event="HANDSHAKE_FAILED_AUTH", timeout=0, expect="EAGAIN")


def sequences_are_judged() -> None:
    judged = SequenceCheck(0, 3, any_order=False, allow_gaps=False)
    for number in [1, 0, 2]:
        judged.feed(number)
    expect(judged.first_bad, {"position": 0, "problem": "gap", "expected": 0, "got": 1})
    judged = SequenceCheck(0, 4, any_order=False, allow_gaps=True)
    for number in [0, 2, 1, 3]:
        judged.feed(number)
    expect(judged.first_bad, {"position": 2, "problem": "late", "expected": 3, "got": 1})
    judged = SequenceCheck(10, 4, any_order=False, allow_gaps=True)
    for number in [10, 13]:
        judged.feed(number)
    expect((judged.done(), judged.first_bad, judged.facts()["missing"]), (True, None, 2))
    judged = SequenceCheck(0, 3, any_order=True, allow_gaps=False)
    for number in [2, 0]:
        judged.feed(number)
    expect(judged.done(), False)
    judged.feed(1)
    expect((judged.done(), judged.first_bad), (True, None))
    judged.feed(1)
    expect((judged.doubled, judged.first_bad["problem"]), (1, "double"))


def wrong_commands_are_named() -> None:
    do = Steered()
    expect("'recv'" in do("recvv", expect="usage")["error"], True)
    expect("'DEALER'" in do("open", id="a", type="DEALR", expect="usage")["error"], True)
    expect("'SNDHWM'" in do("open", id="a", type="PUSH", options={"SNDHWN": 1}, expect="usage")["error"], True)
    do("open", id="a", type="PUSH", options={"ROUTING_ID": "not base64"}, expect="usage")
    do("open", id="a", type="PUSH")
    do("open", id="a", type="PUSH", expect="usage")
    expect("'frames'" in do("send", id="a", frame=[""], expect="usage")["error"], True)
    expect("'timeout'" in do("send", id="a", frames=[""], timeut=1, expect="usage")["error"], True)
    do("send", id="b", frames=[""], expect="usage")
    do("bind", id="a", endpoint="nonsense", expect="EINVAL")
    do("bind", id="a", endpoint="tcp://127.0.0.1:0", background="x", expect="usage")
    do("send_sequence", id="a", count=1, size=7, expect="usage")
    do("join", name="nobody", expect="usage")
    do("send_sequence", id="a", count=1, background="x", timeout=60_000)
    do("join", name="x", timeout=0, expect="EAGAIN")
    do("stop", name="x", expect="stopped")
    do("send", id="a", frames=[""], flags=["DONTWAIT"], expect="EAGAIN")
    do("send", id="a", frames=[""], timeout=10, expect="EAGAIN")
    do("quit")


def the_process_answers_in_order_and_ends_with_stdin() -> None:
    commands = ["not json", '{"op":"open","id":"a","type":"PULL"}', '{"op":"recv","id":"a","timeout":30}']
    ended = subprocess.run(
        [sys.executable, PROGRAM],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    expect([answer.get("code") for answer in answers], [None, "usage", None, "EAGAIN"])
    expect(sorted(answers[0]), ["draft", "libzmq", "ok", "pid", "pyzmq"])


def a_waiting_process_ends_with_stdin_too() -> None:
    peer = subprocess.Popen(
        [sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    peer.stdin.write('{"op":"open","id":"a","type":"PULL"}\n{"op":"recv","id":"a","timeout":3600000}\n')
    peer.stdin.close()
    try:
        expect(peer.wait(30), 1)
    finally:
        peer.kill()


def expect(got: Any, wanted: Any) -> None:
    if got != wanted:
        raise AssertionError(f"expected {wanted!r}, got {got!r}")


ON_TRANSPORT = [
    push_and_pull_a_sequence,
    push_and_pull_with_faults,
    request_and_reply,
    dealer_and_router,
    publish_and_subscribe,
    a_beacon_finds_the_subscriber,
    a_bound_subscriber_subscribes_unasked,
    pair_with_huge_and_empty_frames,
    events_as_a_peer_leaves_and_returns,
]

ALONE = [
    sequences_are_judged,
    wrong_commands_are_named,
    the_process_answers_in_order_and_ends_with_stdin,
    a_waiting_process_ends_with_stdin_too,
]
