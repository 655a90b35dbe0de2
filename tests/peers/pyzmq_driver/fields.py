"""How each kind of command field is read; a ValueError says what was wanted instead."""

from __future__ import annotations

import base64
import binascii
import difflib
from typing import Any

import zmq

from .sequence import LONGEST_SEQUENCE, NUMBER_OCTETS


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is wanted")
    return value


def whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a whole number, not below 0, is wanted")
    return value


def linger_time(value: Any) -> int:
    if value == -1:
        return -1
    return whole(value)


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")
    return value


def octets(value: Any) -> bytes:
    try:
        return base64.b64decode(text(value), validate=True)
    except binascii.Error as cause:
        raise ValueError(f"base64 is wanted: {cause}") from cause


def frame_list(value: Any) -> list[bytes]:
    if not isinstance(value, list):
        raise ValueError("a list of base64 strings is wanted")
    return [octets(frame) for frame in value]


def message_frames(value: Any) -> list[bytes]:
    frames = frame_list(value)
    if not frames:
        raise ValueError("at least one frame is wanted")
    return frames


def names(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("a list of strings is wanted")
    return [text(name) for name in value]


def sequence_count(value: Any) -> int:
    if not 1 <= whole(value) <= LONGEST_SEQUENCE:
        raise ValueError(f"1 to {LONGEST_SEQUENCE} is wanted")
    return value


def sequence_size(value: Any) -> int:
    if whole(value) < NUMBER_OCTETS:
        raise ValueError(f"at least {NUMBER_OCTETS} is wanted, room for the number")
    return value


def option_values(value: Any) -> list[tuple[zmq.SocketOption, Any]]:
    if not isinstance(value, dict):
        raise ValueError("an object of option names and values is wanted")
    parsed = []
    for name, raw in value.items():
        option = option_named(name)
        if octet_valued(option):
            parsed.append((option, octets(raw)))
        elif isinstance(raw, int):
            parsed.append((option, int(raw)))
        else:
            raise ValueError(f"option {name} wants a whole number")
    return parsed


def option_named(name: Any) -> zmq.SocketOption:
    try:
        return zmq.SocketOption[text(name)]
    except KeyError:
        raise ValueError(f"no socket option {name!r}{nearest(name, [o.name for o in zmq.SocketOption])}") from None


def octet_valued(option: zmq.SocketOption) -> bool:
    # pyzmq keeps the kind of each option under a private name; requirements.txt pins the version.
    return option._opt_type.name == "bytes"


def type_named(name: Any) -> zmq.SocketType:
    try:
        return zmq.SocketType[text(name)]
    except KeyError:
        raise ValueError(f"no socket type {name!r}{nearest(name, [t.name for t in zmq.SocketType])}") from None


def event_named(name: Any) -> str:
    known = [event.name for event in zmq.Event]
    if text(name) not in known:
        raise ValueError(f"no monitor event {name!r}{nearest(name, known)}")
    return name


def nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def send_flags(value: Any) -> int:
    flags = 0
    for name in names(value):
        if name not in ("DONTWAIT", "SNDMORE"):
            raise ValueError(f"no flag {name!r}; DONTWAIT and SNDMORE are known")
        flags |= zmq.Flag[name]
    return flags


def poll_events(value: Any) -> int:
    if value not in ("in", "out"):
        raise ValueError("'in' or 'out' is wanted")
    return zmq.POLLIN if value == "in" else zmq.POLLOUT


def window_size(value: Any) -> int:
    if whole(value) == 0:
        raise ValueError("at least 1 is wanted")
    return value


def encoded(frames: list[bytes]) -> list[str]:
    return [base64.b64encode(frame).decode() for frame in frames]
