"""Data sets as values: where the records are and what they are for."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping  # noqa: TC003 - dataclass fields
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from nova_dpo_sdk._words import are, plural
from nova_dpo_sdk.datasets._exact import Explainer
from nova_dpo_sdk.datasets._lines import open_file
from nova_dpo_sdk.datasets._remote import ByteSource, ByteStore, RangedStream, find_sources, named
from nova_dpo_sdk.datasets._scan import Order, Sink, scan
from nova_dpo_sdk.datasets._steady import steady
from nova_dpo_sdk.datasets._workers import processes, scan_in_parts
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from typing_extensions import Self

    from nova_dpo_sdk.datasets._clean import Cleaning
    from nova_dpo_sdk.datasets._convert import Conversion
    from nova_dpo_sdk.datasets._images import LocalImage
    from nova_dpo_sdk.datasets._profile import Profile
    from nova_dpo_sdk.datasets._report import Report
    from nova_dpo_sdk.datasets._scan import Measured
    from nova_dpo_sdk.datasets._sources import SourceLike
    from nova_dpo_sdk.datasets._split import Split


@dataclass(frozen=True, repr=False)
class Dataset:
    """Records in a file; base of `PreferenceDataset` and `ChatDataset`. Building one reads nothing.

    Attributes:
        path: The file; of data in S3 only its name.
        rules: By rule code: `error`, `warning` or `off`, for every look at these data. See `RULES`.
        sources: The objects in S3 that hold the records, when there is no file here; see `from_s3`.
        images: Pictures on this machine that the records show, which go to S3 with them; see `with_images`.
        known: What was found when these bytes were looked at before under the same rules; they are not read again.
    """

    path: Path
    rules: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    sources: tuple[ByteSource, ...] = field(default=(), kw_only=True)
    images: tuple[LocalImage, ...] = field(default=(), kw_only=True, repr=False)
    known: Report | None = field(default=None, kw_only=True, repr=False, compare=False)

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        try:
            path = Path(os.fspath(self.path))
        except TypeError as error:
            raise DatasetError(f"path is {self.path!r}; pass the file's name as a string or a Path.") from error
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "rules", dict(self.rules))

    @property
    def name(self) -> str:
        """The file's name, made legal for S3: letters, digits, `_`, `.` and `-`, ending in `.jsonl`."""
        stem = re.sub(r"\.(jsonl|ndjson|json|gz|zst)\Z", "", re.sub(r"\.(gz|zst)\Z", "", self.path.name))
        return (re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.") or "data") + ".jsonl"

    def __repr__(self) -> str:
        rules = f", rules={dict(self.rules)!r}" if self.rules else ""
        return f"{type(self).__name__}({self.where!r}{rules})"  # a prefix in S3 may have thousands of objects

    @property
    def where(self) -> str:
        """The file's path, or the address in S3, for messages."""
        if len(self.sources) > 1:
            return f"{self.sources[0].name} and {len(self.sources) - 1:,} more"
        return self.sources[0].name if self.sources else str(self.path)

    def open(self) -> BinaryIO:
        """Open the file for reading its bytes; data in S3 are read in ranges, several at a time.

        Raises:
            DatasetError: It is missing, empty, no regular file, or may not be read; on reading its end, it was
                written to meanwhile.
        """
        if self.sources:
            return io.BufferedReader(RangedStream(self.sources))
        return steady(open_file(self.path), self.path)

    def profile(self, validation: Dataset | None = None) -> Profile:
        """Read the data once and say what they are made of: lengths, turns, images, scripts, repeated prompts.

        Args:
            validation: What will be validated on, to see which of its prompts are trained on too.

        Raises:
            DatasetError: A file is missing, empty, no regular file, or may not be read.
        """
        from nova_dpo_sdk.datasets._profile import profile_of

        return profile_of(self, validation)

    def split(
        self,
        train: str | os.PathLike[str],
        validation: str | os.PathLike[str],
        *,
        fraction: float = 0.05,
        salt: str = "",
    ) -> Split[Self]:
        """Write the records to two files, by the hash of the prompt, so that no prompt stands in both.

        Where a record goes does not depend on its place in the file, nor on what else is there.

        Args:
            train: The file for training.
            validation: The file for validation.
            fraction: Share of the prompts that goes to validation, above 0 and below 1.
            salt: Any text; another one draws another split.

        Raises:
            ConfigurationError: `fraction` is not above 0 and below 1.
            DatasetError: The data cannot be read, a line has no prompt, one of the files would be empty or cannot be
                written; neither file is touched.
        """
        from nova_dpo_sdk.datasets._split import Split, split_file

        counts = split_file(self, train, validation, fraction=fraction, salt=salt)
        return Split(
            train=replace(self, path=Path(train), sources=(), known=None),
            validation=replace(self, path=Path(validation), sources=(), known=None),
            read=counts.train + counts.validation,
            train_records=counts.train,
            validation_records=counts.validation,
            fraction=fraction,
        )

    def with_images(
        self,
        to: str | os.PathLike[str],
        *,
        output: str,
        owner: str,
        base_dir: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Write the records with their local images as the S3 objects that a submit will make of them.

        Records name such an image by its path: `{"image": {"source": {"path": "img/a.png"}}}`. Each is looked at
        (format by its first bytes, at most 10 MiB, at least 25 x 25 pixels) and gets an address under `output` that is
        made of its content. A plan of the data set that is returned lists the images beside the data, and a
        submit or an upload sends them. A data set opened from the written file does not know them: they must be in S3
        by then.

        Args:
            to: The file to write.
            output: S3 prefix for the images, `s3://bucket/prefix`; best the one that the client writes to.
            owner: Number of the account that owns the bucket: 12 digits.
            base_dir: Where the paths start; the data's own folder when left out. Images outside it are refused.

        Raises:
            ConfigurationError: `output` or `owner` cannot be right.
            DatasetError: An image cannot be used (carries a finding for each), or a file cannot be read or written;
                nothing is written.
        """
        from nova_dpo_sdk.datasets._images import place_images

        base = self.path.parent if base_dir is None else base_dir
        images = place_images(self, to, output=output, owner=owner, base_dir=base)
        return replace(self, path=Path(to), sources=(), images=images, known=None)

    def write_clean(
        self,
        to: str | os.PathLike[str],
        *,
        rejected: str | os.PathLike[str] | None = None,
        rules: Mapping[str, str] | None = None,
    ) -> Cleaning[Self]:
        """Write the good records to a file of their own, byte by byte as they are, and the others to a sidecar.

        Args:
            to: The `.jsonl` file for the good records.
            rejected: The JSON Lines file for the others, each with its line and its reasons; named after `to` when
                left out. There is none when nothing was rejected.
            rules: By rule code: `error`, `warning` or `off`; added to those of the data set.

        Raises:
            DatasetError: The data cannot be read, there is no good record, or a file cannot be written; neither file
                is touched.
            ConfigurationError: `rules` names an unknown rule or setting.
        """
        from nova_dpo_sdk.datasets._clean import Cleaning, Sorter, beside, expect_sorted, forget_empty
        from nova_dpo_sdk.datasets._files import refuse_same, replacing_all

        target = Path(to)
        sidecar = beside(target) if rejected is None else Path(rejected)
        refuse_same(None if self.sources else self.path, target, sidecar)
        with replacing_all([target, sidecar]) as (good, bad):
            sorter = Sorter(good, bad)
            report = self._scanned(self._order(1000, rules), sorter)
            expect_sorted(report, sorter)
        forget_empty(sidecar, sorter.rejected)
        return Cleaning(
            dataset=replace(self, path=target, sources=(), known=None),
            rejected_path=sidecar,
            read=report.records,
            written=sorter.written,
            rejected=sorter.rejected,
            blank=sorter.blank,
            report=report,
        )

    def report(
        self,
        *,
        max_details: int = 1000,
        rules: Mapping[str, str] | None = None,
        workers: int | None = None,
        hashed: bool = False,
        profile: bool = False,
    ) -> Report:
        """Read the file once and say everything that is wrong with it.

        Memory is bounded, so in a file of more than 65,536 records (16,384 with several processes or a profile) a
        repeat may go unnoticed: about one in ten of those that are 100,000 records apart, two in three at a million.

        Args:
            max_details: Problems to keep in full; all are counted.
            rules: By rule code: `error`, `warning` or `off`; added to those of the data set.
            workers: Processes that look at a plain file; when left out, two for one above 90 MB and one otherwise.
                The report is the same, but for repeats that are far apart in files of more than 16,384 records.
            hashed: Whether to hash the bytes too (SHA-256), which takes about as long again as a third of the look.
            profile: Whether to count what the data are made of in the same pass, as `Report.profile`. Beyond the
                first 4 MiB of a file it is measured on one record in 16, beyond 64 MiB on one in 64, so that it costs
                a large file little; `profile()` measures all.

        Raises:
            DatasetError: The file is missing, empty, no regular file, or may not be read.
            ConfigurationError: `rules` names an unknown rule or setting, or `workers` is below 1.
        """
        known = self.known
        if known is not None and not rules and (known.sha256 or not hashed) and (known.profile or not profile):
            return known
        order = replace(self._order(max_details, rules), hashed=hashed, profiled=profile)
        return self._scanned(order, workers=workers)

    def _order(self, max_details: int, rules: Mapping[str, str] | None) -> Order:
        return Order(self.path, self.explainer(), {**self.rules, **(rules or {})}, max_details)

    def _scanned(
        self, order: Order, sink: Sink | None = None, workers: int | None = 1, measured: Measured | None = None
    ) -> Report:
        if self.sources:
            with RangedStream(self.sources) as ranges, io.BufferedReader(ranges) as stream:
                return named(scan(stream, order, sink, ranges.begins), ranges.begins).of(self.where)
        with self.open() as stream:
            try:
                count = processes(stream, workers)
                return scan(stream, order, sink) if count == 1 else scan_in_parts(stream, order, count, measured)
            except OSError as error:
                raise DatasetError(f"{self.path} could not be read to its end: {error}.") from error

    def check(
        self,
        *,
        max_details: int = 1000,
        rules: Mapping[str, str] | None = None,
        workers: int | None = None,
        hashed: bool = False,
        profile: bool = False,
    ) -> Report:
        """The same as `report`, but an error in the data is raised.

        Raises:
            DatasetError: There is at least one error; carries a finding for every rule that is broken.
        """
        return self._good(
            self.report(max_details=max_details, rules=rules, workers=workers, hashed=hashed, profile=profile)
        )

    def _good(self, report: Report) -> Report:
        if report.errors:
            some = f"{report.bad:,} of {plural(report.records, 'record')} {are(report.bad)}"
            message = f"{self.where}: {some} bad ({plural(report.errors, 'error')})."
            raise DatasetError(message, [finding for finding in report.findings() if finding.is_error])
        return report

    def check_measured(self, measured: Measured) -> Report:
        """The same as `check`, in processes of their own, of a file that was hashed already.

        Args:
            measured: How many bytes the file has, and their hash; believed.

        Raises:
            DatasetError: There is at least one error, or the file cannot be read.
        """
        if self.known is not None:
            return self._good(self.known)
        order = replace(self._order(1000, None), hashed=True, gentle=True)
        return self._good(self._scanned(order, workers=2, measured=measured))

    def explainer(self) -> Explainer:
        """What knows the kind of record, and all rules about it."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class PreferenceDataset(Dataset):
    """Preference pairs for DPO: conversations whose last turn has a preferred and a non-preferred candidate."""

    kind: ClassVar[str] = "preference"

    @classmethod
    def from_jsonl(cls, path: str | os.PathLike[str], *, rules: Mapping[str, str] | None = None) -> Self:
        """Records in Nova's own layout, as they are."""
        return cls(Path(path), rules or {})

    @classmethod
    def from_s3(cls, uri: str, *, aws: ByteStore | None = None, rules: Mapping[str, str] | None = None) -> Self:
        """Records that are in S3 already, in Nova's own layout; they are read where they are, without a local copy.

        Args:
            uri: An object, `s3://bucket/key`, or a prefix: then every file below it that ends in `.jsonl` or
                `.ndjson`, plain, gzip or zstd, as one data set.
            aws: Whose S3, such as `backend.aws`; when left out, the account and Region that boto3 finds by itself.
                Asked at once: the bucket must be in its Region and account.
            rules: By rule code: `error`, `warning` or `off`, for every look at these data. See `RULES`.

        Raises:
            ConfigurationError: `uri` is no S3 address, or the bucket is another account's or in another Region.
            NotFoundError: There is no such bucket.
            AccessDeniedError: The caller may not look.
            DatasetError: There is nothing, or nothing with bytes in it.
        """
        return cls(Path(_last_name(uri)), rules or {}, sources=find_sources(uri, aws))

    @classmethod
    def convert(
        cls,
        source: SourceLike,
        to: str | os.PathLike[str],
        *,
        layout: str | None = None,
        clean_reserved: bool = False,
        local_images: bool = False,
        max_details: int = 1000,
    ) -> Conversion[PreferenceDataset]:
        """Read preference pairs in any known layout and write them in Nova's.

        Args:
            source: The file to read (JSONL or JSON, plain or compressed; Parquet), or an iterable of mappings.
            to: The `.jsonl` file to write.
            layout: The layout of `source`; found out when left out.
            clean_reserved: Remove reserved words where they begin a line, instead of dropping the record.
            local_images: Keep what a field `images` names by local path, where `<image>` stands in the user's texts;
                `with_images` brings these to S3.
            max_details: Dropped or mended records to list one by one; all are counted.
        """
        from nova_dpo_sdk.datasets._convert import Conversion, convert_preferences

        done = convert_preferences(
            source, to, layout, clean_reserved=clean_reserved, local_images=local_images, max_details=max_details
        )
        return Conversion[PreferenceDataset].of(cls.from_jsonl(done.path), done)

    def explainer(self) -> Explainer:
        """What knows the kind of record, and all rules about it."""
        return Explainer(preference=True)


@dataclass(frozen=True, repr=False)
class ChatDataset(Dataset):
    """Conversations for SFT.

    Attributes:
        nova2: Whether the records are for Nova 2 Lite, which reads reasoning, tools and documents too.
    """

    nova2: bool = False

    kind: ClassVar[str] = "chat"

    @classmethod
    def from_jsonl(
        cls, path: str | os.PathLike[str], *, nova2: bool = False, rules: Mapping[str, str] | None = None
    ) -> Self:
        """Records in Nova's own layout, as they are."""
        return cls(Path(path), rules or {}, nova2)

    @classmethod
    def from_s3(
        cls, uri: str, *, aws: ByteStore | None = None, nova2: bool = False, rules: Mapping[str, str] | None = None
    ) -> Self:
        """Records that are in S3 already, in Nova's own layout; they are read where they are, without a local copy.

        Args:
            uri: An object, `s3://bucket/key`, or a prefix: then every file below it that ends in `.jsonl` or
                `.ndjson`, plain, gzip or zstd, as one data set.
            aws: Whose S3, such as `backend.aws`; when left out, the account and Region that boto3 finds by itself.
                Asked at once: the bucket must be in its Region and account.
            nova2: Whether the records are for Nova 2 Lite.
            rules: By rule code: `error`, `warning` or `off`, for every look at these data. See `RULES`.

        Raises:
            ConfigurationError: `uri` is no S3 address, or the bucket is another account's or in another Region.
            NotFoundError: There is no such bucket.
            AccessDeniedError: The caller may not look.
            DatasetError: There is nothing, or nothing with bytes in it.
        """
        return cls(Path(_last_name(uri)), rules or {}, nova2, sources=find_sources(uri, aws))

    @classmethod
    def convert(
        cls,
        source: SourceLike,
        to: str | os.PathLike[str],
        *,
        layout: str | None = None,
        clean_reserved: bool = False,
        local_images: bool = False,
        max_details: int = 1000,
    ) -> Conversion[ChatDataset]:
        """Read conversations in any known layout and write them in Nova's.

        Of preference pairs the chosen side is taken, that of a tie or without a rejected one included.

        Args:
            source: The file to read (JSONL or JSON, plain or compressed; Parquet), or an iterable of mappings.
            to: The `.jsonl` file to write.
            layout: The layout of `source`; found out when left out.
            clean_reserved: Remove reserved words where they begin a line, instead of dropping the record.
            local_images: Keep what a field `images` names by local path, where `<image>` stands in the user's texts;
                `with_images` brings these to S3.
            max_details: Dropped or mended records to list one by one; all are counted.
        """
        from nova_dpo_sdk.datasets._convert import Conversion, convert_chats

        done = convert_chats(
            source, to, layout, clean_reserved=clean_reserved, local_images=local_images, max_details=max_details
        )
        return Conversion[ChatDataset].of(cls.from_jsonl(done.path), done)

    def explainer(self) -> Explainer:
        """What knows the kind of record, and all rules about it."""
        return Explainer(preference=False, nova2=self.nova2)


def _last_name(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]
