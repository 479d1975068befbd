"""Following one job or thousands: what is seen, at what price, and what happens when the cluster has a bad day."""

from __future__ import annotations

import copy
import itertools
import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from scripted import Reply, ScriptedServer, make_authority

from nova_dpo_sdk import DPORecipe, JobStatus, LoRA, NovaClient, NovaModel, SFTRecipe
from nova_dpo_sdk._time import FakeClock, RetryPolicy, SystemClock
from nova_dpo_sdk.backends._follow import Follower, follow_each
from nova_dpo_sdk.backends._kubernetes import PYTORCHJOBS, KubernetesAPI
from nova_dpo_sdk.backends._tables import Rows, Tables
from nova_dpo_sdk.errors import ClusterError, ConfigurationError, JobTimeoutError
from nova_dpo_sdk.local import LocalCloud, Script
from nova_dpo_sdk.local._resources import PODS as POD_KIND
from nova_dpo_sdk.local._resources import PYTORCHJOBS as JOB_KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

DPO = DPORecipe(name="support-dpo", model=NovaModel.MICRO, replicas=2, tuning=LoRA(alpha=64), warmup_steps=1)
SFT = SFTRecipe(name="support-sft", model=NovaModel.MICRO, replicas=2, tuning=LoRA(alpha=64), warmup_steps=1)


def named(name):
    return DPO.model_copy(update={"name": name})


@pytest.fixture
def submit(nova, pairs):
    return lambda recipe=DPO: nova.submit(nova.plan(recipe, pairs), check=False)


def multiply(cloud, nova, job, count, *, status=None):
    """Put copies of a job into the cluster behind the operator's back, and give handles on them."""
    cloud.store.listeners.remove(cloud.trainer.operator._notice)
    made = cloud.store.get(JOB_KIND, "kubeflow", job.name)
    names = [f"many-{number:05}" for number in range(count)]
    for name in names:
        text = json.dumps({"metadata": {"labels": made["metadata"]["labels"]}, "spec": made["spec"]})
        body = json.loads(text.replace(job.name, name)) | {"apiVersion": made["apiVersion"], "kind": made["kind"]}
        body["metadata"] |= {"name": name, "namespace": "kubeflow"}
        cloud.store.create(JOB_KIND, "kubeflow", body, cloud.clock.now())
        if status:
            cloud.store.set_status(JOB_KIND, "kubeflow", name, status, cloud.clock.now())
    return [nova.job(str(nova.backend.ref(name))) for name in names]


def running():
    return {"conditions": [condition("Created"), condition("Running")]}


def condition(kind, status="True"):
    return {
        "type": kind,
        "status": status,
        "reason": f"PyTorchJob{kind}",
        "message": f"{kind} it is",
        "lastTransitionTime": SystemClock().now().strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def test_jobs_are_found_with_what_they_are_doing(cloud, clock, nova, chats, submit):
    cloud.script_fault("crash-loop", job="support-sft-*")
    taught = nova.submit(nova.plan(SFT, chats), check=False)
    clock.sleep(60)
    aligned = submit()
    clock.sleep(10)
    before = len(cloud.requests)
    found = nova.jobs()
    assert len(cloud.requests) - before == 2
    assert [(job.name, job.last.status) for job in found] == [
        (aligned.name, JobStatus.RUNNING),
        (taught.name, JobStatus.DEGRADED),
    ]
    assert "last='degraded'" in repr(found[1])
    assert "CrashLoopBackOff" in found[1]._repr_html_()
    assert [job.name for job in nova.jobs(name="support-sft")] == [taught.name]
    assert [job.name for job in nova.jobs(technique="dpo")] == [aligned.name]
    assert [job.name for job in nova.jobs(since=timedelta(seconds=30))] == [aligned.name]
    assert nova.jobs(since=clock.now() + timedelta(seconds=1)) == []


def test_jobs_of_others_are_not_ours(nova, submit):
    mine = submit()
    other = copy.deepcopy(nova.backend.api().get(PYTORCHJOBS, "kubeflow", mine.name))
    other["metadata"] = {"name": "foreign", "namespace": "kubeflow", "labels": {"app": "foreign"}}
    nova.backend.api().create(PYTORCHJOBS, "kubeflow", {k: v for k, v in other.items() if k != "status"})
    assert [job.name for job in nova.jobs()] == [mine.name]


def test_questions_that_cannot_be_meant_are_refused(nova, clock):
    for wrong in ({"name": ""}, {"technique": "PPO"}, {"since": clock.now().replace(tzinfo=None)}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            nova.jobs(**wrong)


@pytest.mark.parametrize("role", ["namespaced", "team"])
def test_the_roles_of_hyperpod_suffice(clock, pairs, role):
    namespace = "kubeflow" if role == "namespaced" else "hyperpod-ns-research"
    with LocalCloud(clock=clock, role=role, namespaces=[namespace]) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        cloud.script_fault("crash-loop", times=3)
        job = nova.submit(nova.plan(DPO, pairs), check=False)
        news = [each.status for each in nova.watch([job], interval=2.0)]
        assert news[-1] is JobStatus.SUCCEEDED
        assert JobStatus.DEGRADED in news
        clock.sleep(1)
        found = nova.jobs()[0]
        assert found.last.status is JobStatus.SUCCEEDED


def test_without_the_right_to_see_pods_it_is_said_what_cannot_be_known(clock, pairs):
    with LocalCloud(clock=clock) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        nova.submit(nova.plan(DPO, pairs), check=False)
        clock.sleep(10)
        cloud.role = "namespaced"
        (job,) = nova.jobs()
        assert job.last.status is JobStatus.RUNNING
        assert "crash loop would look the same" in job.last.message


def test_watching_tells_every_change_once_and_ends_when_all_is_over(cloud, nova, submit):
    cloud.script_fault("queued", job="later-*", lasts=30)
    jobs = [submit(), submit(named("later"))]
    told = list(nova.watch(jobs, interval=1.0))
    first = {each.ref for each in told[:2]}
    assert first == {job.ref for job in jobs}
    for job in jobs:
        mine = [each for each in told if each.ref == job.ref]
        assert mine[-1].status is JobStatus.SUCCEEDED
        faces = [each.face for each in mine]
        assert all(one != two for one, two in itertools.pairwise(faces))
        assert job.last == mine[-1]
    assert JobStatus.QUEUED in [each.status for each in told if each.ref == jobs[1].ref]


def test_events_of_one_job_are_its_history(submit):
    told = [each.status for each in submit().events(interval=1.0)]
    assert told == [JobStatus.PENDING, JobStatus.STARTING, JobStatus.RUNNING, JobStatus.SUCCEEDED]


def test_a_finished_job_is_told_once(clock, nova, submit):
    job = submit()
    clock.sleep(60)
    assert [each.status for each in nova.watch([job, job])] == [JobStatus.SUCCEEDED]
    assert list(nova.watch([])) == []


def test_the_end_of_the_time_names_who_runs_on(cloud, nova, submit):
    cloud.script_fault("operator-silent", job="later-*")
    done, late = submit(), submit(named("later"))
    with pytest.raises(JobTimeoutError, match=r"1 of 2 jobs running on: later-.*stalled") as error:
        list(nova.watch([done, late], timeout=600, interval=30))
    assert error.value.ref == late.ref
    assert error.value.snapshot.status is JobStatus.STALLED


def test_a_job_of_another_place_is_refused_at_once(cloud, submit):
    elsewhere = NovaClient(cloud.hyperpod(namespace="default"), output=cloud.output)
    with pytest.raises(ConfigurationError, match="does not live here"):
        elsewhere.watch([submit()])


def test_a_job_that_is_deleted_is_told_as_deleted_not_failed(nova, submit):
    job = submit()
    told = []
    for each in nova.watch([job], interval=1.0):
        told.append(each.status)
        if each.status is JobStatus.RUNNING:
            job.cancel()
    assert told[-1] is JobStatus.DELETED


def test_the_price_of_a_tick_does_not_grow_with_the_jobs(cloud, clock, nova, submit):
    jobs = multiply(cloud, nova, submit(), 150, status=running())
    prices = {}
    for count in (60, 150):
        follower = Follower(
            nova.backend.api(),
            "kubeflow",
            [job.name for job in jobs[:count]],
            ref_of=lambda name: f"ref/{name}",
            clock=clock,
            interval=30,
            timeout=3600,
        )
        follower.poller.tick()
        assert len(follower.roster.settle(clock.now())) == count
        prices[count] = []
        for _ in range(3):
            clock.sleep(30)
            before = len(cloud.requests)
            follower.poller.tick()
            prices[count].append(len(cloud.requests) - before)
            assert follower.roster.settle(clock.now()) == []
    assert prices == {60: [2, 2, 2], 150: [2, 2, 2]}


def test_only_what_changed_is_looked_at_again(cloud, clock, nova, submit):
    jobs = multiply(cloud, nova, submit(), 120, status=running())
    news = nova.watch(jobs, interval=30)
    assert len([next(news) for _ in jobs]) == 120
    done = {"conditions": [condition("Created"), condition("Running", "False"), condition("Succeeded")]}
    cloud.store.set_status(JOB_KIND, "kubeflow", "many-00007", done, clock.now())
    cloud.requests.clear()
    seen = next(news)
    assert (seen.ref.rpartition("/")[2], seen.status) == ("many-00007", JobStatus.SUCCEEDED)
    assert [(each.operation, each.target) for each in cloud.requests] == [
        ("list", "pytorchjobs/kubeflow"),
        ("list", "pods/kubeflow"),
        ("list", "pytorchjobs/kubeflow"),
        ("list", "pods/kubeflow"),
    ]
    news.close()


def test_what_changes_by_time_alone_is_told_without_a_request_for_it(cloud, nova, submit):
    jobs = multiply(cloud, nova, submit(), 80)
    news = nova.watch(jobs, interval=30)
    assert {next(news).status for _ in jobs} == {JobStatus.PENDING}
    cloud.requests.clear()
    told = [next(news) for _ in jobs]
    assert {each.reason for each in told} == {"OperatorSilent"}
    assert len(cloud.requests) <= 2 * 6
    news.close()


def test_what_the_scheduler_decides_shows_in_no_cell_and_is_seen_all_the_same(cloud, clock, nova, submit):
    jobs = multiply(cloud, nova, submit(), 60, status={"conditions": [condition("Created")]})
    cloud.store.listeners.remove(cloud.trainer.scheduler._notice)
    labels = {"training.kubeflow.org/job-name": "many-00003"}
    spec = {"containers": [{"name": "pytorch", "image": "x"}]}
    body = {"metadata": {"name": "many-00003-master-0", "namespace": "kubeflow", "labels": labels}, "spec": spec}
    cloud.store.create(POD_KIND, "kubeflow", body | {"status": {"phase": "Pending"}}, clock.now())
    news = nova.watch(jobs, interval=5)
    first = [next(news) for _ in jobs]
    assert first[3].status is JobStatus.STARTING
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes"}
    held = {"phase": "Pending", "conditions": [refused]}
    cloud.store.set_status(POD_KIND, "kubeflow", "many-00003-master-0", held, clock.now())
    begun = clock.monotonic()
    seen = next(news)
    assert (seen.status, seen.message) == (JobStatus.UNSCHEDULABLE, "many-00003-master-0: 0/4 nodes")
    assert clock.monotonic() - begun < 10
    news.close()


def test_what_shows_in_no_cell_is_found_by_a_sweep(cloud, clock, nova, submit):
    waiting = {"conditions": [condition("Created"), condition("Suspended")]}
    jobs = multiply(cloud, nova, submit(), 60, status=waiting)
    for job in jobs:
        body = cloud.store.get(JOB_KIND, "kubeflow", job.name)
        body["spec"]["runPolicy"] = {"suspend": True}
        cloud.store.update(JOB_KIND, "kubeflow", body, clock.now())
    news = nova.watch(jobs, interval=30)
    assert {next(news).status for _ in jobs} == {JobStatus.QUEUED}
    body = cloud.store.get(JOB_KIND, "kubeflow", "many-00003")
    body["spec"]["runPolicy"] = {"suspend": False}
    cloud.store.update(JOB_KIND, "kubeflow", body, clock.now())
    seen = next(news)
    assert (seen.ref.rpartition("/")[2], seen.reason) == ("many-00003", "Admitted")
    news.close()


def test_an_age_that_went_back_is_another_object_of_the_same_name():
    before = Rows({"a": ("Running",), "b": ("Running",)}, {"a": "5d3h", "b": "2m1s"})
    assert Rows(before.faces, {"a": "5d4h", "b": "3m"}).changed_since(before) == set()
    assert Rows(before.faces, {"a": "12s", "b": "3m"}).changed_since(before) == {"a"}
    assert Rows({"b": ("Failed",)}, {"b": "3m"}).changed_since(before) == {"a", "b"}


def test_a_cluster_that_fails_for_a_while_is_borne_with(cloud, nova, submit):
    job = submit()
    news = nova.watch([job], interval=30)
    next(news)
    cloud.script_fault("server-error", times=20)
    assert [each.status for each in news][-1] is JobStatus.SUCCEEDED
    cloud.faults.clear()


def test_a_cluster_that_fails_for_long_is_an_error(cloud, clock, nova, submit):
    job = submit()
    cloud.script_fault("operator-silent")
    news = nova.watch([job], interval=30)
    next(news)
    cloud.faults.answer("list", 503, service="kubernetes", times=10_000)
    begun = clock.monotonic()
    with pytest.raises(ClusterError):
        list(news)
    assert 900 < clock.monotonic() - begun < 1800
    cloud.faults.clear()


def test_a_role_that_is_taken_away_is_an_error_at_once(cloud, nova, submit):
    news = nova.watch([submit()], interval=30)
    next(news)
    cloud.role = "unmapped"
    with pytest.raises(ClusterError) as error:
        list(news)
    assert error.value.status == 401


def test_jobs_that_can_only_be_looked_at_one_by_one_are_followed_too(nova, clock, submit):
    refs = [nova.backend.ref(submit().name)]
    told = follow_each(nova.backend.snapshot, refs, clock=clock, interval=1.0, timeout=600)
    assert [each.status for each in told][-1] is JobStatus.SUCCEEDED


# -- watching: on the machine's own clock, a hundred times faster --------------------------------------------------


@pytest.fixture
def quick(pairs) -> Iterator[Any]:
    with LocalCloud(script=Script(noticing=0.05, starting=0.1, loading=0.05, training=0.4, manifest=0.01)) as running:
        running.client = NovaClient(running.hyperpod(), output=running.output)
        running.submit = lambda recipe=DPO: running.client.submit(running.client.plan(recipe, pairs), check=False)
        yield running


def followed(quick, job, **options):
    """Follows a job as its `events` do, at another pace."""
    return Follower(
        quick.client.backend.api(),
        "kubeflow",
        [job.name],
        ref_of=lambda name: f"ref/{name}",
        interval=30,
        timeout=30,
        **{"clock": SystemClock(), "pace": 0.05, **options},
    ).snapshots()


def watch_threads():
    return [each for each in threading.enumerate() if each.name.startswith("watch-")]


def verbs(cloud):
    return [each.operation for each in cloud.requests if each.service == "kubernetes"]


def test_where_watching_is_allowed_changes_come_by_themselves(quick):
    job = quick.submit()
    quick.requests.clear()
    told = [each.status for each in job.events(timeout=30)]
    assert told[-1] is JobStatus.SUCCEEDED
    assert JobStatus.RUNNING in told
    assert verbs(quick) == ["list", "list", "watch", "watch"]
    assert watch_threads() == []


def test_a_change_is_seen_within_a_second(quick):
    job = quick.submit()
    for each in job.events(timeout=30):
        seen = SystemClock().now()
        if each.since and each.status is JobStatus.SUCCEEDED:
            # Kubernetes writes whole seconds, so up to one of them is not ours.
            assert (seen - each.since).total_seconds() < 2.0


def test_a_role_that_may_not_watch_polls_for_good(pairs):
    script = Script(noticing=0.05, starting=0.1, loading=0.05, training=0.4, manifest=0.01)
    with LocalCloud(script=script, role="scientist") as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        job = nova.submit(nova.plan(DPO, pairs), check=False)
        cloud.requests.clear()
        assert [each.status for each in job.events(timeout=30, interval=0.1)][-1] is JobStatus.SUCCEEDED
        assert verbs(cloud).count("watch") <= 2
        assert watch_threads() == []


@pytest.mark.parametrize("fault", ["watch-cut", "watch-expired", "token-expired"])
def test_a_watch_that_breaks_is_taken_up_again(quick, fault):
    quick.trainer.operator.silent = True
    news = followed(quick, quick.submit())
    assert next(news).status is JobStatus.PENDING
    while verbs(quick).count("watch") < 2:
        threading.Event().wait(0.01)
    quick.script_fault(fault)
    quick.trainer.operator.silent = False
    assert [each.status for each in news][-1] is JobStatus.SUCCEEDED


def test_a_watch_that_falls_silent_is_given_up_and_nothing_is_missed(quick):
    quick.trainer.operator.silent = True
    news = followed(quick, quick.submit(), silence=0.3)
    assert next(news).status is JobStatus.PENDING
    while verbs(quick).count("watch") < 2:
        threading.Event().wait(0.01)
    quick.script_fault("watch-silent")
    quick.trainer.operator.silent = False
    assert [each.status for each in news][-1] is JobStatus.SUCCEEDED


def test_leaving_the_loop_ends_the_threads(quick):
    news = quick.submit().events(timeout=30)
    next(news)
    news.close()
    assert watch_threads() == []


def test_the_time_is_up_while_watching(quick):
    quick.script_fault("operator-silent")
    with pytest.raises(JobTimeoutError):
        list(quick.submit().events(timeout=0.3))
    assert watch_threads() == []


class Stuck(SystemClock):
    """A machine's clock that stands still for long; it is not to be asked for ever."""

    def __init__(self):
        self.shows = 0.0
        self.asked = 0

    def monotonic(self):
        self.asked += 1
        assert self.asked < 1000
        return self.shows


def test_a_watch_ends_where_rounding_leaves_a_rest_of_time(quick):
    quick.trainer.operator.silent = True
    clock = Stuck()
    news = followed(quick, quick.submit(), clock=clock)
    assert next(news).status is JobStatus.PENDING
    clock.shows = 30 - 5e-7
    assert list(news) == []
    assert watch_threads() == []


def test_a_deleted_job_is_told_by_the_watch(quick):
    quick.trainer.operator.silent = True
    job = quick.submit()
    news = job.events(timeout=30)
    next(news)
    job.cancel()
    assert [each.status for each in news] == [JobStatus.DELETED]


def test_a_lost_pod_is_told_by_the_watch(quick):
    quick.script_fault("node-loss", after=0.1, lasts=0.3)
    told = [(each.status, each.reason) for each in quick.submit().events(timeout=30)]
    assert (JobStatus.RESTARTING, "NodeLost") in told
    assert told[-1][0] is JobStatus.SUCCEEDED


# -- answers that no rehearsal cloud gives ----------------------------------------------------------------------------


class Token:
    value = "k8s-aws-v1.secret"

    def __init__(self, clock):
        self.expires_at = clock.now() + timedelta(minutes=14)


def follower_of(server, authority, clock, **options):
    api = KubernetesAPI(
        f"https://127.0.0.1:{server.port}",
        authority.ca_pem,
        lambda: Token(clock),
        clock=clock,
        retry=RetryPolicy(attempts=1),
    )
    return Follower(
        api,
        "kubeflow",
        ["run"],
        ref_of=lambda name: f"ref/{name}",
        clock=clock,
        interval=30,
        **{"timeout": 5.0, "pace": 0.05, **options},
    )


def job_object(version="5", *conditions):
    meta = {"name": "run", "uid": "u", "resourceVersion": version, "labels": {"app": "run"}}
    meta["creationTimestamp"] = FakeClock().now().strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": meta, "spec": {}, "status": {"conditions": [condition(kind) for kind in conditions]}}


def listed(*items, version="10"):
    return {"kind": "List", "metadata": {"resourceVersion": version}, "items": list(items)}


def events(*lines):
    body = b"".join(json.dumps({"type": kind, "object": thing}).encode() + b"\n" for kind, thing in lines)
    return Reply(200, body)


def chunked(body, *, cut):
    """One chunk for each line, as an API server sends them; the last one is cut short."""
    parts = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in body.splitlines(keepends=True))
    return Reply(200, parts, headers={"Transfer-Encoding": "chunked"}, cut=cut)


def error_410():
    return {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


def play(answer, tmp_path, **options):
    """Follow one job on a server that answers watches of jobs from a list, and everything else by rule."""
    authority = make_authority(tmp_path)
    with ScriptedServer(answer=answer).with_tls(authority.certificate, authority.key) as server:
        told = list(follower_of(server, authority, SystemClock(), **options).snapshots())
        return told, server.asked


def rule(watches, jobs):
    """Answers: lists of jobs and watches of jobs in order, no pods, and no more news where the lists end."""

    def answer(asked):
        pods = asked.path.endswith("/pods")
        if asked.query.get("watch"):
            return Reply(held=True) if pods or not watches else watches.pop(0)
        if pods:
            return Reply(200, listed())
        return Reply(200, listed(jobs.pop(0) if len(jobs) > 1 else jobs[0]))

    return answer


def watched_from(asked):
    return [
        each.query["resourceVersion"] for each in asked if each.query.get("watch") and each.path.endswith("pytorchjobs")
    ]


def test_a_bookmark_moves_the_place_from_which_a_watch_is_taken_up(tmp_path):
    watches = [
        events(("BOOKMARK", {"metadata": {"resourceVersion": "77"}})),
        events(("MODIFIED", job_object("80", "Created", "Succeeded"))),
    ]
    told, asked = play(rule(watches, [job_object("5", "Created")]), tmp_path)
    assert [each.status for each in told] == [JobStatus.PENDING, JobStatus.SUCCEEDED]
    assert watched_from(asked) == ["10", "77"]
    query = next(each.query for each in asked if each.query.get("watch"))
    assert query["allowWatchBookmarks"] == "true"
    assert 240 <= int(query["timeoutSeconds"]) <= 300


@pytest.mark.parametrize("how", ["event", "status"])
def test_an_expired_version_is_listed_anew(tmp_path, how):
    gone = events(("ERROR", error_410())) if how == "event" else Reply(410, error_410())
    told, asked = play(rule([gone], [job_object("5", "Created"), job_object("90", "Created", "Succeeded")]), tmp_path)
    assert [each.status for each in told] == [JobStatus.PENDING, JobStatus.SUCCEEDED]
    assert watched_from(asked) == ["10"]


def test_a_line_cut_in_the_middle_is_not_taken_for_an_event(tmp_path):
    whole = events(
        ("MODIFIED", job_object("60", "Created", "Running")), ("MODIFIED", job_object("61", "Created", "Failed"))
    )
    cut = chunked(whole.body, cut=30)
    rest = events(("MODIFIED", job_object("62", "Created", "Succeeded")))
    told, asked = play(rule([cut, rest], [job_object("5", "Created")]), tmp_path)
    assert told[-1].status is JobStatus.SUCCEEDED
    assert JobStatus.FAILED not in [each.status for each in told]
    assert watched_from(asked) == ["10", "60"]


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[]",
        b'{"type":"MODIFIED","object":{}}',
        b'{"type":"ADDED","object":null}',
        b'{"type":"ERROR","object":{"kind":"Status"}}',  # an error that does not say which
    ],
)
def test_a_line_that_is_no_event_does_not_end_the_watch(tmp_path, line):
    rest = events(("MODIFIED", job_object("62", "Created", "Succeeded")))
    told, _ = play(rule([Reply(200, line + b"\n"), rest], [job_object("5", "Created")]), tmp_path)
    assert told[-1].status is JobStatus.SUCCEEDED


def test_a_watch_that_is_never_answered_holds_nobody_back(tmp_path):
    news = rule([events(("MODIFIED", job_object("80", "Created", "Succeeded")))], [job_object("5", "Created")])
    begun = SystemClock().monotonic()
    told, _ = play(
        lambda asked: Reply(silent=True) if asked.query.get("watch") and "/pods" in asked.path else news(asked),
        tmp_path,
    )
    assert told[-1].status is JobStatus.SUCCEEDED
    assert SystemClock().monotonic() - begun < 5  # the server itself waits for ten seconds


def test_a_server_that_ends_every_stream_at_once_is_not_asked_all_the_time(tmp_path):
    over = [events(("BOOKMARK", {"metadata": {"resourceVersion": "77"}})) for _ in range(100)]
    _, asked = play(rule(over, [job_object("5", "Created")]), tmp_path, timeout=2.0, pace=0.4)
    assert 2 <= len(watched_from(asked)) <= 6


def test_no_token_is_told_of_a_refused_watch(tmp_path, caplog):
    caplog.set_level("DEBUG")
    refused = Reply(403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no: k8s-aws-v1.secret"})
    play(rule([refused], [job_object("5", "Created"), job_object("9", "Created", "Succeeded")]), tmp_path)
    assert "watching is not possible" in caplog.text
    assert "secret" not in caplog.text


def test_a_server_that_knows_no_tables_is_listed_as_it_is(tmp_path):
    authority = make_authority(tmp_path)
    jobs = [job_object("5", "Created"), job_object("5", "Created"), job_object("9", "Created", "Succeeded")]
    clock = FakeClock()
    with ScriptedServer(answer=rule([], jobs)).with_tls(authority.certificate, authority.key) as server:
        told = list(follower_of(server, authority, clock, timeout=600).snapshots())
    assert [each.status for each in told] == [JobStatus.PENDING, JobStatus.SUCCEEDED]


def test_pods_are_kept_in_mind_by_the_watch(quick):
    """The rehearsal cloud tells pods as objects; nothing of them is asked for again."""
    quick.script_fault("image-pull", lasts=0.5)
    told = [(each.status, each.reason) for each in quick.submit().events(timeout=30)]
    assert (JobStatus.DEGRADED, "ImagePullBackOff") in told
    assert verbs(quick).count("watch") == 2


class Printed:
    """Stands for a cluster that prints a list as a Table, and is asked for its bytes alone."""

    def __init__(self):
        self.rows = [[f"run-{n}", "Running", "5d"] for n in range(9)]
        self.columns = ["Name", "State", "Age"]

    def raw(self, ask):
        assert ask.query["includeObject"] == "None"
        body = {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": str(id(self))},
            "columnDefinitions": [{"name": name} for name in self.columns],
            "rows": [{"cells": cells, "object": None} for cells in self.rows],
        }
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def test_rows_read_in_part_are_those_read_whole():
    cluster = Printed()
    tables = Tables(cluster, PYTORCHJOBS, "kubeflow")

    def reread():
        found, whole = tables.read(""), Tables(cluster, PYTORCHJOBS, "kubeflow").read("")
        assert (dict(found.faces), dict(found.ages)) == (dict(whole.faces), dict(whole.ages))
        return found

    before = reread()
    assert tables.read("") is before
    for change in (
        lambda: cluster.rows[3].__setitem__(1, "Failed"),
        lambda: cluster.rows[8].__setitem__(2, "6d"),
        lambda: cluster.rows.pop(8),
        lambda: cluster.rows.pop(0),
        lambda: cluster.rows.append(["run-9", 'odd "name" {"cells":[', "1s"]),
        lambda: cluster.rows[-1].__setitem__(1, "Created"),
        lambda: cluster.rows.insert(0, ["run-0", "Created", "1s"]),
        cluster.rows.sort,
        lambda: [row.insert(1, "1/1") for row in cluster.rows],
        lambda: cluster.columns.insert(1, "Ready"),
        cluster.rows.clear,
        lambda: cluster.rows.append(["run-1", "1/1", "Running", "2s"]),
    ):
        change()
        if all(len(row) == len(cluster.columns) for row in cluster.rows):
            reread()


def test_a_changed_row_is_told_whether_it_was_read_alone_or_with_all():
    cluster = Printed()
    tables = Tables(cluster, PYTORCHJOBS, "kubeflow")
    before = tables.read("")
    cluster.rows[4][1] = "Restarting"
    del cluster.rows[7]
    assert tables.read("").changed_since(before) == {"run-4", "run-7"}
