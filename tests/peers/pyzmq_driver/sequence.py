"""Numbered messages: how they are made, and how what arrives is judged."""

from __future__ import annotations

from typing import Any


class SequenceCheck:
    """Judges numbers as they arrive: in order, none left out, none twice."""

    def __init__(self, start: int, count: int, any_order: bool, allow_gaps: bool) -> None:
        self.start = start
        self.count = count
        self.any_order = any_order
        self.allow_gaps = allow_gaps
        self.seen = bytearray(count)
        self.received = 0
        self.distinct = 0
        self.doubled = 0
        self.next = 0
        self.first_bad: dict[str, Any] | None = None

    def done(self) -> bool:
        return self.distinct == self.count if self.any_order else self.next == self.count

    def feed(self, number: int) -> None:
        offset = number - self.start
        if not 0 <= offset < self.count:
            self.bad("stray", number)
        elif self.seen[offset]:
            self.doubled += 1
            self.bad("double", number)
        else:
            if offset > self.next and not (self.any_order or self.allow_gaps):
                self.bad("gap", number)
            if offset < self.next and not self.any_order:
                self.bad("late", number)
            self.seen[offset] = 1
            self.distinct += 1
            self.next = max(self.next, offset + 1)
        self.received += 1

    def bad(self, problem: str, got: int | None) -> None:
        """Notes what is wrong with the message at hand, unless an earlier one was wrong already."""
        if self.first_bad is None:
            self.first_bad = {
                "position": self.received,
                "problem": problem,
                "expected": self.start + self.next,
                "got": got,
            }

    def facts(self) -> dict[str, Any]:
        return {
            "received": self.received,
            "missing": self.count - self.distinct,
            "doubled": self.doubled,
            "first_bad": self.first_bad,
        }


def fill(length: int) -> bytes:
    """`length` octets, octet i being i mod 251: a prime, so that a shifted block shows."""
    return (FILL_PERIOD * (length // len(FILL_PERIOD) + 1))[:length]


NUMBER_OCTETS = 8
LONGEST_SEQUENCE = 100_000_000
FILL_PERIOD = bytes(range(251))
