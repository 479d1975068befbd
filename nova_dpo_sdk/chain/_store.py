"""Where stages' records are kept in S3: claimed once, advanced only by who has read the latest, never overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nova_dpo_sdk.chain._records import StageRecord, legal_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk.aws import AWS, S3Uri

_KIND = "application/json"


@dataclass(frozen=True)
class Held:
    """A record as it lies in S3.

    Attributes:
        record: What it says.
        etag: Its entity tag: `advance` writes over this version and no other.
    """

    record: StageRecord
    etag: str


class ChainStore:
    """The records of every chain below one output.

    Args:
        aws: Where S3 is.
        output: The client's output; records lie in `<output>/chains/<chain>/<stage>.json`.
    """

    def __init__(self, aws: AWS, output: S3Uri) -> None:
        self._aws = aws
        self._output = output

    @property
    def folder(self) -> S3Uri:
        """Where every chain of this output is kept."""
        return self._output.join("chains")

    def place(self, chain: str, stage: str) -> S3Uri:
        """Where a stage's record is kept.

        Raises:
            ConfigurationError: A name can be none.
        """
        return self.folder.join(legal_name(chain, "chain"), f"{legal_name(stage, 'stage')}.json")

    def read(self, chain: str, stage: str) -> Held | None:
        """A stage's record, at the price of one GET; None when the stage was never begun.

        Raises:
            ServiceError: What lies there is no record, or one of another schema.
        """
        place = self.place(chain, stage)
        held = self._aws.read_or_none(place)
        return None if held is None else Held(StageRecord.from_json(held.body, str(place)), held.etag)

    def claim(self, record: StageRecord) -> Held | None:
        """Write a stage's first record; None when somebody has written one already (If-None-Match)."""
        place = self.place(record.chain, record.stage)
        etag = self._aws.write(place, record.to_json().encode(), content_type=_KIND, only_if_absent=True)
        return None if etag is None else Held(record, etag)

    def advance(self, held: Held, record: StageRecord) -> Held | None:
        """Write over exactly the version that was read; None when somebody was faster (If-Match)."""
        place = self.place(record.chain, record.stage)
        etag = self._aws.write(place, record.to_json().encode(), content_type=_KIND, only_if_etag=held.etag)
        return None if etag is None else Held(record, etag)

    def chains(self) -> list[str]:
        """The names of every chain of this output, sorted."""
        return sorted({chain for chain, _ in self._names(self.folder)})

    def stages(self, chain: str) -> list[StageRecord]:
        """The records of a chain's stages, in the order in which they were begun; empty when there is no such chain.

        Raises:
            ServiceError: One of them is no record, or one of another schema.
        """
        found = [self.read(*each) for each in self._names(self.folder.join(legal_name(chain, "chain")))]
        records = [each.record for each in found if each is not None]
        return sorted(records, key=lambda record: (record.attempts[0].claimed_at, record.stage))

    def _names(self, below: S3Uri) -> Iterator[tuple[str, str]]:
        """Chain and stage of every record below a folder; whatever else lies there is passed over."""
        start = len(self.folder.key) + 1
        for uri in self._aws.list_below(below, ".json"):
            chain, slash, file = uri.key[start:].partition("/")
            if slash and "/" not in file and file.endswith(".json"):
                yield chain, file.removesuffix(".json")
