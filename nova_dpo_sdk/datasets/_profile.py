"""The shape of a data set: lengths, turns, images, scripts, prompts that are trained on and validated on."""

from __future__ import annotations

import html
from collections.abc import Mapping  # noqa: TC003 - dataclass fields
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import are, have, plural
from nova_dpo_sdk.catalog import NovaModel, TuningKind
from nova_dpo_sdk.datasets._advice import Advice, advise
from nova_dpo_sdk.datasets._census import Census, tokens_of
from nova_dpo_sdk.datasets._facts import BYTES_PER_TOKEN
from nova_dpo_sdk.datasets._fast import QuickLook
from nova_dpo_sdk.datasets._histogram import Distribution
from nova_dpo_sdk.datasets._lines import Lines
from nova_dpo_sdk.datasets._records import blocks
from nova_dpo_sdk.datasets._rules import LIMITS
from nova_dpo_sdk.datasets._scan import without_collector
from nova_dpo_sdk.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from nova_dpo_sdk.datasets._dataset import Dataset

_LONGEST = LIMITS["line-bytes"].value

TOKEN_METHOD = (
    f"estimated: {BYTES_PER_TOKEN} bytes of UTF-8 text for a token, because Nova's tokenizer is not public; "
    "images, videos and documents are not counted"
)
"""How tokens are estimated."""


@dataclass(frozen=True)
class Overlap:
    """Prompts that stand both in the training data and in the validation data.

    Attributes:
        name: The validation data.
        records: Readable records in it.
        prompts: Different prompts in it.
        shared: Those of them that are trained on too.
        exact: Whether the numbers are exact; with many prompts they are taken from a sample.
    """

    name: str
    records: int
    prompts: int
    shared: int
    exact: bool

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        share = f" ({self.shared / self.prompts:.1%})" if self.prompts else ""
        leak = f"{about}{self.shared:,} of {plural(self.prompts, 'prompt')}{share} {are(self.shared)} trained on too"
        told = leak if self.shared else "no prompt is trained on too"
        return f"{self.name}: {plural(self.records, 'record')}; {told}"


@dataclass(frozen=True)
class Profile:
    """What a data set is made of.

    `profile()` measures every record. A check that makes a profile on its way measures all records of a file's first
    4 MiB, one in 16 up to 64 MiB and one in 64 after that, spread over the file: the same ones each time. Numbers of
    records, prompts, images, other media and system prompts are those of the whole file then too; distributions,
    scripts and `preferred_longer` are estimates.

    Attributes:
        name: The file.
        kind: `preference` or `chat`.
        records: Records that were readable; the others are left out of everything here.
        unreadable: Lines that are no such record; `check()` says why.
        prompts: Different prompts; a prompt is the system text and every turn before the answer.
        prompts_exact: Whether that number is exact; with many prompts it is taken from a sample.
        tokens: Estimated tokens of a record: prompt and the longer answer, which is what `max_length` must hold.
        prompt: Characters of a prompt.
        answer: Characters of the preferred candidate, or of the answer of a chat.
        rejected: Characters of the other candidate; nothing for chats.
        margin: Characters of the preferred candidate minus those of the other; nothing for chats.
        turns: Messages in a record, the answer included.
        images: Images in a record, over those that have any.
        preferred_longer: Pairs whose preferred candidate is the longer one.
        system_records: Records with a system prompt.
        image_records: Records with images.
        scripts: Records by the script of most of their first letters, the commonest first.
        measured: Records that the distributions were taken from; all of them, or a part that stands for all.
        longest: Estimated tokens that no record's text exceeds: those of the longest one; where only a part was
            measured, those of the longest line if that is more.
        overlap: Prompts shared with the validation data; None when none were given.
        token_method: How tokens were estimated.
        media_records: Records with images, videos or documents.
        nova2: Whether the records are for Nova 2 Lite.
    """

    name: str
    kind: str
    records: int
    unreadable: int
    prompts: int
    prompts_exact: bool
    tokens: Distribution
    prompt: Distribution
    answer: Distribution
    rejected: Distribution
    margin: Distribution
    turns: Distribution
    images: Distribution
    preferred_longer: int
    system_records: int
    image_records: int
    scripts: Mapping[str, int]
    measured: int
    longest: int
    overlap: Overlap | None = None
    token_method: str = TOKEN_METHOD
    media_records: int = 0
    nova2: bool = False

    def recommend(
        self,
        model: NovaModel | str | None = None,
        *,
        tuning: TuningKind | str = TuningKind.LORA,
        instance_type: str | None = None,
        global_batch_size: int | None = None,
        warmup_steps: int | None = None,
    ) -> Advice:
        """Say which `max_length`, `max_epochs` and `warmup_steps` the data speaks for, and why.

        Args:
            model: The model to train; Nova Lite when left out, or Nova 2 Lite where the records are for it.
            tuning: Which weights are trained.
            instance_type: The instances' type; the first `ml.p5` offer when left out.
            global_batch_size: Records per step; the published default when left out.
            warmup_steps: What you mean to write, to hear whether the training is long enough for it.

        Raises:
            ConfigurationError: There are no readable records, or this combination is not offered.
        """
        return advise(
            self,
            model=model or (NovaModel.LITE_2 if self.nova2 else NovaModel.LITE),
            tuning=tuning,
            instance_type=instance_type,
            global_batch_size=global_batch_size,
            warmup_steps=warmup_steps,
        )

    def plot(self, path: str | os.PathLike[str], *, advice: Advice | None = None) -> None:
        """Draw the distributions into a picture (PNG, SVG or PDF, by the name's ending).

        Args:
            path: The file to write.
            advice: Whose `max_length` to mark; that of `recommend()` when left out.

        Raises:
            ConfigurationError: matplotlib is not installed: `pip install 'nova-dpo-sdk[plots]'`.
            DatasetError: The file cannot be written.
        """
        from nova_dpo_sdk.datasets._plot import draw

        draw(self, path, advice or self.advice())

    def advice(self) -> Advice | None:
        """What the data says about a recipe of Nova Lite or Nova 2 Lite; None where it says nothing."""
        try:
            return self.recommend()
        except ConfigurationError:
            return None

    def rows(self) -> list[tuple[str, Distribution]]:
        """The distributions with what they are called, those that have something in them."""
        answer = "preferred" if self.kind == "preference" else "answer"
        rows = [
            ("record, tokens *", self.tokens),
            ("prompt, characters", self.prompt),
            (f"{answer}, characters", self.answer),
            ("rejected, characters", self.rejected),
            ("preferred - rejected", self.margin),
            ("turns", self.turns),
            ("images, where any", self.images),
        ]
        return [(name, each) for name, each in rows if each.count]

    def remarks(self) -> list[str]:
        """The same data in sentences."""
        found = [f"* {self.token_method}"]
        whole = plural(self.records, "record")
        if self.measured < self.records:
            part = f"measured on {self.measured:,} of {whole}, spread over the file"
            found.append(f"{part}; no record's text is longer than {self.longest:,} tokens")
        if self.kind == "preference" and self.records:
            share = self.margin.above(0) / max(1, self.margin.count)
            is_biased = share > _LENGTH_BIAS and self.margin.count >= _FEW_PAIRS
            tail = "; much of what is learned may be length" if is_biased else ""
            found.append(f"the preferred candidate is the longer one in {share:.0%} of the pairs{tail}")
        if self.records:
            total = sum(self.scripts.values())
            named = ", ".join(f"{name} {count / total:.1%}" for name, count in self.scripts.items())
            found.append(f"scripts: {named}")
        if self.system_records not in (0, self.records):
            found.append(f"{self.system_records:,} of {whole} {have(self.system_records)} a system prompt")
        if self.image_records:
            found.append(f"{self.image_records:,} of {whole} {have(self.image_records)} images")
        if others := self.media_records - self.image_records:
            found.append(f"{others:,} of {whole} {have(others)} videos or documents")
        if self.overlap is not None:
            found.append(f"validation {self.overlap}")
        return found

    def headline(self) -> str:
        """The file, its kind and its numbers of records and prompts."""
        about = "" if self.prompts_exact else "about "
        is_lost = f"{plural(self.unreadable, 'line')} {are(self.unreadable)} no such record"
        lost = f"; {is_lost} (run check())" if self.unreadable else ""
        records = plural(self.records, f"{self.kind} record")
        return f"{self.name}: {records}, {about}{plural(self.prompts, 'different prompt')}{lost}"

    def table(self) -> list[str]:
        """The distributions as lines of text."""
        table = [_HEAD, *((name, *_cells(each)) for name, each in self.rows())]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
        return [
            "  "
            + row[0].ljust(widths[0])
            + "".join(cell.rjust(width + 2) for cell, width in zip(row[1:], widths[1:], strict=True))
            for row in table
        ]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, as JSON takes them; distributions as their best known numbers."""
        plain: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in plain.items():
            if isinstance(value, Distribution):
                plain[name] = value.to_dict()
        plain["scripts"] = dict(self.scripts)
        plain["overlap"] = None if self.overlap is None else asdict(self.overlap)
        advice = self.advice()
        return {**plain, "recommended": None if advice is None else advice.to_dict()}

    def __str__(self) -> str:
        advice = self.advice()
        advised = ["recommended " + str(advice)] if advice else []
        return "\n".join([self.headline(), *self.table(), *(f"  {each}" for each in self.remarks()), *advised])

    def _repr_html_(self) -> str:
        """A small table for notebooks; every word of it escaped."""
        right = " style='text-align:right'"
        head = "".join(f"<th{right if n else ''}>{html.escape(cell)}</th>" for n, cell in enumerate(_HEAD))
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td{right}>{cell}</td>" for cell in _cells(each)) + "</tr>"
            for name, each in self.rows()
        )
        remarks = "".join(f"<li>{html.escape(each)}</li>" for each in self.remarks())
        advice = self.advice()
        advised = (
            f"<p>recommended {html.escape(str(advice).splitlines()[0])}</p><ul>"
            + "".join(f"<li>{html.escape(str(each))}</li>" for each in advice.recommendations)
            + "</ul>"
            if advice
            else ""
        )
        return (
            f"<div><p>{html.escape(self.headline())}</p><table><tr>{head}</tr>{rows}</table>"
            f"<ul>{remarks}</ul>{advised}</div>"
        )


_LENGTH_BIAS = 0.65
_FEW_PAIRS = 50  # of fewer, chance alone makes such a share
_HEAD = ("", "mean", "smallest", "median", "90 %", "99 %", "largest")


def _cells(each: Distribution) -> list[str]:
    values = (each.minimum, each.median, each.quantile(0.9), each.quantile(0.99), each.maximum)
    return [f"{each.mean:,.1f}", *(f"{value:,}" for value in values)]


def profile_of(data: Dataset, validation: Dataset | None) -> Profile:
    """Read a data set once, and the validation data before it.

    Raises:
        DatasetError: A file is missing, empty, no regular file, or may not be read.
    """
    if validation is not None and validation.kind != data.kind:
        kinds = f"{validation.where} holds {validation.kind} data and {data.where} {data.kind} data"
        raise DatasetError(f"{kinds}: they share no prompts. Pass validation data of the same kind.")
    checked = None if validation is None else _Checked(validation)
    census = Census(preference=data.kind == "preference")
    for prompts in _counted(data, census):
        if checked is not None:
            checked.meet(prompts)
    overlap = checked.overlap() if checked else None
    return profile_from(census, data.where, data.kind, overlap=overlap, nova2=data.explainer().nova2)


def profile_from(
    census: Census,
    name: str,
    kind: str,
    *,
    overlap: Overlap | None = None,
    most_tokens: int = 0,
    nova2: bool = False,
) -> Profile:
    """What was counted, as a profile.

    Args:
        census: What was counted.
        name: The file.
        kind: `preference` or `chat`.
        overlap: Prompts shared with the validation data.
        most_tokens: Estimated tokens that no record exceeds of those that were not measured.
        nova2: Whether the records are for Nova 2 Lite.
    """
    # No text is longer than its line.
    tokens = census.tokens.distribution()

    def of_all(count: int) -> int:
        """So many of the records, where what was measured may stand for a few more or less than there are."""
        return round(count * census.records / max(1, tokens.count))

    return Profile(
        name=name,
        kind=kind,
        records=census.records,
        unreadable=census.unreadable,
        prompts=min(census.prompts.distinct(), census.records),  # an estimate may be above what is possible
        prompts_exact=census.prompts.scale == 1,
        tokens=tokens,
        prompt=census.prompt.distribution(),
        answer=census.answer.distribution(),
        rejected=census.rejected.distribution(),
        margin=census.margin.distribution(),
        turns=census.turns.distribution(),
        images=census.images.distribution(),
        preferred_longer=of_all(census.preferred_longer),
        system_records=census.systems,
        image_records=census.image_records,
        media_records=census.media_records,
        scripts={script: of_all(count) for script, count in census.scripts.most_common()},
        overlap=overlap,
        measured=census.measured,
        longest=max(tokens.maximum, min(most_tokens, tokens_of(census.longest))),
        nova2=nova2,
    )


def _counted(data: Dataset, census: Census) -> Iterator[list[int]]:
    """Read a data set once and count every line that is not blank.

    Yields:
        The hashes of the prompts of some records.

    Raises:
        DatasetError: The file is missing, empty, no regular file, or may not be read.
    """
    quick = QuickLook(data.explainer(), words=False)
    with without_collector():
        for block in blocks(data):
            if block.skipped:
                census.take_too_long()
                continue
            lines = Lines(block.data)
            harvest = None if lines.has_longer(_LONGEST) else quick.look(lines)
            yield census.take(lines, harvest, block.offset)


class _Checked:
    """The prompts of the validation data, and which of them are trained on."""

    def __init__(self, data: Dataset) -> None:
        self._name = data.where
        self._shared: set[int] = set()
        self._census = Census(preference=data.kind == "preference")
        for _ in _counted(data, self._census):
            pass

    def meet(self, prompts: list[int]) -> None:
        self._shared.update(self._census.prompts.kept.intersection(prompts))

    def overlap(self) -> Overlap:
        sample = self._census.prompts
        shared = len(self._shared) * sample.scale
        return Overlap(self._name, self._census.records, sample.distinct(), shared, sample.scale == 1)
