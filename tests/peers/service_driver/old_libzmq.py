"""libzmq of a chosen file by ctypes, under the few names of pyzmq that the roles use.

For the libzmq 4.1.6 that old Python installations have, inside pyzmq 16: it speaks ZMTP 3.0. Its wheel holds it as
`zmq/.libs/libzmq-*.so*`, and no Python of today can load the rest of that wheel.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Union

DEALER, REQ, ROUTER, PUB, SUB, XPUB, XSUB = 5, 3, 6, 1, 2, 9, 10
LINGER, SUBSCRIBE, LAST_ENDPOINT, ROUTER_MANDATORY = 17, 6, 32, 33

_RCVMORE, _DONTWAIT, _SNDMORE, _POLLIN = 13, 1, 2, 1


class _Item(ctypes.Structure):
    _fields_ = [
        ("socket", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("events", ctypes.c_short),
        ("revents", ctypes.c_short),
    ]


class Context:
    """One libzmq and its I/O thread."""

    def __init__(self, path: str) -> None:
        self._libzmq = ctypes.CDLL(path, use_errno=True)
        for name in ("zmq_ctx_new", "zmq_socket", "zmq_msg_data"):
            getattr(self._libzmq, name).restype = ctypes.c_void_p
        self._libzmq.zmq_msg_size.restype = ctypes.c_size_t
        self._context = ctypes.c_void_p(self._libzmq.zmq_ctx_new())

    def version(self) -> str:
        numbers = [ctypes.c_int() for _ in range(3)]
        self._libzmq.zmq_version(*map(ctypes.byref, numbers))
        return ".".join(str(number.value) for number in numbers)

    def socket(self, kind: int) -> Socket:
        return Socket(self._libzmq, ctypes.c_void_p(self._libzmq.zmq_socket(self._context, kind)))


class Socket:
    """What pyzmq's has, as far as it is used here."""

    def __init__(self, libzmq: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._libzmq = libzmq
        self._handle = handle

    def setsockopt(self, option: int, value: Union[int, bytes]) -> None:
        octets = value if isinstance(value, bytes) else value.to_bytes(4, "little", signed=True)
        self._check(self._libzmq.zmq_setsockopt(self._handle, option, octets, ctypes.c_size_t(len(octets))))

    def getsockopt(self, option: int) -> bytes:
        room, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
        self._check(self._libzmq.zmq_getsockopt(self._handle, option, room, ctypes.byref(size)))
        return room.raw[: size.value]

    def connect(self, endpoint: str) -> None:
        self._check(self._libzmq.zmq_connect(self._handle, endpoint.encode()))

    def bind(self, endpoint: str) -> None:
        self._check(self._libzmq.zmq_bind(self._handle, endpoint.encode()))

    def send_multipart(self, frames: list[bytes]) -> None:
        for frame in frames[:-1]:
            self._send(frame, _SNDMORE)
        self._send(frames[-1], 0)

    def recv_multipart(self) -> list[bytes]:
        frames = [self._receive()]
        while int.from_bytes(self.getsockopt(_RCVMORE), "little"):
            frames.append(self._receive())
        return frames

    def poll(self, timeout: int) -> int:
        item = _Item(self._handle, 0, _POLLIN, 0)
        return self._check(self._libzmq.zmq_poll(ctypes.byref(item), 1, ctypes.c_long(timeout)))

    def close(self, linger: int = 0) -> None:
        self.setsockopt(LINGER, linger)
        self._check(self._libzmq.zmq_close(self._handle))

    def _send(self, frame: bytes, flags: int) -> None:
        self._check(self._libzmq.zmq_send(self._handle, frame, ctypes.c_size_t(len(frame)), flags))

    def _receive(self) -> bytes:
        message = ctypes.create_string_buffer(64)
        self._check(self._libzmq.zmq_msg_init(message))
        self._check(self._libzmq.zmq_msg_recv(message, self._handle, 0))
        frame = ctypes.string_at(self._libzmq.zmq_msg_data(message), self._libzmq.zmq_msg_size(message))
        self._check(self._libzmq.zmq_msg_close(message))
        return frame

    def _check(self, outcome: int) -> int:
        if outcome < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number) if number < errno.ENOTSUP * 2 else f"libzmq's {number}")
        return outcome
