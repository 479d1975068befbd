"""Images that a source names by local path, put where its texts want them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.datasets._mend import Drop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nova_dpo_sdk.datasets._mend import Notes

PLACE = "<image>"
"""Marks in a user's text where an image stands, as LLaMA-Factory and others write it."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def are_local(images: Any) -> bool:
    """Whether this is a list of local paths, without URLs."""
    return isinstance(images, list) and all(isinstance(each, str) and not _ADDRESS.match(each) for each in images)  # pyright: ignore[reportUnknownVariableType] - JSON


def place_local(record: Mapping[str, Any], notes: Notes) -> None:
    """Put a record's images where its user's texts mark their places, or before the first text.

    Raises:
        Drop: `image-places`, when there are places, but not one for each image.
    """
    images = list(notes.images)
    asked = [turn for turn in record["messages"] if turn["role"] == "user"]
    places = sum(item["text"].count(PLACE) for turn in asked for item in turn["content"])
    if places not in (0, len(images)):
        raise Drop("image-places", f"{plural(places, 'place')}, {plural(len(images), 'image')}")
    notes.mend("image-placed", plural(len(images), "image"))
    if not places:
        asked[0]["content"] = [*map(_image, images), *asked[0]["content"]]
        return
    waiting = iter(images)
    for turn in asked:
        turn["content"] = [part for item in turn["content"] for part in _parts(item["text"], waiting)]


def _parts(text: str, images: Iterator[str]) -> Iterator[dict[str, Any]]:
    """A text and the images in it, in their order; white space alone between them is left out."""
    first, *others = text.split(PLACE)
    if first.strip() or not others:
        yield {"text": first}
    for piece in others:
        yield _image(next(images))
        if piece.strip():
            yield {"text": piece}


def _image(path: str) -> dict[str, Any]:
    return {"image": {"source": {"path": path}}}
