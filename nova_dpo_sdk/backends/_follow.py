"""Following many jobs at the price of one: changes are sent where the role may watch, and looked for where not."""

from __future__ import annotations

import logging
import queue
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import Outage, SystemClock, ticks, time_left
from nova_dpo_sdk.backends._facts import JobFacts, PodFacts, job_facts, job_of_pod, pod_facts
from nova_dpo_sdk.backends._look import Looker, selectors
from nova_dpo_sdk.backends._resources import PODS, PYTORCHJOBS
from nova_dpo_sdk.backends._roster import Roster
from nova_dpo_sdk.backends._tables import Rows, Tables, versions
from nova_dpo_sdk.backends._watch import PACE, SILENCE, Change, Told, Watcher
from nova_dpo_sdk.errors import AWSError, ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.backends._contract import JobRef, JobSnapshot
    from nova_dpo_sdk.backends._kubernetes import KubernetesAPI
    from nova_dpo_sdk.backends._resources import Resource

_log = logging.getLogger(__name__)

WHY = 60.0
"""Seconds after which a queue that holds jobs back is asked again why; it changes its mind without a trace in them."""
SWEEP = 10
"""Every so many ticks the versions of all jobs are compared: a few changes show in no cell."""
RESYNC = 1800.0
"""Seconds after which what was watched is checked against a list of everything."""
_JITTER = 0.2
_LONGEST_WAIT = 60.0


class Follower:
    """Follows jobs of one namespace, some or thousands, with a number of requests that does not grow with them.

    Where the role may watch, changes come by themselves, within a second. Where it may not, and on any clock but the
    machine's own, two lists as Tables are asked for at each tick, and only what changed in them is looked at.

    Args:
        api: The cluster.
        namespace: Where the jobs are.
        names: Which jobs.
        ref_of: Gives the reference of a job of that name.
        clock: Tells the time.
        interval: Seconds between two ticks.
        timeout: Seconds after which to stop.
        silence: Seconds without a byte after which a watch's stream is given up.
        pace: Seconds at least from one stream of a watch to the next.

    Attributes:
        roster: What is known of the jobs.
        looker: Looks at jobs.
        poller: Looks for changes.
    """

    def __init__(
        self,
        api: KubernetesAPI,
        namespace: str,
        names: Iterable[str],
        *,
        ref_of: Callable[[str], str],
        clock: Clock,
        interval: float,
        timeout: float,
        silence: float = SILENCE,
        pace: float = PACE,
    ) -> None:
        self.roster = Roster(names, ref_of)
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._interval = interval
        self._ends = clock.monotonic() + timeout
        self._silence = silence
        self._pace = pace
        self.looker = Looker(api, namespace, self.roster)
        self.poller = Poller(api, namespace, self.roster, self.looker)
        self._heard: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._outage = Outage(clock)
        self._held_anew = False

    def snapshots(self) -> Iterator[JobSnapshot]:
        """A first snapshot of each job, then one whenever a job's changes, until all are over or the time is up."""
        if not self.roster:
            return
        # A stream moves with the machine's time, and cannot be waited for on any other.
        if isinstance(self._clock, SystemClock):
            yield from self._watched()
        if self.roster and self._left():
            yield from self._polled()

    def _left(self) -> float:
        return time_left(self._clock, self._ends)

    def _polled(self) -> Iterator[JobSnapshot]:
        for _ in ticks(self._clock, interval=self._interval, timeout=self._left(), jitter=_JITTER):
            self._try(self.poller.tick)
            yield from self.roster.settle(self._clock.now())
            if not self.roster:
                return

    def _try(self, ask: Callable[[], Any]) -> None:
        """Ask, and bear with a cluster that does not answer for a while; it must have answered once before."""
        try:
            ask()
        except ClusterError as error:
            if not self.poller.begun or not self._outage.bears(error):
                raise
            _log.warning("jobs in %s could not be looked at, and will be again: %s", self._namespace, error)
        else:
            self._outage.answered()

    def _watched(self) -> Iterator[JobSnapshot]:
        """Until the jobs are over, the time is up, or watching turns out not to be allowed."""
        watchers: list[Watcher] = []
        allowed = True
        try:
            while allowed and self.roster and self._left():
                _stop(watchers)
                listed = self._load()
                news = self.roster.settle(self._clock.now())
                # Begun before anything is told: a caller may take its time with each snapshot.
                if self.roster and listed and self.looker.lists_pods:
                    watchers = self._watch(*listed)
                yield from news
                allowed = bool(watchers) and (yield from self._listen(watchers))
        finally:
            _stop(watchers)

    def _load(self) -> tuple[str, str] | None:
        """Look at everything; None when the cluster did not answer, and polling is to bear with it."""
        listed: list[tuple[str, str]] = []
        self._try(lambda: listed.append(self.looker.load()))
        self.poller.begun = True
        return listed[0] if listed else None

    def _watch(self, jobs: str, pods: str) -> list[Watcher]:
        chosen = selectors(self.roster.unfinished)
        kinds: list[tuple[Resource, str, str, Callable[[dict[str, Any]], Any]]] = [
            (PYTORCHJOBS, jobs, chosen[0], job_facts),
            (PODS, pods, chosen[1], pod_facts),
        ]
        made = [
            Watcher(
                self._api,
                resource,
                self._namespace,
                version,
                selector=selector,
                make=make,
                tell=self._heard.put,
                silence=self._silence,
                pace=self._pace,
            )
            for resource, version, selector, make in kinds
        ]
        for each in made:
            each.start()
        return made

    def _listen(self, watchers: list[Watcher]) -> Generator[JobSnapshot, None, bool]:
        """Pass on what is told; ends with whether it is worth while to list anew and to watch again."""
        resync = self._clock.monotonic() + RESYNC
        why = self._clock.monotonic() + WHY
        while self.roster and self._left():
            for told in self._next():
                if told.watcher not in watchers:
                    continue  # the last words of a watcher that was stopped
                if told.change is Change.REFUSED:
                    _log.info("watching is not possible here, so jobs are polled: %s", told.error)
                    return False
                if told.change is Change.ENDED and told.error is not None:
                    raise told.error
                if told.change in (Change.EXPIRED, Change.BROKEN):
                    return True
                self._take(told)
            if self._held_anew or (self._clock.monotonic() > why and self.roster.has_held()):
                self._held_anew = False
                why = self._clock.monotonic() + WHY
                self._try(self.looker.ask_the_queue)
            yield from self.roster.settle(self._clock.now())
            if self._clock.monotonic() > resync:
                return True
        return True

    def _next(self) -> list[Told]:
        """Everything that was told, waiting for it until something is due anyway."""
        due = self.roster.next_due()
        wait = min(self._left(), _LONGEST_WAIT)
        if due is not None:
            wait = min(wait, (due - self._clock.now()).total_seconds() + 0.01)
        heard: list[Told] = []
        try:
            heard.append(self._heard.get(timeout=max(0.0, wait)))
            while True:
                heard.append(self._heard.get_nowait())
        except queue.Empty:
            return heard

    def _take(self, told: Told) -> None:
        thing: JobFacts | PodFacts = told.thing
        if isinstance(thing, JobFacts):
            if told.change is Change.CHANGED:
                self.roster.put_job(thing)
                self._held_anew |= thing.is_held
            else:
                # It may have been made anew, or lost the label that is watched for.
                self._try(lambda: self.looker.look({thing.name}))
        elif told.change is Change.CHANGED:
            self.roster.put_pod(thing)
        else:
            self.roster.drop_pod(thing.replica.name, thing.job, thing.uid)


class Poller:
    """Looks for changes at each tick: two lists as Tables, and then only at what differs from the tick before.

    Args:
        api: The cluster.
        namespace: Where the jobs are.
        roster: What is known of them.
        looker: Looks at jobs.
    """

    def __init__(self, api: KubernetesAPI, namespace: str, roster: Roster, looker: Looker) -> None:
        self._api = api
        self._namespace = namespace
        self._roster = roster
        self._looker = looker
        self._of_jobs = Tables(api, PYTORCHJOBS, namespace)
        self._of_pods = Tables(api, PODS, namespace)
        self._jobs = Rows()
        self._pods = Rows()
        self._count = 0
        self.begun = False
        """Whether everything was looked at once."""

    def tick(self) -> None:
        """Bring the roster up to date."""
        # Before anything else, so that what happens while it is looked at differs at the next tick.
        jobs, pods = self._read()
        if jobs is None or not self.begun:
            self._looker.load()
            self.begun = True
        else:
            self._count += 1
            self._looker.look(self._changed(jobs, pods))
        self._jobs, self._pods = jobs or Rows(), pods
        self._looker.look_up_pods()

    def _read(self) -> tuple[Rows | None, Rows]:
        of_jobs, of_pods = selectors(self._roster.unfinished)
        jobs = self._of_jobs.read(of_jobs)
        if not self._looker.lists_pods:
            return jobs, Rows()
        try:
            return jobs, self._of_pods.read(of_pods) or Rows()
        except ClusterError as error:
            if error.status != 403:
                raise
            self._looker.lists_pods = False
            return jobs, Rows()

    def _changed(self, jobs: Rows, pods: Rows) -> set[str]:
        changed = jobs.changed_since(self._jobs)
        changed |= {job_of_pod(name) for name in pods.changed_since(self._pods)}
        changed |= self._roster.unfinished - jobs.faces.keys()
        changed |= self._roster.unsettled()
        if self._count % SWEEP == 0:
            changed |= self._swept()
        return changed

    def _swept(self) -> set[str]:
        """What has changed without a trace in any cell, such as a queue that let a job in."""
        seen = versions(self._api, PYTORCHJOBS, self._namespace, selectors(self._roster.unfinished)[0]) or {}
        changed = {name for name in self._roster.unfinished if seen.get(name) != self._roster.version(name)}
        return changed | self._roster.waiting()


def follow_each(
    look: Callable[[JobRef], JobSnapshot],
    refs: Iterable[JobRef],
    *,
    clock: Clock,
    interval: float,
    timeout: float,
) -> Iterator[JobSnapshot]:
    """Follow jobs where there is no cheaper way than to look at each.

    Args:
        look: Looks at one job.
        refs: Which jobs.
        clock: Tells the time.
        interval: Seconds between two looks at a job.
        timeout: Seconds after which to stop.

    Yields:
        A first snapshot of each job, then one whenever a job's changes.

    Raises:
        AWSError: A look was refused, a first look had no answer, or none has had for a quarter of an hour.
        ClusterError: The same of a cluster.
    """
    outage = Outage(clock)
    told: dict[JobRef, JobSnapshot | None] = dict.fromkeys(refs)
    for _ in ticks(clock, interval=interval, timeout=timeout, jitter=_JITTER):
        for ref, before in list(told.items()):
            try:
                snapshot = look(ref)
            except (AWSError, ClusterError) as error:
                if before is None or not outage.bears(error):
                    raise
                _log.warning("%s could not be looked at, and will be again: %s", ref, error)
                continue
            outage.answered()
            if before is None or before.face != snapshot.face:
                yield snapshot
            told[ref] = snapshot
            if snapshot.status.is_terminal:
                del told[ref]
        if not told:
            return


def _stop(watchers: list[Watcher]) -> None:
    for each in watchers:
        each.stop()
    for each in watchers:
        each.join()
    watchers.clear()
