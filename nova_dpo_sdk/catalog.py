"""What Nova offers: models, techniques, instance types, limits, images per Region, each with its source."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import ConfigurationError, Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class _Name(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class NovaModel(_Name):
    """The Nova models that can be fine-tuned."""

    MICRO = "nova-micro"
    """Nova Micro 1.0: text only."""
    LITE = "nova-lite"
    """Nova Lite 1.0: text and images."""
    PRO = "nova-pro"
    """Nova Pro 1.0: text and images."""
    LITE_2 = "nova-lite-2"
    """Nova 2 Lite: SFT only."""


class Technique(_Name):
    """How the model is trained."""

    SFT = "SFT"
    """Supervised fine-tuning on chats."""
    DPO = "DPO"
    """Direct preference optimization on preference pairs."""


class Platform(_Name):
    """Where a job runs; a checkpoint can only be continued on the platform that made it."""

    HYPERPOD = "hyperpod"
    """A SageMaker HyperPod cluster orchestrated by EKS."""
    TRAINING_JOBS = "training-jobs"
    """SageMaker Training Jobs."""


class TuningKind(_Name):
    """Which weights are trained; a checkpoint can only be continued with the kind that made it."""

    LORA = "lora"
    """A low-rank adapter over the frozen base model."""
    FULL_RANK = "full-rank"
    """All weights."""


@dataclass(frozen=True)
class Bounds:
    """What a value may be.

    Attributes:
        allowed: The values that may be taken; empty when a range says it.
        minimum: Smallest value, inclusive; None for none.
        above: A value that must be exceeded; None for none.
        maximum: Largest value, inclusive; None for none.
        multiple_of: The value must be a multiple of this; None for any.
        source: Keys of the documents that state this.
    """

    allowed: tuple[Any, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    source: tuple[str, ...] = ()

    def admits(self, value: Any) -> bool:
        """Whether `value` (or, for a list, each of its items) lies within."""
        if isinstance(value, tuple | list):
            return all(self.admits(item) for item in value)  # pyright: ignore[reportUnknownVariableType] - items of any type
        if self.allowed:
            return value in self.allowed
        if value is None or isinstance(value, bool | str):
            return True
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )

    def nearest(self, value: Any) -> Any:
        """The admitted number closest to `value`, or None when there is no telling."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if self.allowed:
            return min(self.allowed, key=lambda each: abs(each - value))
        low, high, step = self.minimum, self.maximum, self.multiple_of or 0
        near = value if high is None else min(value, high)
        near = near if low is None else max(near, low)
        near = round(near / step) * step if step else near
        return near if self.admits(near) else None

    def __str__(self) -> str:
        if self.allowed:
            return " or ".join(_sentence(self.allowed))
        low, high = self.minimum, self.maximum
        parts: list[str] = []
        if self.above is not None:
            parts.append(f"above {_number(self.above)}")
        if low is not None and high is not None:
            parts.append(f"{_number(low)} to {_number(high)}")
        elif low is not None:
            parts.append(f"at least {_number(low)}")
        elif high is not None:
            parts.append(f"at most {_number(high)}")
        if self.multiple_of is not None:
            parts.append(f"in steps of {self.multiple_of}")
        return ", ".join(parts) or "anything"


def _sentence(values: tuple[Any, ...]) -> list[str]:
    words = [str(value) for value in values]
    return [", ".join(words[:-1]), words[-1]] if len(words) > 1 else words


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Caution:
    """Bounds that only some documents state.

    Attributes:
        kind: `disputed` (these documents refuse what lies outside) or `unusual` (they advise against it).
        bounds: What they admit.
    """

    kind: str
    bounds: Bounds


@dataclass(frozen=True)
class Limit:
    """One recipe parameter: its published default, what is enforced, what is disputed."""

    default: Any
    bounds: Bounds
    cautions: tuple[Caution, ...] = ()


@dataclass(frozen=True)
class Combination:
    """One published pairing of technique, model, tuning and instance type.

    Attributes:
        recipe: Name of the published recipe.
        platforms: Where images for it exist.
        limits: Every parameter of the recipe by its flat name.
    """

    technique: Technique
    model: NovaModel
    tuning: TuningKind
    instance_type: str
    recipe: str
    platforms: frozenset[Platform]
    limits: Mapping[str, Limit] = field(repr=False)


@dataclass(frozen=True)
class Model:
    """What a Nova model is called in a recipe.

    Attributes:
        title: Its name for people.
        model_type: `run.model_type` in a recipe.
        base_path: `run.model_name_or_path` of the untrained model.
        techniques: What it can be trained with.
        layout: Which recipe layout it takes: `nova-1` or `nova-2`.
        images: Whether it reads images.
    """

    name: NovaModel
    title: str
    model_type: str
    base_path: str
    techniques: frozenset[Technique]
    layout: str
    images: bool


@dataclass(frozen=True)
class Instance:
    """One instance type.

    Attributes:
        gpus: `nvidia.com/gpu` per node.
        efa: `vpc.amazonaws.com/efa` interfaces per node.
    """

    name: str
    gpus: int
    efa: int


@dataclass(frozen=True)
class Source:
    """A document that states a limit."""

    title: str
    url: str


SERVERLESS = "serverless"
"""What stands for an instance type where AWS chooses the instances."""


@dataclass(frozen=True)
class Serverless:
    """Serverless customization of SageMaker: what it offers, and what a recipe's parameters are called there.

    Attributes:
        combinations: What can be trained; `SERVERLESS` stands for the instance type.
        regions: Where it is offered.
        names: What parameters are called, by the names that they have in a recipe; others keep their names.
        hub_names: What models are called in SageMaker's public hub.
        base_model: ARN of a model there, with `{region}` and `{name}`.
        source: Keys of the documents that state this.
    """

    combinations: tuple[Combination, ...] = field(repr=False)
    regions: Limit
    names: Mapping[str, str] = field(repr=False)
    hub_names: Mapping[NovaModel, str] = field(repr=False)
    base_model: str
    source: tuple[str, ...]

    def base_model_arn(self, model: NovaModel, region: str) -> str:
        """The ARN of an untrained model in SageMaker's public hub; SageMaker takes its latest version."""
        return self.base_model.format(region=region, name=self.hub_names[model])


@dataclass(frozen=True)
class Catalog:
    """Everything that is known of Nova, as data; `Catalog.packaged()` reads what ships with the package."""

    revision: str
    sources: Mapping[str, Source] = field(repr=False)
    models: Mapping[NovaModel, Model] = field(repr=False)
    combinations: tuple[Combination, ...] = field(repr=False)
    instances: Mapping[str, Instance] = field(repr=False)
    widest: Mapping[str, Mapping[str, Limit]] = field(repr=False)
    registry: str
    training_accounts: Mapping[str, str] = field(repr=False)
    init_accounts: Mapping[str, str] = field(repr=False)
    init_repository: str
    training_repositories: Mapping[tuple[Platform, str], str] = field(repr=False)
    serverless: Serverless = field(repr=False)

    @staticmethod
    def packaged() -> Catalog:
        """The catalog that ships with this version, read once."""
        return _packaged()

    def with_region(self, region: str, *, training_account: str, init_account: str | None = None) -> Catalog:
        """A copy that knows the accounts whose registries hold Nova's images in one more Region.

        Args:
            region: Such as `eu-west-1`.
            training_account: 12-digit account of the training images.
            init_account: The same for the init container; `training_account` when left out.
        """
        return replace(
            self,
            training_accounts={**self.training_accounts, region: training_account},
            init_accounts={**self.init_accounts, region: init_account or training_account},
        )

    def serverless_only(self) -> Catalog:
        """A copy that offers nothing but what serverless customization does."""
        return replace(self, combinations=self.serverless.combinations)

    def instance(self, name: str) -> Instance | None:
        """The instance type of that name, or None when it is unknown."""
        return self.instances.get(name)

    def training_image(self, platform: Platform, family: str, region: str) -> str | None:
        """The training image, or None when the Region has none.

        Args:
            platform: Where it is to run.
            family: `DPO`, `SFT` or `SFT nova-2`.
            region: AWS Region.
        """
        account = self.training_accounts.get(region)
        repository = self.training_repositories.get((platform, family))
        return self._image(account, region, repository) if account and repository else None

    def init_image(self, region: str) -> str | None:
        """The init container's image, or None when the Region has none."""
        account = self.init_accounts.get(region)
        return self._image(account, region, self.init_repository) if account else None

    def _image(self, account: str, region: str, repository: str) -> str:
        return f"{self.registry.format(account=account, region=region)}/{repository}"

    def find(
        self,
        technique: Technique,
        model: NovaModel,
        tuning: TuningKind | None = None,
        instance_type: str | None = None,
        platform: Platform | None = None,
    ) -> list[Combination]:
        """Every published combination that fits what is given."""
        return [
            each
            for each in self.combinations
            if each.technique is technique
            and each.model is model
            and tuning in (None, each.tuning)
            and instance_type in (None, each.instance_type)
            and (platform is None or platform in each.platforms)
        ]

    def default(self, technique: Technique, model: NovaModel, tuning: TuningKind, name: str) -> Any:
        """The published default of a parameter, on the first instance family that offers the combination.

        Raises:
            ConfigurationError: The model is not offered with that technique and tuning.
        """
        offers = self.find(technique, model, tuning)
        offers.sort(key=lambda each: not each.instance_type.startswith("ml.p5."))
        if not offers:
            raise ConfigurationError(f"{model} is not offered for {technique} with {tuning}.")
        return offers[0].limits[name].default

    def titles(self, keys: Iterable[str]) -> str:
        """The documents behind source keys, in words."""
        return "; ".join(self.sources[key].title if key in self.sources else key for key in keys)

    def judge(self, name: str, value: Any, limit: Limit, *, where: str, context: str) -> Iterator[Finding]:
        """Hold one value against one limit.

        Args:
            name: The parameter's flat name; findings are coded `<name>-not-allowed`, `-disputed`, `-unusual`.
            value: The value to judge.
            limit: What is enforced and what is disputed.
            where: The path to name in the finding.
            context: For what the limit holds, in words.

        Yields:
            One error, or one warning for each caution that the value goes beyond.
        """
        slug = name.replace("_", "-")
        if not limit.bounds.admits(value):
            near = limit.bounds.nearest(value)
            verdict = f"Nova does not accept{context}" if context else "no Nova recipe allows"
            yield Finding(
                code=f"{slug}-not-allowed",
                severity=Severity.ERROR,
                where=where,
                message=f"{name} is {value!r}, which {verdict}.",
                value=value,
                allowed=str(limit.bounds),
                fix=f"The nearest that is allowed is {near}." if near is not None else "",
                source=self.titles(limit.bounds.source),
            )
            return
        for caution in limit.cautions:
            if not caution.bounds.admits(value):
                yield self._caution(slug, name, value, caution, where=where)

    def _caution(self, slug: str, name: str, value: Any, caution: Caution, *, where: str) -> Finding:
        disputed = caution.kind == "disputed"
        return Finding(
            code=f"{slug}-{caution.kind}",
            severity=Severity.WARNING,
            where=where,
            message=f"{name} is {value!r}: the sources disagree about it."
            if disputed
            else f"{name} is {value!r}, outside what is advised.",
            value=value,
            allowed=f"{caution.bounds} by every source" if disputed else str(caution.bounds),
            fix=f'Stay within {caution.bounds}, or silence this with allow=["{slug}-{caution.kind}"].',
            source=self.titles(caution.bounds.source),
        )


def family_of(technique: Technique, layout: str) -> str:
    """Which images and limits a recipe takes: `DPO`, `SFT` or `SFT nova-2`."""
    return str(technique) if layout == "nova-1" else f"{technique} {layout}"


def _bounds(data: Mapping[str, Any]) -> Bounds:
    return Bounds(
        allowed=tuple(data.get("allowed", ())),
        minimum=data.get("min"),
        above=data.get("above"),
        maximum=data.get("max"),
        multiple_of=data.get("multiple_of"),
        source=tuple(data["source"]),
    )


def _limit(data: Mapping[str, Any]) -> Limit:
    default = data["default"]
    return Limit(
        default=tuple(default) if isinstance(default, list) else default,  # pyright: ignore[reportUnknownArgumentType] - JSON
        bounds=_bounds(data),
        cautions=tuple(Caution(each["kind"], _bounds(each)) for each in data.get("cautions", ())),
    )


def _limits(data: Mapping[str, Any]) -> dict[str, Limit]:
    return {name: _limit(each) for name, each in data.items()}


def _combination(data: Mapping[str, Any], common: Mapping[str, Limit]) -> Combination:
    return Combination(
        technique=Technique(data["technique"]),
        model=NovaModel(data["model"]),
        tuning=TuningKind(data["tuning"]),
        instance_type=data["instance_type"],
        recipe=data["recipe"],
        platforms=frozenset(Platform(name) for name in data["platforms"]),
        limits={**common, **_limits(data["limits"])},
    )


def _widest(combinations: Iterable[Combination]) -> dict[str, Limit]:
    """The limits of a family that no combination exceeds: what fails already on construction."""
    merged: dict[str, list[Limit]] = {}
    for each in combinations:
        for name, limit in each.limits.items():
            merged.setdefault(name, []).append(limit)
    return {name: Limit(limits[0].default, _hull([each.bounds for each in limits])) for name, limits in merged.items()}


def _hull(bounds: list[Bounds]) -> Bounds:
    first = bounds[0]
    if all(each.allowed == first.allowed for each in bounds) and first.allowed:
        return first
    if first.allowed:
        return Bounds(minimum=1, source=first.source)  # which numbers exactly, only a combination can say
    lows = [each.minimum for each in bounds]
    highs = [each.maximum for each in bounds]
    return replace(
        first,
        minimum=min(low for low in lows if low is not None) if None not in lows else None,
        maximum=max(high for high in highs if high is not None) if None not in highs else None,
        source=tuple(dict.fromkeys(key for each in bounds for key in each.source)),
    )


def _serverless(data: Mapping[str, Any]) -> Serverless:
    return Serverless(
        combinations=tuple(
            Combination(
                technique=Technique(each["technique"]),
                model=NovaModel(model),
                tuning=TuningKind(each["tuning"]),
                instance_type=SERVERLESS,
                recipe=SERVERLESS,
                platforms=frozenset({Platform.TRAINING_JOBS}),
                limits=_limits(each["limits"]),
            )
            for each in data["offers"]
            for model in each["models"]
        ),
        regions=_limit(data["regions"]),
        names=data["names"],
        hub_names={NovaModel(model): name for model, name in data["hub_names"].items()},
        base_model=data["base_model"],
        source=tuple(data["source"]),
    )


@cache
def _packaged() -> Catalog:
    data = json.loads(resources.files("nova_dpo_sdk").joinpath("catalog.json").read_text(encoding="utf-8"))
    models = {
        NovaModel(name): Model(
            NovaModel(name),
            each["title"],
            each["model_type"],
            each["base_path"],
            frozenset(Technique(technique) for technique in each["techniques"]),
            each["layout"],
            each["images"],
        )
        for name, each in data["models"].items()
    }
    common = {family: _limits(limits) for family, limits in data["limits"].items()}
    families: dict[str, list[Combination]] = {family: [] for family in common}
    for each in data["combinations"]:
        family = family_of(Technique(each["technique"]), models[NovaModel(each["model"])].layout)
        families[family].append(_combination(each, common[family]))
    images = data["images"]
    return Catalog(
        revision=data["revision"],
        sources={key: Source(each["title"], each["url"]) for key, each in data["sources"].items()},
        models=models,
        combinations=tuple(each for group in families.values() for each in group),
        instances={name: Instance(name, each["gpus"], each["efa"]) for name, each in data["instances"].items()},
        widest={family: _widest(group) for family, group in families.items()},
        registry=images["registry"],
        training_accounts=images["training_accounts"],
        init_accounts=images["init_accounts"],
        init_repository=images["init"],
        training_repositories={
            (Platform(platform), family): repository
            for platform, families_of in images["training"].items()
            for family, repository in families_of.items()
        },
        serverless=_serverless(data["serverless"]),
    )
