r"""Two transcripts in one text each become turns: texts such as `\n\nHuman: a\n\nAssistant: b`.

The transcripts of a block are searched for the names of the speakers in one go, and cut there.
"""

from __future__ import annotations

from itertools import accumulate, chain, compress, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING

from nova_dpo_sdk.datasets._lane_said import Roles, Said, Text, copies, spread
from nova_dpo_sdk.datasets._search import spotter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nova_dpo_sdk.datasets import _lane_shapes as shapes

_HUMAN_SAYS = b"\\n\\nHuman: "
_BEGIN = b'"' + _HUMAN_SAYS
_NEXT = b'"\n' + _BEGIN  # between two transcripts; never inside of what is JSON
_START = b"\0"
_SPEAKERS = (_NEXT, _HUMAN_SAYS, b"\\n\\nAssistant: ")
"""The number of a speaker stands for it; the first one is the human as well."""

_spots = spotter(_SPEAKERS)
_chosen = attrgetter("chosen")
_rejected = attrgetter("rejected")


def transcripts(records: list[shapes.Transcripts]) -> Said:
    """Two texts with the names of the speakers in them, which differ after the last name only.

    A name that stays in a text is a suspicion, and so is a text that is empty.
    """
    chosen: list[Text] = list(map(_chosen, records))
    rejected = copies(list(map(_rejected, records)))
    said = _cut(chosen, rejected)
    if said is not None:
        return said
    begun = [bytes(text).startswith(_BEGIN) for text in chosen]
    said = _cut(list(compress(chosen, begun)), list(compress(rejected, begun)))
    return said._replace(fits=spread(begun, said.fits)) if said else Said([False] * len(records), [], [])


def _cut(chosen: Sequence[Text], rejected: list[bytes]) -> Said | None:
    """The texts of transcripts; None if one of them does not begin with the human."""
    run = b"\n".join([b'"', *chosen, _BEGIN])
    names, starts, ends = zip(*_spots(run), strict=True)
    talks = bytes(names).split(_START)[1:-1]
    if len(talks) != len(chosen):
        return None
    pieces = [run[end:start] for end, start in zip(ends, starts[1:], strict=False)]
    stops = list(accumulate([len(talk) + 1 for talk in talks], initial=0))
    asked = [run[starts[stop] + 2 : ends[end - 1]] for stop, end in pairwise(stops)]
    bad = [text[len(head) : -1] for text, head in zip(rejected, asked, strict=True)]
    orders = list(map(_ORDERS.__getitem__, talks))
    fits = list(map(bytes.startswith, rejected, asked))
    if orders and orders[0] and all(fits) and orders.count(orders[0]) == len(orders):
        size = stops[1]
        return Said.in_columns(orders[0], [*(pieces[place::size] for place in range(size)), bad])
    fits = [fit and bool(roles) for fit, roles in zip(fits, orders, strict=True)]
    each = ([*pieces[stop:end], one] for (stop, end), one in zip(pairwise(stops), bad, strict=True))
    return Said(fits, list(compress(orders, fits)), list(chain.from_iterable(compress(each, fits))))


class _Orders(dict[bytes, Roles]):
    """The roles before the answer of those who speak after the first turn; empty if they do not take turns."""

    def __missing__(self, talk: bytes) -> Roles:
        turns = (len(talk) + 1) // 2
        is_sound = talk == (_TURN * turns)[:-1]
        roles = (("user", "assistant") * turns)[:-1] if is_sound else ()
        if turns <= _OFTEN:
            self[talk] = roles
        return roles


_TURN = b"\2\1"
_OFTEN = 8
_ORDERS = _Orders()
