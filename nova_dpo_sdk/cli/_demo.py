"""`nova-dpo demo`: SFT, then DPO from its checkpoint, rehearsed on this machine by the code that talks to AWS."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nova_dpo_sdk._time import SystemClock, ticks
from nova_dpo_sdk._version import __version__
from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends import JobStatus
from nova_dpo_sdk.backends._show import size
from nova_dpo_sdk.backends._training_submit import require_sdk
from nova_dpo_sdk.catalog import Catalog, NovaModel, Platform, Technique
from nova_dpo_sdk.cli._cloud import keep
from nova_dpo_sdk.cli._data import conversion_lines
from nova_dpo_sdk.cli._faults import LATE, LIST, PACE, PATIENCE, Day, day_of, hurried, list_faults
from nova_dpo_sdk.cli._faults import LOOK as BAD_LOOK
from nova_dpo_sdk.cli._out import BAD, GOOD, counted, in_a_line, write_file
from nova_dpo_sdk.cli._screen import bar, screen
from nova_dpo_sdk.client import NovaClient
from nova_dpo_sdk.datasets import ChatDataset, PreferenceDataset, detect_layout
from nova_dpo_sdk.errors import CheckpointError, JobFailedError, Severity
from nova_dpo_sdk.recipes import DPORecipe, SFTRecipe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.backends import Backend, JobSnapshot, Plan
    from nova_dpo_sdk.cli._screen import Screen
    from nova_dpo_sdk.datasets import Conversion, Dataset, Report
    from nova_dpo_sdk.errors import Finding
    from nova_dpo_sdk.jobs import Job
    from nova_dpo_sdk.local import LocalCloud
    from nova_dpo_sdk.recipes import Checkpoint

D = TypeVar("D", ChatDataset, PreferenceDataset)
R = TypeVar("R", SFTRecipe, DPORecipe)

LOOK = 0.25
"""Seconds between two looks at a rehearsed job."""
FEW = 1000
"""Records below which the demo takes the smallest batch and one step of warm-up, so that there are some steps."""


_NEXT = {
    Platform.HYPERPOD: "On your cluster: nova-dpo submit --recipe R --data D --cluster C --output S3",
    Platform.TRAINING_JOBS: "In your account: nova-dpo submit --recipe R --data D --platform training-jobs "
    "--role ARN --output S3",
}


class _Refused(Exception):  # noqa: N818 - not a fault: everything has been said on the screen
    """The rehearsal cannot go on; why is on the screen."""


def demo(arguments: argparse.Namespace) -> int:
    """Rehearse SFT and DPO."""
    from nova_dpo_sdk.local import LocalCloud, Script, require_local

    require_local()

    if arguments.fault == LIST:
        list_faults()
        return GOOD
    platform = Platform(arguments.platform)
    if platform is Platform.TRAINING_JOBS:
        require_sdk()
    day = day_of(arguments.fault, arguments.seed, platform)
    clock: Clock = arguments.clock or SystemClock()
    clock = clock if day is None else hurried(clock)
    show = _Demo(screen(), clock, Path(arguments.out), NovaModel(arguments.model), platform, day)
    script = Script(noticing=0.5, starting=1.0, loading=0.5, training=4.0) if day is None else Script()
    try:
        chats, pairs = show.data(arguments.chats, arguments.pairs)
        with LocalCloud(clock=clock, script=script) as cloud:
            show.run(cloud, chats, pairs)
            if arguments.keep:
                tries = [f"nova-dpo status {ref} --local {{file}}" for ref in show.refs[-1:]]
                keep(cloud, show.out / "cloud.json", show.clock, tries)
    except _Refused:
        return BAD
    return GOOD


def _kind(sent: dict[str, Any]) -> str:
    """What an object of a plan is called: its kind on a cluster, else what AWS is asked for."""
    return str(sent.get("kind") or ("CreateTrainingJob" if "TrainingJobName" in sent else "the recipe"))


@dataclass
class _Demo:
    screen: Screen
    clock: Clock
    out: Path
    model: NovaModel
    platform: Platform
    day: Day | None = None
    refs: list[str] = field(default_factory=list[str])

    # --- data -----------------------------------------------------------------------------------------------------

    def data(self, chats: str | None, pairs: str | None) -> tuple[ChatDataset, PreferenceDataset]:
        """The data of both stages: the user's, in Nova's layout, or the samples."""
        self.screen.heading(f"nova-dpo {__version__}", "a rehearsal: no AWS account, nothing leaves this machine")
        pair_data, pair_report = self._one("pairs", PreferenceDataset, pairs)
        if chats is None and pairs is not None:
            self._refuse_bad(pair_report)
            self.screen.row("chats", f"the preferred sides of {pairs}:")
            chats = pairs
        chat_data, chat_report = self._one("chats", ChatDataset, chats)
        self._refuse_bad(pair_report, chat_report)
        return chat_data, pair_data

    def _refuse_bad(self, *reports: Report) -> None:
        bad = [report for report in reports if not report.ok]
        for report in bad:
            self.screen.row("next", f"nova-dpo data check {report.path} --all", "quiet")
        if bad:
            self.screen.row("refused", "Mend the data first; nothing was started.", "error")
            raise _Refused

    def _one(self, label: str, kind: type[D], path: str | None) -> tuple[D, Report]:
        if path is None:
            sample = "chats" if kind is ChatDataset else "preferences"
            text = (resources.files("nova_dpo_sdk.local") / "samples" / f"{sample}.jsonl").read_text("utf-8")
            made = kind.from_jsonl(write_file(self.out / "data" / f"{label}.jsonl", text))
            origin = "samples that come with the package"
        elif detect_layout(path) == ("nova-chat" if kind is ChatDataset else "nova-preference"):
            made, origin = kind.from_jsonl(path), path
        else:
            made, origin = self._converted(label, kind, path), path
        report = made.report()
        state = f"{plural(report.records, 'record')}, " + ("good" if report.ok else f"{report.bad:,} of them bad")
        self.screen.row(label, f"{state} ({origin})", "" if report.ok else "error")
        self._findings(report.findings())
        return made, report

    def _converted(self, label: str, kind: type[D], path: str) -> D:
        target = self.out / "data" / f"{label}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        done: Conversion[Any] = kind.convert(path, target)
        for line in conversion_lines(done):
            self.screen.row("", line.strip(), "quiet")
        return kind.from_jsonl(target)

    def _findings(self, findings: Iterable[Finding]) -> None:
        for each in findings:
            mood = {Severity.ERROR: "error", Severity.WARNING: "warning"}.get(each.severity, "quiet")
            where = f"{each.where}: " if each.is_error else ""
            rule = f" {each.allowed}." if each.allowed and each.where == "data" else ""
            after = f" {each.fix}" if each.is_error else " Fine for a rehearsal." if rule else ""
            self.screen.row(str(each.severity), f"{where}{each.message}{rule}{after} [{each.code}]", mood)

    # --- the two stages -------------------------------------------------------------------------------------------

    def run(self, cloud: LocalCloud, chats: ChatDataset, pairs: PreferenceDataset) -> None:
        """Both stages, and what came of them."""
        nova = self._client(cloud)
        sft = self._fitted(SFTRecipe(name="sft", model=self.model), chats)
        taught = self._stage(nova, "1  SFT", "teach the task on chats", sft, chats)
        dpo = self._fitted(DPORecipe(name="dpo", model=self.model), pairs).starting_from(taught)
        aligned = self._stage(nova, "2  DPO", "prefer the better answers", dpo, pairs, cloud if self.day else None)
        files = ("sft/recipe.yaml", "sft/plan.json", "dpo/recipe.yaml", "dpo/plan.json", "data/")
        held = ", ".join(name for name in files if (self.out / name).exists())
        self.screen.end(
            "SFT and DPO went through, rehearsed: no model was trained",
            [("SFT checkpoint", taught.uri), ("DPO checkpoint", aligned.uri), (f"{self.out}/", held)],
            _NEXT[self.platform],
        )

    def _client(self, cloud: LocalCloud) -> NovaClient:
        backend: Backend
        if self.platform is Platform.HYPERPOD:
            where, backend = f"cluster {cloud.cluster_name}", cloud.hyperpod(account=cloud.account)
        else:
            where, backend = "SageMaker Training Jobs", cloud.training_jobs(account=cloud.account)
        self.screen.row("cloud", f"{where} in {cloud.region}, rehearsed on 127.0.0.1", "quiet")
        return NovaClient(backend, output=cloud.output)

    def _fitted(self, recipe: R, data: Dataset) -> R:
        if data.report().records >= FEW:
            return recipe
        offer = Catalog.packaged().find(recipe.technique, self.model, recipe.tuning.kind, "ml.p5.48xlarge")[0]
        return recipe.replace(global_batch_size=min(offer.limits["global_batch_size"].bounds.allowed), warmup_steps=1)

    def _stage(
        self,
        nova: NovaClient,
        number: str,
        about: str,
        recipe: SFTRecipe | DPORecipe,
        data: Dataset,
        bad: LocalCloud | None = None,
    ) -> Checkpoint:
        self.screen.heading(number, about)
        plan = nova.draft(recipe, data)
        self._plan(plan, recipe)
        if self.day and bad:
            for told in self.day.before(bad):
                self.screen.row("fault", told, "warning")
            self.screen.row("clock", f"hurried: {PACE:.0f} seconds pass in one", "quiet")
        job = self._submit(nova, plan)
        if self.day and bad:
            self.day.during(bad)
        checkpoint = self._follow(job)
        where = checkpoint.uri.removeprefix("s3://").partition("/")[2]
        self.screen.row("checkpoint", f"{where} in the escrow bucket", "good")
        return checkpoint

    def _plan(self, plan: Plan, recipe: SFTRecipe | DPORecipe) -> None:
        folder = self.out / str(recipe.technique).lower()
        write_file(folder / "recipe.yaml", recipe.to_yaml())
        write_file(folder / "plan.json", plan.to_json())
        self.screen.row(
            "recipe",
            f"{recipe.model}, {recipe.tuning.kind}, {recipe.replicas} x {plan.target['instance_type']}, "
            f"batch {recipe.global_batch_size}, {plural(recipe.max_epochs, 'epoch')}"
            + (f", beta {recipe.beta:g}" if recipe.technique is Technique.DPO else ""),
        )
        start = "the SFT checkpoint" if recipe.checkpoint else plan.recipe.model_name_or_path
        self.screen.row("starts from", start)
        self.screen.row("plan", f"{plan.name}: {counted(plan.findings)}", "" if plan.ok else "error")
        self._findings(each for each in plan.findings if not each.where.startswith("data line"))  # said before
        if not plan.ok:
            self.screen.row("refused", "Nothing was sent.", "error")
            raise _Refused

    def _submit(self, nova: NovaClient, plan: Plan) -> Job:
        total = sum(each.size for each in plan.uploads)
        sent = 0

        def count(_: str, more: int) -> None:
            nonlocal sent
            sent += more

        with self.screen.busy("sending", lambda: f"{bar(sent, total)} {size(sent)} of {size(total)}"):
            job = nova.submit(plan, on_upload=count)
        self.screen.row("sent", f"{size(total)} of data, then {' and '.join(map(_kind, plan.objects))}")
        self.refs.append(job.ref)
        return job

    def _follow(self, job: Job) -> Checkpoint:
        begun = self.clock.monotonic()
        seen: list[str] = []

        def passed() -> float:
            return self.clock.monotonic() - begun

        def update(snapshot: JobSnapshot) -> None:
            told = in_a_line(snapshot)
            if not seen or seen[-1] != told:
                seen.append(told)
                self.screen.changed("job", f"{passed():4.1f} s  {told}")

        with self.screen.busy("job", lambda: f"{seen[-1] if seen else 'submitted'}  {passed():.1f} s"):
            last = self._last(job, update)
        if last.status is not JobStatus.SUCCEEDED:
            raise JobFailedError(f"{job.name} did not succeed: {in_a_line(last)}", ref=job.ref, snapshot=last)
        self.screen.summed_up("job", f"{' > '.join(seen)}  {passed():.1f} s")
        return self._checkpoint(job)

    def _last(self, job: Job, update: Callable[[JobSnapshot], None]) -> JobSnapshot:
        if self.day is None:
            return job.wait(600.0, update, interval=LOOK)
        if not self.day.watches:
            return job.wait(3600.0, update, interval=BAD_LOOK, patience=PATIENCE)
        for snapshot in job.events(3600.0):
            update(snapshot)
        return job.status()

    def _checkpoint(self, job: Job) -> Checkpoint:
        for _ in ticks(self.clock, interval=5.0, timeout=LATE if self.day else 0.0):
            with suppress(CheckpointError):
                return job.checkpoint()
        return job.checkpoint()
