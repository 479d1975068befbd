"""One stage on its way: claimed, submitted, followed, tried again, finished; its record says how far it has come."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from nova_dpo_sdk._time import Outage
from nova_dpo_sdk._version import __version__
from nova_dpo_sdk.backends import JobStatus, draft
from nova_dpo_sdk.chain._changes import changes
from nova_dpo_sdk.chain._policy import StagePolicy, is_infrastructure
from nova_dpo_sdk.chain._records import SCHEMA, Attempt, DataDigest, Outcome, Parent, StageRecord, StageStatus
from nova_dpo_sdk.errors import (
    AWSError,
    CheckpointError,
    ClusterError,
    ConfigurationError,
    DatasetError,
    JobError,
    JobFailedError,
    JobStoppedError,
    PlanRejectedError,
)
from nova_dpo_sdk.jobs import FIVE_DAYS, MANIFEST_GRACE, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends import Backend, JobSnapshot, Plan
    from nova_dpo_sdk.chain._store import ChainStore, Held
    from nova_dpo_sdk.datasets import Dataset
    from nova_dpo_sdk.errors import NovaError
    from nova_dpo_sdk.recipes import Checkpoint, Recipe

_log = logging.getLogger(__name__)

CLAIM_LASTS = timedelta(minutes=10)
"""How long a claim without a job keeps a changed stage out: whoever made it may be about to make the job."""
MANIFEST_LOOKS = 15.0
"""Seconds between two looks for a manifest that is not there yet."""
_GIVEN_UP = frozenset({Outcome.ABANDONED, Outcome.OVERDUE})
"""The job of an attempt that ended so is to be stopped."""
_FREE = frozenset({StageStatus.REFUSED, StageStatus.FAILED, StageStatus.STOPPED, StageStatus.RESET})
"""A stage so far holds neither a job nor a checkpoint: a changed one may take its place."""


class Client(Protocol):
    """What a chain needs of a client; `NovaClient` is one."""

    @property
    def backend(self) -> Backend:
        """Where jobs run."""
        ...

    @property
    def output(self) -> S3Uri:
        """Under which S3 prefix everything is kept."""
        ...

    def draft(
        self, recipe: Recipe, data: Dataset, *, validation: Dataset | None = None, allow: Iterable[str] = ()
    ) -> Plan:
        """Plan a run of any technique; checks that recipe and data belong together."""
        ...

    def submit(self, plan: Plan, *, check: bool = True, on_ready: Callable[[], None] | None = None) -> Job:
        """Send a plan exactly once."""
        ...

    def job(self, ref: str) -> Job:
        """Find a job again."""
        ...


@dataclass(frozen=True)
class Place:
    """The chain that a stage belongs to.

    Attributes:
        chain: Its name.
        client: Plans and submits.
        store: Keeps the records.
        made: Which stage made the checkpoint of which job, as far as this script has come.
    """

    chain: str
    client: Client
    store: ChainStore
    made: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def clock(self) -> Clock:
        """What tells the time."""
        return self.client.backend.clock

    def now(self) -> datetime:
        """The present moment."""
        return self.clock.now()

    def stop_given_up(self, record: StageRecord) -> None:
        """Stop the jobs that a record has given up: whoever wrote that may have died before it stopped them."""
        for each in record.attempts:
            if each.outcome not in _GIVEN_UP or each.ended_at is None:
                continue
            if each.ref != str(self.client.backend.ref(each.job)):
                _log.warning("%s, which was given up, lives elsewhere: only there can it be stopped", each.ref)
                continue
            job = self.client.job(each.ref)
            made = job.status().created_at
            if made is None or made <= each.ended_at:  # otherwise it is somebody else's, of the same plan
                job.cancel()


class _Overtaken(Exception):  # noqa: N818 - a signal inside this room, never seen by users
    """Somebody else wrote the record first."""


class Stage:
    """A handle on one stage of a chain, from `chain.start()`. Nothing in it is missed by a second run of the script.

    Attributes:
        name: The stage's name.
        plan: What the script says that the stage is: the plan of its first attempt. None without a script.
        checkpoint: What it left; None until it is finished.
        error: Why it did not finish; None while it may.
    """

    def __init__(self, place: Place, name: str, plan: Plan | None, policy: StagePolicy) -> None:
        self.name = name
        self.plan = plan
        self.checkpoint: Checkpoint | None = None
        self.error: NovaError | None = None
        self._place = place
        self._policy = policy
        self._held: Held | None = None
        self._job: Job | None = None
        self._trouble: JobSnapshot | None = None
        self._ended: tuple[JobSnapshot, float, CheckpointError] | None = None
        self._shown: object = None
        self._outage: Outage | None = None
        self._behind = False

    @classmethod
    def recorded(cls, place: Place, held: Held) -> Stage | None:
        """A handle without a script, to follow a job that is there; None when the record leaves nothing to follow."""
        record = held.record
        if not record.status.is_under_way:
            return None
        allowed = record.deadline_at - record.claimed_at if record.deadline_at else None
        stage = cls(place, record.stage, None, StagePolicy(retries=0, deadline=allowed))
        stage._held = held
        stage._job = place.client.job(record.current.ref)
        if record.status is StageStatus.CLAIMED and stage._job.status().status is JobStatus.DELETED:
            return None  # its job was never made, and making it takes the script
        return stage

    def __repr__(self) -> str:
        return f"Stage({self.name!r}, {str(self.record.status)!r})"

    @property
    def record(self) -> StageRecord:
        """The stage's record as this handle knows it; asks nobody."""
        return self._latest().record

    @property
    def job(self) -> Job:
        """The job of its current attempt; asks nobody."""
        return self._job or self._place.client.job(self.record.current.ref)

    @property
    def is_over(self) -> bool:
        """Whether it has finished or failed, as this handle knows; asks nobody."""
        return self.checkpoint is not None or self.error is not None

    def result(self, timeout: float = FIVE_DAYS, on_update: Callable[[JobSnapshot], None] | None = None) -> Checkpoint:
        """Wait for the stage, through every attempt that its policy allows, and give its checkpoint.

        Args:
            timeout: Seconds after which to stop waiting; the job runs on, and running the script again goes on.
            on_update: Called with every snapshot that differs from the one before.

        Raises:
            JobFailedError: It failed for good, or passed its deadline.
            JobStoppedError: Its job was stopped or deleted by somebody.
            JobTimeoutError: The time is up; the job runs on.
            CheckpointError: Its job succeeded, but no usable manifest appeared within ten minutes.
            DatasetError: Its job was lost, and its data changed, so that no next attempt can be planned.
        """
        from nova_dpo_sdk.chain._wait import Waiter

        def tell(_: str, snapshot: JobSnapshot) -> None:
            if on_update is not None:
                on_update(snapshot)

        Waiter(self._place, [self], timeout, tell).run()
        return self.outcome()

    def outcome(self) -> Checkpoint:
        """The checkpoint of a stage that is over.

        Raises:
            NovaError: It did not finish.
        """
        if self.error is not None:
            raise self.error
        if self.checkpoint is None:
            raise RuntimeError(f"stage {self.name} is not over")
        return self.checkpoint

    def _latest(self) -> Held:
        if self._held is None:
            place = self._place.store.place(self._place.chain, self.name)
            raise ConfigurationError(f"{place}, the record of stage {self.name}, was deleted while it was waited for.")
        return self._held

    @property
    def _script(self) -> Plan:
        if self.plan is None:
            raise RuntimeError(f"stage {self.name} is followed without its script")
        return self.plan

    def _is_mine(self, record: StageRecord) -> bool:
        return self.plan is None or record.is_for(self.plan.digest)

    @property
    def _deadline(self) -> datetime | None:
        return self._policy.ends(self.record.claimed_at)

    # Beginning: read the record, and do what it leaves to be done.

    def begin(self) -> Stage:
        """Bring the stage under way, find the job that is, or find that it is over."""
        self._read()
        while not self._step():
            self._read()
        return self

    def _read(self) -> None:
        self._held = self._place.store.read(self._place.chain, self.name)

    def _step(self) -> bool:
        """Do what the record leaves to be done; False when somebody else was faster, so that it must be read again."""
        if self._held is None:
            return self._claim()
        record = self._held.record
        if not self._is_mine(record):
            self._may_be_replaced(record)
            return self._claim()
        if record.status is StageStatus.CLAIMED:
            return self._submit_claimed()
        if record.status in (StageStatus.REFUSED, StageStatus.RESET):
            return self._claim()
        if record.status is StageStatus.FAILED and self._may_try_again(record):
            return self._try_again(record)
        self._take(record)
        if self.error is not None:
            raise self.error
        return True

    def _take(self, record: StageRecord) -> None:
        """Follow the job of a record, or take what it says about its end."""
        self._trouble = self._ended = None
        if not self._is_mine(record):
            raise ConfigurationError(self._changed(record))
        if record.status is StageStatus.FINISHED and record.checkpoint is not None:
            self._hold(record.checkpoint)
        elif record.status.is_under_way:
            self._job = self._place.client.job(record.current.ref)
        else:
            self._place.stop_given_up(record)
            self.error = _as_recorded(record)

    def _hold(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._place.made[checkpoint.job] = self.name

    def _may_be_replaced(self, record: StageRecord) -> None:
        if record.status in _FREE or (record.status is StageStatus.CLAIMED and self._claim_is_dead(record)):
            return
        raise ConfigurationError(self._changed(record))

    def _claim_is_dead(self, record: StageRecord) -> bool:
        if self._place.now() - record.current.claimed_at < CLAIM_LASTS:
            return False
        job = self._place.client.job(record.current.ref)
        dead = job.status().status is JobStatus.DELETED
        if dead:
            job.cancel()  # it may have left what belongs to a job without one
        return dead

    def _changed(self, record: StageRecord) -> str:
        lines = "".join(f"\n  - {each}" for each in changes(record, self._script))
        chain, name = self._place.chain, self.name
        return (
            f"Stage {name} of chain {chain} was begun with another recipe, other data or elsewhere (it is "
            f"{record.status}, job {record.current.ref}). What differs, then -> now:{lines}\n"
            f"Three ways out: give the changed stage another name; chain.reset({name!r}) to begin it anew as it is "
            f"now; or chain.accept({name!r}, recipe, data) to keep what was begun and take the change for none."
        )

    def _claim(self) -> bool:
        """Begin the stage, or begin it anew: the intent is written when all is in place but the job."""
        if self._held is not None:
            self._place.stop_given_up(self._held.record)
        plan, record = self._intent()
        try:
            job = self._place.client.submit(plan, on_ready=lambda: self._write_claim(record, plan))
        except _Overtaken:
            return False
        except (ClusterError, AWSError, PlanRejectedError, JobError) as error:
            return self._not_submitted(plan, error)
        return self._submitted(job)

    def _intent(self) -> tuple[Plan, StageRecord]:
        before = self._held.record.attempts if self._held else ()
        number = 1 + max((each.number for each in before if each.digest == self._script.digest), default=0)
        plan = self._attempt(number)
        now = self._place.now()
        record = _record(self._place, self.name, plan, (*before, _attempt_at(plan, self._script.digest, now)), now)
        return plan, record.replace(digest=self._script.digest, deadline_at=self._policy.ends(now))

    def _attempt(self, number: int) -> Plan:
        if number == 1:
            return self._script
        plan = draft(self._script.backend, replace(self._script.inputs, attempt=number))
        if plan.uploads != self._script.uploads:
            raise DatasetError(
                f"The data of stage {self.name} changed since it was planned, so attempt {number} would train on other "
                "data. Put them back, or plan again."
            )
        return plan

    def _write_claim(self, record: StageRecord, plan: Plan) -> None:
        store = self._place.store
        record = record.replace(plan=self._as_sent(plan))
        held = store.claim(record) if self._held is None else store.advance(self._held, record)
        if held is None:
            raise _Overtaken
        self._held = held

    def _as_sent(self, plan: Plan) -> dict[str, object]:
        """A plan as this chain's client sends it: without the placeholders of what its own has not learned."""
        backend = self._place.client.backend
        backend.resolve()
        return plan.on(backend).to_dict()

    def _submit_claimed(self) -> bool:
        """Go on from a claim: the job may be there or not, and a second create finds the first."""
        record = self.record
        self._place.stop_given_up(record)
        accepted = record.digest != self._script.digest
        if accepted and self._place.client.job(record.current.ref).status().status is JobStatus.DELETED:
            raise ConfigurationError(self._changed(record))  # what was accepted is not there to be kept
        if accepted:
            return self._submitted(self._place.client.job(record.current.ref))
        # A later attempt is not held up by what took the place of the one before it, such as a missing node.
        plan = self._attempt(record.current.number)
        try:
            job = self._place.client.submit(plan, check=len(_this_round(record)) == 1)
        except (ClusterError, AWSError, PlanRejectedError, JobError) as error:
            return self._not_submitted(plan, error)
        return self._submitted(job)

    def _submitted(self, job: Job) -> bool:
        self._job = job
        now = self._place.now()
        try:
            self._write(
                lambda record: record.replace(
                    status=StageStatus.SUBMITTED,
                    submitted_at=now,
                    attempts=_ending_in(record, submitted_at=now),
                )
            )
        except _Overtaken:
            if not self._is_mine(self.record) and not job.adopted:
                job.cancel()  # the stage became another one while its job was made
            return False
        return True

    def _not_submitted(self, plan: Plan, error: ClusterError | AWSError | PlanRejectedError | JobError) -> bool:
        """Write down what is known now: that there is no job, or how the one that was there has ended."""
        record = self._held.record if self._held else None
        if record is None or record.status is not StageStatus.CLAIMED or record.current.job != plan.name:
            raise error  # the claim was not written
        if isinstance(error, (JobFailedError, JobStoppedError)) and error.snapshot is not None:
            self._job = self._place.client.job(error.ref)
            self.see(error.snapshot)
            if self.error is not None:
                raise self.error
            return True
        if _is_refusal(error) and self._has_no_job(record):
            self._end(StageStatus.REFUSED, Outcome.REFUSED, type(error).__name__, str(error))
        raise error

    def _has_no_job(self, record: StageRecord) -> bool:
        """Whether it is certain that there is none: a refusal may answer the second try of a create that was heard."""
        try:
            return self._place.client.job(record.current.ref).status().status is JobStatus.DELETED
        except (ClusterError, AWSError):
            return False

    # Following: what a snapshot, or the passing of time, changes.

    def see(self, snapshot: JobSnapshot) -> None:
        """Take note of what was seen of the stage's job."""
        self.job.remember(snapshot)
        try:
            self._see_start(snapshot)
            if snapshot.status.is_terminal:
                self._over(snapshot)
            else:
                self._see_trouble(snapshot)
        except _Overtaken:
            self._take(self.record)
        self._outage = None  # only here: that the record can be read does not say that the rest can be done

    def _see_start(self, snapshot: JobSnapshot) -> None:
        """Keep when it first had an instance, as far as was seen: later pods, or none, tell another moment.

        Of a job that lost its first pods before anybody looked, such as by preemption, the hours before are not known.
        """
        if self.record.current.started_at is not None:
            return
        started = snapshot.started_at or self._asked_start(snapshot)
        if started is not None:
            self._write(lambda record: record.replace(attempts=_ending_in(record, started_at=started)))

    def _asked_start(self, snapshot: JobSnapshot) -> datetime | None:
        """Of a job that is over, asked of itself: lists of training jobs do not tell."""
        if not snapshot.status.is_terminal or snapshot.status is JobStatus.DELETED:
            return None
        try:
            return self._place.client.job(snapshot.ref).status().started_at
        except (ClusterError, AWSError):
            return None  # its hours count from when it was submitted then

    def news(self, snapshot: JobSnapshot) -> bool:
        """Whether a snapshot is another one than the last that was asked about."""
        face = (snapshot.ref, snapshot.face)
        told, self._shown = self._shown, face
        return face != told

    def look(self) -> None:
        """Take note of the time: a deadline, a manifest that was waited for, a trouble that lasts too long."""
        try:
            if self._deadline is not None and self._place.now() >= self._deadline:
                self._overdue()
            elif self._ended is not None:
                self._over(self._ended[0])
            elif self._trouble is not None:
                self._bear(self._trouble)
        except _Overtaken:
            self._take(self.record)

    # When the platform does not answer.

    def falls_behind(self, error: AWSError | ClusterError) -> bool:
        """Whether an error that came halfway is borne with; `catch_up()` is due then."""
        self._behind = True
        self._outage = self._outage or Outage(self._place.clock)
        return self._outage.bears(error)

    @property
    def is_behind(self) -> bool:
        """Whether something failed halfway, so that the record may say more than this handle knows."""
        return self._behind

    def catch_up(self) -> None:
        """Read the record again, and do what it leaves to be done."""
        job, ended = self._job, self._ended
        self._read()
        self._go_on()
        self._behind = False
        if ended is not None and not self.is_over and job and self._job and job.ref == self._job.ref:
            self._job.remember(ended[0])
            self._ended = ended  # its manifest is waited for no longer because of this

    def wait_anew(self) -> None:
        """Forget that an earlier wait ended because the platform did not answer: that was no end of the stage."""
        if isinstance(self.error, (AWSError, ClusterError)) and self.record.status is not StageStatus.REFUSED:
            self.error = self._outage = None
            self._behind = True

    @property
    def is_followed(self) -> bool:
        """Whether its job may still change; otherwise only its manifest is waited for."""
        return self._ended is None

    def horizon(self) -> float:
        """Seconds until `look()` may have something to do."""
        dues = [math.inf]
        if self._deadline is not None:
            dues.append((self._deadline - self._place.now()).total_seconds())
        if self._ended is not None:
            dues.append(MANIFEST_LOOKS)
        elif self._trouble is not None:
            dues.append(self._policy.patience.grace(self._trouble.status) - self._lasted)
        return max(0.0, min(dues))

    def _see_trouble(self, snapshot: JobSnapshot) -> None:
        borne = self._policy.patience.grace(snapshot.status)
        self._keep_trouble(str(snapshot.status) if borne < math.inf else "")
        self._trouble = snapshot
        self._bear(snapshot)

    def _keep_trouble(self, trouble: str) -> None:
        """Write down that a trouble begins or ends, for who looks only now and then, each time with a new handle."""
        if trouble == self.record.current.trouble:
            return
        since = self._place.now() if trouble else None

        def change(record: StageRecord) -> StageRecord:
            if trouble == record.current.trouble:
                return record  # somebody else has seen it before
            return record.replace(attempts=_ending_in(record, trouble=trouble, trouble_since=since))

        self._write(change)

    @property
    def _lasted(self) -> float:
        """Seconds for which its job has been in this trouble, whoever has seen it.

        One that ended and came back while nobody looked began when the platform says. What it says of a crash loop is
        its last crash.
        """
        since, seen = self.record.current.trouble_since, self._trouble
        if since and seen and seen.since and seen.status is not JobStatus.DEGRADED:
            since = max(since, seen.since)
        return (self._place.now() - since).total_seconds() if since else 0.0

    def _bear(self, snapshot: JobSnapshot) -> None:
        if not self._policy.patience.ends(snapshot, self._lasted):
            return
        if is_infrastructure(snapshot) and self._tries_left(self.record):
            self._next_attempt(Outcome.ABANDONED, snapshot)
            return
        # It is not over, and may get on after all: the next run follows it again, with new patience.
        self._keep_trouble("")
        self.error = JobFailedError(
            f"Stage {self.name}: {self.job.name} does not get on: {snapshot.summary} It is still there and holds its "
            f"instances: job.cancel() frees them, and chain.reset({self.name!r}) begins the stage anew.",
            ref=snapshot.ref,
            snapshot=snapshot,
        )

    def _over(self, snapshot: JobSnapshot) -> None:
        if snapshot.status is JobStatus.FAILED:
            self._failed(snapshot)
            return
        try:
            checkpoint = self.job.checkpoint_of(snapshot)
        except CheckpointError as missing:
            self._await_manifest(snapshot, missing)
        except JobStoppedError as stopped:
            self._stopped(snapshot, stopped)
        else:
            self._finish(snapshot, checkpoint)

    def _await_manifest(self, snapshot: JobSnapshot, missing: CheckpointError) -> None:
        now = self._place.clock.monotonic()
        since = self._ended[1] if self._ended else now
        self._ended = (snapshot, since, missing)
        if now - since >= MANIFEST_GRACE:
            self.error = missing  # the record stays as it is: the next run looks for it again

    def _finish(self, snapshot: JobSnapshot, checkpoint: Checkpoint) -> None:
        now = self._place.now()
        self._write(
            lambda record: record.replace(
                status=StageStatus.FINISHED,
                checkpoint=checkpoint,
                finished_at=now,
                attempts=_ending_in(
                    record,
                    ended_at=(snapshot.since if snapshot.status is JobStatus.SUCCEEDED else None) or now,
                    outcome=Outcome.SUCCEEDED,
                    checkpoint=checkpoint.uri,
                    trouble="",  # it may have ended between two looks
                    trouble_since=None,
                ),
            )
        )
        self._hold(checkpoint)

    def _failed(self, snapshot: JobSnapshot) -> None:
        if is_infrastructure(snapshot) and self._tries_left(self.record):
            self._next_attempt(Outcome.FAILED, snapshot)
            return
        self._end(StageStatus.FAILED, Outcome.FAILED, snapshot.reason, snapshot.message, snapshot.since)
        self.error = _failure(self.record, snapshot)

    def _stopped(self, snapshot: JobSnapshot, stopped: JobStoppedError) -> None:
        if self._deadline is not None and self._place.now() >= self._deadline:
            self._overdue()
            return
        self._end(StageStatus.STOPPED, Outcome.STOPPED, snapshot.reason, str(stopped), snapshot.since)
        self.error = _as_recorded(self.record)

    def _overdue(self) -> None:
        message = f"it was not finished by its deadline, {self._deadline:%Y-%m-%d %H:%M:%S %Z}, and was stopped"
        self._end(StageStatus.FAILED, Outcome.OVERDUE, "DeadlineExceeded", message)
        self.job.cancel()
        self.error = _as_recorded(self.record)

    # Trying again.

    def _tries_left(self, record: StageRecord) -> bool:
        return len(_this_round(record)) <= self._policy.retries

    def _may_try_again(self, record: StageRecord) -> bool:
        """Whether a stage that failed in an earlier run has attempts left under the policy of this one."""
        return record.current.retryable and self._tries_left(record)

    def _try_again(self, record: StageRecord) -> bool:
        self._place.stop_given_up(record)  # the next attempt may be one that cannot be planned
        try:
            self._claim_next(record.attempts)
        except _Overtaken:
            return False
        return self._submit_claimed()

    def _next_attempt(self, outcome: Outcome, snapshot: JobSnapshot) -> None:
        # What is given up has held its instances until now, since whenever it has been in trouble.
        ended_at = (snapshot.since if outcome is Outcome.FAILED else None) or self._place.now()
        ended = _ending_in(
            self.record,
            ended_at=ended_at,
            outcome=outcome,
            reason=snapshot.reason,
            message=snapshot.message,
            retryable=True,
        )
        try:
            self._claim_next(ended)
        except DatasetError:  # no next attempt can be planned, and this one is over all the same
            self._end(StageStatus.FAILED, outcome, snapshot.reason, snapshot.message, ended_at)
            self._place.stop_given_up(self.record)
            raise
        self._go_on()

    def _go_on(self) -> None:
        """Submit what is claimed, or follow what is there, or take what the record says about its end."""
        while self.plan and self.record.status is StageStatus.CLAIMED and self._is_mine(self.record):
            if self._submit_claimed():
                return
            self._read()
        self._take(self.record)

    def _claim_next(self, ended: tuple[Attempt, ...]) -> None:
        numbers = [each.number for each in ended if each.digest == self._script.digest]
        plan = self._attempt(1 + max(numbers, default=0))
        now = self._place.now()
        mine, sent = _attempt_at(plan, self._script.digest, now), self._as_sent(plan)
        self._trouble = self._ended = None
        self._write(
            lambda record: record.replace(
                status=StageStatus.CLAIMED,
                digest=self._script.digest,
                plan=sent,
                attempts=(*ended, mine),
                finished_at=None,
                submitted_at=None,
            )
        )

    # Writing.

    def _end(
        self, status: StageStatus, outcome: Outcome, reason: str, message: str, ended_at: datetime | None = None
    ) -> None:
        now = self._place.now()
        last = self.job.last
        retryable = outcome in (Outcome.FAILED, Outcome.ABANDONED) and last is not None and is_infrastructure(last)
        self._write(
            lambda record: record.replace(
                status=status,
                finished_at=now,
                attempts=_ending_in(
                    record,
                    ended_at=ended_at or now,
                    outcome=outcome,
                    reason=reason,
                    message=message,
                    retryable=retryable,
                ),
            )
        )

    def _write(self, change: Callable[[StageRecord], StageRecord]) -> None:
        """Advance the record; when somebody else has, and it still is about this job, do it again on theirs.

        Raises:
            _Overtaken: It is not under way any more, or with another job; `record` is what they wrote.
        """
        mine = self.record.current.job
        while True:
            held = self._latest()
            changed = change(held.record)
            written = self._place.store.advance(held, changed.replace(sdk=__version__, deadline_at=self._deadline))
            if written is not None:
                self._held = written
                return
            self._read()
            if self._held is None or self.record.current.job != mine or not self.record.status.is_under_way:
                raise _Overtaken


def _is_refusal(error: NovaError) -> bool:
    """Whether a plan was judged and turned down; no answer, or a fault of the service, says nothing about it."""
    if isinstance(error, PlanRejectedError):
        return True
    if not isinstance(error, (ClusterError, AWSError)) or error.may_pass:
        return False
    taken = isinstance(error, ClusterError) and error.reason == "AlreadyExists"
    return 400 <= error.status < 500 and not taken


def _attempt_at(plan: Plan, digest: str, now: datetime) -> Attempt:
    return Attempt(number=plan.attempt, digest=digest, job=plan.name, ref=plan.ref, claimed_at=now)


def _ending_in(record: StageRecord, **changed: object) -> tuple[Attempt, ...]:
    return (*record.attempts[:-1], record.current.replace(**changed))


def _this_round(record: StageRecord) -> list[Attempt]:
    """The attempts since the stage was begun, or begun anew."""
    return [each for each in record.attempts if each.claimed_at >= record.claimed_at]


def _parent(place: Place, checkpoint: Checkpoint | None) -> Parent | None:
    if checkpoint is None:
        return None
    stage = place.made.get(checkpoint.job, "") if checkpoint.job else ""
    return Parent(uri=checkpoint.uri, job=checkpoint.job, stage=stage)


def _record(place: Place, stage: str, plan: Plan, attempts: tuple[Attempt, ...], now: datetime) -> StageRecord:
    recipe, backend = plan.recipe, plan.backend
    instance = backend.catalog.instance(backend.instance_type)
    return StageRecord(
        schema=SCHEMA,
        sdk=__version__,
        chain=place.chain,
        stage=stage,
        status=StageStatus.CLAIMED,
        digest=plan.digest,
        technique=recipe.technique,
        model=recipe.model,
        tuning=recipe.tuning.kind,
        platform=backend.platform,
        instance_type=backend.instance_type,
        replicas=recipe.replicas,
        gpus=instance.gpus if instance else 0,
        parent=_parent(place, recipe.checkpoint),
        data=tuple(
            DataDigest(
                role=each.role,
                file=each.path.name,
                uri=each.uri,
                sha256=each.sha256,
                records=each.records,
                size=each.size,
            )
            for each in plan.uploads
            if each.role != "image"
        ),
        plan=plan.to_dict(),
        attempts=attempts,
        claimed_at=now,
    )


def _failure(record: StageRecord, snapshot: JobSnapshot | None = None) -> JobFailedError:
    last = record.current
    why = ": ".join(part for part in (last.reason, last.message) if part) or "no reason was given"
    tries = len(_this_round(record))
    count = f" after {tries} attempts" if tries > 1 else ""
    again = f"Mend what that names and run it again, changed; or chain.reset({record.stage!r}) to try the same anew."
    if last.retryable:
        again = f"Run it again with StagePolicy(retries={tries}) or more, or chain.reset({record.stage!r})."
    return JobFailedError(
        f"Stage {record.stage} of chain {record.chain} failed{count}: {last.job}: {why}. {again}",
        ref=last.ref,
        snapshot=snapshot,
    )


def _as_recorded(record: StageRecord) -> JobError:
    """The error of a stage that is over without a checkpoint, from its record alone."""
    if record.status is StageStatus.FAILED:
        return _failure(record)
    last = record.current
    what = "was reset while it was waited for" if record.status is StageStatus.RESET else f"was {record.status}"
    said = f" ({last.message})" if last.message else ""
    return JobStoppedError(
        f"Stage {record.stage} of chain {record.chain} {what}{said}: what somebody has stopped is not begun again "
        f"unasked. chain.reset({record.stage!r}) begins it anew.",
        ref=last.ref,
    )
