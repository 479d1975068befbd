"""What stands around the texts of a record in a Nova line."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from nova_dpo_sdk.datasets._lane_said import Roles, Said, Text
from nova_dpo_sdk.datasets._mend import ROLES
from nova_dpo_sdk.datasets._rules import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD = b'{"schemaVersion":"%b",' % SCHEMA_VERSION.encode()
_TURNS = {
    "user": b'{"role":"user","content":[{"text":',
    "assistant": b'{"role":"assistant","content":[{"text":',
}
_PAIR = (
    b'{"role":"assistant","candidates":[{"content":[{"text":',
    b'}],"preferenceLabel":"preferred"},{"content":[{"text":',
    b'}],"preferenceLabel":"non-preferred"}]}]}\n',
)
_ANSWER = (_TURNS["assistant"], b"}]}]}\n")
NEXT = b"}]},"
_MOST = 4096
"""Orders of turns that are remembered."""


class Frames(dict[Roles, "list[Text]"]):
    """What stands around the texts of a record, with a gap after each piece; empty when its turns need mending.

    The end of the record before is part of the first piece.
    """

    def __init__(self, *, pair: bool, bare: bool) -> None:
        super().__init__()
        self._opening, *between, end = _PAIR if pair else _ANSWER
        self._between: Sequence[bytes] = between
        self._quote = b'"' if bare else b""
        self.end = self._quote + end

    def __missing__(self, roles: Roles) -> list[Text]:
        if len(self) >= _MOST:
            self.clear()
        frame = self[roles] = [part for piece in self._pieces(roles) for part in (piece + self._quote, b"")]
        return frame

    def _pieces(self, roles: Roles) -> list[bytes]:
        turns = [ROLES[role] for role in roles]
        system = turns[:1] == ["system"]
        talk = turns[system:]
        if len(talk) % 2 == 0 or talk != (["user", "assistant"] * len(talk))[: len(talk)]:
            return []
        first, *others = [_TURNS[turn] for turn in talk]
        first = b'"messages":[' + first
        head = [_HEAD + b'"system":[{"text":', b"}]," + first] if system else [_HEAD + first]
        pieces = [*head, *(NEXT + other for other in others), NEXT + self._opening, *self._between]
        return [self.end + pieces[0], *(self._quote + piece for piece in pieces[1:])]

    def around(self, said: Said) -> bytes:
        """The lines of records, each with its newline.

        Raises:
            ValueError: One of them has no frame, so that there are more texts than gaps.
        """
        if not said.orders:
            return b""
        parts = self[said.orders[0]] * len(said.orders) if said.is_even else self._each(said.orders)
        parts[1::2] = said.texts
        parts[0] = parts[0][len(self.end) :]
        parts.append(self.end)
        return b"".join(parts)

    def _each(self, orders: list[Roles]) -> list[Text]:
        return list(chain.from_iterable(map(self.__getitem__, orders)))
