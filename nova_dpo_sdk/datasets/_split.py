"""One data set into two, for training and for validation, by the hash of the prompt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.datasets._files import refuse_same, replacing_all
from nova_dpo_sdk.datasets._records import lines, look
from nova_dpo_sdk.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    import os

    from nova_dpo_sdk.datasets._dataset import Dataset

D = TypeVar("D")

_WHOLE = 1 << 64


@dataclass(frozen=True)
class Split(Generic[D]):
    """A data set that was split in two.

    Attributes:
        train: What to train on.
        validation: What to validate on; no prompt of it stands in `train`.
        read: Records in the data set; those of the two files together.
        train_records: Records in `train`.
        validation_records: Records in `validation`.
        fraction: The share of prompts that was asked for.
    """

    train: D
    validation: D
    read: int
    train_records: int
    validation_records: int
    fraction: float

    def __str__(self) -> str:
        share = self.validation_records / self.read
        return (
            f"{plural(self.read, 'record')}: {self.train_records:,} to train, {self.validation_records:,} to validate "
            f"({share:.1%}; asked for {self.fraction:.1%} of the prompts)"
        )


@dataclass(frozen=True)
class Counts:
    """Records in the two files of a split."""

    train: int
    validation: int


def split_file(
    data: Dataset,
    train: str | os.PathLike[str],
    validation: str | os.PathLike[str],
    *,
    fraction: float,
    salt: str = "",
) -> Counts:
    """Copy each line to one of two files, by the hash of its prompt.

    Where a record goes depends on its prompt (system and every turn before the answer), `fraction` and `salt` alone:
    not on its place in the file, nor on what else is there. Lines are copied byte for byte; blank ones are left out.

    Args:
        data: What to split.
        train: The file for training.
        validation: The file for validation.
        fraction: Share of the prompts that goes to validation, above 0 and below 1.
        salt: Any text; another one draws another split.

    Raises:
        ConfigurationError: `fraction` is not above 0 and below 1.
        DatasetError: The data cannot be read, a line has no prompt, one of the files would be empty or cannot be
            written; neither file is touched.
    """
    if isinstance(fraction, bool) or not 0 < fraction < 1:
        raise ConfigurationError(f"fraction is {fraction!r}; it is a share above 0 and below 1, such as 0.05.")
    targets = (Path(train), Path(validation))
    refuse_same(None if data.sources else data.path, *targets)
    limit, counts = int(fraction * _WHOLE), [0, 0]
    preference = data.kind == "preference"
    with replacing_all(targets) as files:
        for number, line in lines(data):
            sight = look(line, preference=preference)
            if sight is None:
                raise DatasetError(_without_prompt(data, number))
            side = _drawn(sight.key(), salt) < limit
            counts[side] += 1
            files[side].write(line + b"\n")
        if not all(counts):
            raise DatasetError(_one_sided(data, counts, fraction))
    return Counts(*counts)


def _drawn(key: int, salt: str) -> int:
    """The prompt's lot: a number of 64 bits."""
    digest = hashlib.blake2b(key.to_bytes(8, "big"), digest_size=8, key=hashlib.sha256(salt.encode()).digest())
    return int.from_bytes(digest.digest(), "big")


def _without_prompt(data: Dataset, number: int) -> str:
    return (
        f"{data.where} line {number} is no {data.kind} record, so it has no prompt to split by; nothing was written. "
        "Run check() to see everything that is wrong, and split what is clean."
    )


def _one_sided(data: Dataset, counts: list[int], fraction: float) -> str:
    records = sum(counts)
    if not records:
        return f"{data.where} has no records; nothing was written."
    name = "validation" if counts[0] else "training"
    return (
        f"None of the records of {data.where} ({records:,}) would go to {name} at fraction={fraction}; nothing was "
        "written. Prompts are few: pass another fraction, or another salt."
    )
