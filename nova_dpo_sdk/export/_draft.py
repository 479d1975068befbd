"""A chain that is only written down: the same calls as on a real one, but each stage becomes a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.catalog import SERVERLESS
from nova_dpo_sdk.chain._records import legal_name
from nova_dpo_sdk.errors import ConfigurationError
from nova_dpo_sdk.recipes import Checkpoint
from nova_dpo_sdk.recipes._checkpoint import STAND_IN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

    from nova_dpo_sdk.backends import Plan
    from nova_dpo_sdk.client import NovaClient
    from nova_dpo_sdk.datasets import Dataset
    from nova_dpo_sdk.recipes import Recipe


@dataclass(frozen=True)
class DraftStage:
    """A stage of a machine: its plan, and the stage whose checkpoint it starts from.

    Attributes:
        name: The stage's name.
        plan: What would be sent, with a stand-in where the parent's checkpoint will be.
        parent: The stage that it starts from; None for the base model or a checkpoint that is there already.
    """

    name: str
    plan: Plan
    parent: DraftStage | None = None

    @property
    def key(self) -> str:
        """Its name within the data of the machine: letters, digits and underscores, not a digit first."""
        key = self.name.replace("-", "_")
        return f"_{key}" if key[0].isdigit() else key

    @property
    def stand_in(self) -> str:
        """The path that stands for its checkpoint until the machine knows it."""
        return f"s3://{STAND_IN}{self.plan.name}/{self.name}"

    @property
    def objects(self) -> tuple[dict[str, Any], ...]:
        """What would be sent, with what the backend has learned from AWS since the plan was made."""
        return self.plan.resolved().objects

    @property
    def checkpoint(self) -> Checkpoint:
        """Its checkpoint to be, good enough to start another recipe from."""
        recipe = self.plan.recipe
        return Checkpoint(
            uri=self.stand_in,
            model=recipe.model,
            tuning=recipe.tuning.kind,
            technique=recipe.technique,
            platform=self.plan.backend.platform,
            job=self.plan.ref,
        )


class DraftHandle:
    """What `start` returns on a draft; like a chain's handle, with a checkpoint that is to be."""

    def __init__(self, chain: DraftChain, stage: DraftStage) -> None:
        self._chain = chain
        self._stage = stage

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._stage.name

    def result(self, *_: Any, **__: Any) -> Checkpoint:
        """The checkpoint to be; later stages wait for it."""
        self._chain.close()
        return self._stage.checkpoint


class DraftChain:
    """Takes the calls of a chain and sends nothing; `run`, `start` and `gather` have the arguments of `Chain`'s.

    `run` waits for its stage, so what follows comes after it; stages that are started together run side by side.
    How to wait and what to retry is the machine's own affair: those arguments are accepted and left out.
    """

    def __init__(self, client: NovaClient, name: str) -> None:
        self.name = legal_name(name, "chain")
        self.groups: list[list[DraftStage]] = []
        self._client = client
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stages(self) -> list[DraftStage]:
        """Every stage, in order."""
        return [stage for group in self.groups for stage in group]

    def run(self, stage: str, recipe: Recipe, data: Dataset, **options: Any) -> Checkpoint:
        """Write down a stage that the next one waits for.

        Raises:
            ConfigurationError: What `start` raises.
        """
        return self.start(stage, recipe, data, **options).result()

    def start(
        self,
        stage: str,
        recipe: Recipe,
        data: Dataset,
        *,
        validation: Dataset | None = None,
        allow: Iterable[str] = (),
        **_: Any,
    ) -> DraftHandle:
        """Write down a stage that runs beside those that are started before the next wait.

        Raises:
            ConfigurationError: The name can be none, a stage has it already, the start is of another draft, or the
                stage is serverless.
        """
        legal_name(stage, "stage")
        if any(each.name == stage for each in self.stages):
            raise ConfigurationError(f"{self.name} has two stages that are called {stage!r}. Give each its own name.")
        if self._client.backend.instance_type == SERVERLESS:
            raise ConfigurationError(
                f"Stage {stage} is serverless, which Step Functions' SageMaker integration does not take. Export it "
                "with an instance_type and without serverless=True, or run this chain from Python."
            )
        parent = self._parent(recipe)
        silenced = {*allow, *(["checkpoint-not-escrow"] if parent else [])}
        plan = self._client.draft(recipe, data, validation=validation, allow=silenced)
        made = DraftStage(stage, plan, parent)
        if self._open:
            self.groups[-1].append(made)
        else:
            self.groups.append([made])
        self._open = True
        return DraftHandle(self, made)

    def gather(self, handles: Iterable[DraftHandle], **_: Any) -> list[Checkpoint]:
        """The checkpoints to be of several stages; later stages wait for all of them."""
        return [handle.result() for handle in handles]

    def close(self) -> None:
        """Let what comes next come after everything so far."""
        self._open = False

    def _parent(self, recipe: Recipe) -> DraftStage | None:
        uri = recipe.checkpoint.uri if recipe.checkpoint else ""
        found = next((each for each in self.stages if each.stand_in == uri), None)
        if found is None and uri.startswith(f"s3://{STAND_IN}"):
            raise ConfigurationError(
                f"{recipe.name} starts from {uri}, which stands for a checkpoint of another draft. "
                "Write both stages down in one chain."
            )
        return found
