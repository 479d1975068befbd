"""What the shape of the data says about a recipe: `max_length`, `max_epochs`, `warmup_steps`, each with its reason."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import are, plural
from nova_dpo_sdk.catalog import Catalog, Combination, NovaModel, Technique, TuningKind
from nova_dpo_sdk.datasets import _rules
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from enum import Enum
    from typing import TypeVar

    from nova_dpo_sdk.catalog import Limit
    from nova_dpo_sdk.datasets._profile import Profile

    Name = TypeVar("Name", bound=Enum)

HEADROOM = 1.25
"""Tokens are estimated, so a length is chosen with a quarter to spare."""

_GUIDE = "guide-hyperparameters"
_RECORDS_PER_WARMUP_STEP = {NovaModel.MICRO: 640, NovaModel.LITE: 160, NovaModel.PRO: 320}
_SMALL, _MIDDLE, _MOST_EPOCHS = 1_000, 5_000, 5
_WARMUP_SHARE = 5  # a warm-up takes at most a fifth of the steps: small data must not be all warm-up


@dataclass(frozen=True)
class Recommendation:
    """One recipe parameter that the data speaks for.

    Attributes:
        name: The recipe's field.
        value: What to write.
        reason: Why, with the numbers in it.
        source: Who says so.
        warning: What to look out for; empty when there is nothing.
    """

    name: str
    value: int
    reason: str
    source: str
    warning: str = ""

    def __str__(self) -> str:
        tail = f" Careful: {self.warning}" if self.warning else ""
        return f"{self.name} {self.value:,}: {self.reason}{tail} (source: {self.source})"


@dataclass(frozen=True)
class Advice:
    """What the data says about a recipe.

    Attributes:
        model: For which model.
        global_batch_size: Records per step that were reckoned with.
        total_steps: Steps of the whole training at the recommended epochs; None where epochs are not a parameter.
        recommendations: One for each parameter.
    """

    model: NovaModel
    global_batch_size: int
    total_steps: int | None
    recommendations: tuple[Recommendation, ...]

    @property
    def values(self) -> dict[str, int]:
        """The recommended values by field, as `recipe.replace(**advice.values)` takes them."""
        return {each.name: each.value for each in self.recommendations}

    def headline(self) -> str:
        """For which model, batch and number of steps it holds."""
        steps = f", {plural(self.total_steps, 'step')}" if self.total_steps is not None else ""
        return f"for {self.model} at global_batch_size {self.global_batch_size}{steps}:"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, as JSON takes them."""
        return {
            "model": str(self.model),
            "global_batch_size": self.global_batch_size,
            "total_steps": self.total_steps,
            "values": self.values,
            "recommendations": [asdict(each) for each in self.recommendations],
        }

    def __str__(self) -> str:
        return "\n".join([self.headline(), *(f"  {each}" for each in self.recommendations)])


def advise(
    profile: Profile,
    *,
    model: NovaModel | str,
    tuning: TuningKind | str,
    instance_type: str | None,
    global_batch_size: int | None,
    warmup_steps: int | None,
) -> Advice:
    """Recommend what the data speaks for; see `Profile.recommend`."""
    if not profile.records:
        raise ConfigurationError(f"{profile.name} has no readable records, so it speaks for nothing. Run check().")
    model = _member(NovaModel, model, "model")
    offer = _offer(profile, model, _member(TuningKind, tuning, "tuning"), instance_type)
    batch = offer.limits["global_batch_size"].default if global_batch_size is None else global_batch_size
    if isinstance(batch, bool) or batch < 1:
        raise ConfigurationError(f"global_batch_size is {batch!r}; it is a number of records, 1 or more.")
    found = [_max_length(profile, offer)]
    total = None
    if "max_epochs" in offer.limits:
        found.append(_max_epochs(profile, offer))
        total = math.ceil(profile.records / batch) * found[-1].value
    found.append(_warm_up(profile, offer, total, warmup_steps))
    return Advice(model, batch, total, tuple(found))


def _member(kind: type[Name], value: Any, name: str) -> Name:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(each.value) for each in kind)
        raise ConfigurationError(f"{name} is {value!r}; known: {known}.") from None


def _offer(profile: Profile, model: NovaModel, tuning: TuningKind, instance_type: str | None) -> Combination:
    technique = Technique.DPO if profile.kind == "preference" else Technique.SFT
    offers = Catalog.packaged().find(technique, model, tuning, instance_type)
    if not offers:
        place = f" on {instance_type}" if instance_type else ""
        raise ConfigurationError(f"{model} is not offered for {technique} with {tuning}{place}.")
    return min(offers, key=lambda each: not each.instance_type.startswith("ml.p5."))


def _max_length(profile: Profile, offer: Combination) -> Recommendation:
    tokens, limit = profile.tokens, offer.limits["max_length"]
    capped = bool(profile.kind == "preference" and profile.image_records)
    ladder = _ladder(limit)
    if capped:
        most = _rules.LIMITS["image-max-length"].value
        ladder = [each for each in ladder if each <= most] or ladder[:1]
    if profile.media_records:  # their tokens are not in the estimate
        ladder = [each for each in ladder if each >= limit.default] or ladder[-1:]
    longest, common = _rung(ladder, profile.longest), _rung(ladder, tokens.quantile(0.99))
    value = longest if longest <= 2 * common else common
    reason = _holding(profile, value, limit.default)
    if value == ladder[-1] and tokens.quantile(0.99) > value:
        reason = f"the most that {'data with images allows' if capped else offer.instance_type + ' offers'}."
    return Recommendation("max_length", value, reason, _titles(*limit.bounds.source), _beyond(profile, value))


def _holding(profile: Profile, value: int, default: int) -> str:
    """What a `max_length` holds."""
    step, covered, media = "step", "every record" if value >= profile.longest else "99 of 100 records", ""
    if profile.media_records:
        step, covered = f"step from the published default of {default:,} on", f"the text of {covered}"
        media = " Images, videos and documents take tokens too, which are not in the estimate."
    bound = "longest" if profile.measured == profile.records else "none above"
    return (
        f"the smallest {step} that holds {covered} (99th percentile {profile.tokens.quantile(0.99):,}, {bound} "
        f"{profile.longest:,} estimated tokens) with a quarter to spare for the estimate.{media}"
    )


def _beyond(profile: Profile, value: int) -> str:
    """What a `max_length` does not hold; empty when it holds all."""
    too_long = min(profile.tokens.above(value), profile.records)
    if too_long:
        return f"about {plural(too_long, 'record')} {are(too_long)} longer and will be cut off or left out."
    if profile.longest > value:
        return "none that was measured is longer, but others may be; they will be cut off or left out."
    return ""


def _ladder(limit: Limit) -> list[int]:
    bounds = limit.bounds
    if bounds.allowed:
        return sorted(int(each) for each in bounds.allowed)
    step = bounds.multiple_of or 1024
    return list(range(int(bounds.minimum or step), int(bounds.maximum or 32 * step) + 1, step))


def _rung(ladder: list[int], tokens: int) -> int:
    return next((each for each in ladder if each >= tokens * HEADROOM), ladder[-1])


def _max_epochs(profile: Profile, offer: Combination) -> Recommendation:
    records = profile.records
    if records > _MIDDLE:
        value, reason = 1, f"{plural(records, 'record')}: beyond {_MIDDLE:,} once through is enough."
    elif records >= _SMALL:
        value, reason = 2, f"{plural(records, 'record')}: between {_SMALL:,} and {_MIDDLE:,} twice through."
    else:
        value = min(_MOST_EPOCHS, math.ceil(2 * _SMALL / records))
        reason = f"{plural(records, 'record')}: fewer than {_SMALL:,} take more epochs, at most {_MOST_EPOCHS}."
    value = int(offer.limits["max_epochs"].bounds.nearest(value) or value)
    return Recommendation("max_epochs", value, reason, _titles(_GUIDE))


def _warm_up(profile: Profile, offer: Combination, total: int | None, given: int | None) -> Recommendation:
    limit = offer.limits["warmup_steps"]
    pace = _RECORDS_PER_WARMUP_STEP.get(offer.model)
    value = limit.default if pace is None else round(profile.records / pace)
    reason = (
        "the published default; there is no advice for this model by the size of the data."
        if pace is None
        else f"one step for each {pace} records makes {value:,}"
    )
    capped = max(1, value if total is None else min(value, total // _WARMUP_SHARE))
    for bounds in (limit.bounds, *(caution.bounds for caution in limit.cautions)):
        capped = int(bounds.nearest(capped) or capped)
    if pace is not None:
        reason += (
            "." if capped == value else f"; kept to {capped}, which all documents accept and the steps leave room for."
        )
    planned = limit.default if given is None else given
    warning = ""
    if total is not None and planned >= total:
        whose = "the default of" if given is None else "your"
        warning = f"{whose} {planned} would outlast the training of {plural(total, 'step')}: lr is never reached."
    sources = _titles(_GUIDE, *limit.bounds.source) if pace else _titles(*limit.bounds.source)
    return Recommendation("warmup_steps", capped, reason, sources, warning)


def _titles(*keys: str) -> str:
    return Catalog.packaged().titles(dict.fromkeys(keys))
