"""Why a command was not carried out, in the words of its answer."""

from __future__ import annotations

import errno
import traceback
from typing import Any, Callable

import zmq


class Refused(Exception):
    """A command that cannot be answered with ok:true; `facts` become fields of the answer."""

    def __init__(self, code: str, error: str, **facts: Any) -> None:
        super().__init__(error)
        self.code = code
        self.facts = facts

    def answer(self) -> dict[str, Any]:
        return {"ok": False, "error": str(self), "code": self.code, **self.facts}


def answer_of(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ok": True, **run()}
    except Refused as refusal:
        return refusal.answer()
    except zmq.ZMQError as error:
        return Refused(errno_name(error.errno), str(error)).answer()
    except Exception as defect:
        traceback.print_exc()
        return Refused("defect", repr(defect)).answer()


def errno_name(number: int) -> str:
    try:
        return zmq.Errno(number).name
    except ValueError:
        return errno.errorcode.get(number, str(number))
