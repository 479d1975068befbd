"""A job's log: from which place, whose lines, in which order, each once; and the metrics in it."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_dpo_sdk import DPORecipe, LoRA, NovaClient, NovaModel, PreferenceDataset, SFTRecipe
from nova_dpo_sdk._time import FakeClock
from nova_dpo_sdk.aws import LogGroup
from nova_dpo_sdk.backends import LogLine
from nova_dpo_sdk.backends._kubernetes import PODS, PYTORCHJOBS
from nova_dpo_sdk.backends._logs import LogView, follow_lines, read_lines
from nova_dpo_sdk.backends._metrics import Metrics, read_metrics, rows_of
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    ConfigurationError,
    JobNotFinishedError,
    JobTimeoutError,
    NotFoundError,
    ServiceError,
    ThrottledError,
)
from nova_dpo_sdk.local import InstanceGroup, LocalCloud, Script
from nova_dpo_sdk.local._logs import LocalLogs
from nova_dpo_sdk.local._machines import Cluster

DPO = DPORecipe(name="dpo", model=NovaModel.LITE, replicas=4, tuning=LoRA(), warmup_steps=1, global_batch_size=16)
SFT = SFTRecipe(name="sft", model=NovaModel.LITE, replicas=4, tuning=LoRA(), warmup_steps=1, global_batch_size=16)
LINES = 4 + 10 * 4 + 4
START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def job(nova: NovaClient, pairs: PreferenceDataset):
    return nova.submit(nova.plan(DPO, pairs), check=False)


def times(lines: list[LogLine]) -> list[datetime]:
    return [line.at for line in lines]


def test_lines_of_all_nodes_are_merged_by_time(job):
    job.wait()
    lines = list(job.logs())
    assert len(lines) == LINES
    assert times(lines) == sorted(times(lines))
    assert {line.replica for line in lines} == {
        f"{job.name}-master-0", *(f"{job.name}-worker-{n}" for n in range(3))
    }  # fmt: skip
    assert len({line.node for line in lines}) == 4
    assert all(line.node.startswith("hyperpod-i-") for line in lines)
    assert lines[0].text == f"Starting DPO Job {job.name}"
    assert lines[-1].text == "DPO Job completed"
    assert str(lines[0]) == f"{lines[0].at:%Y-%m-%dT%H:%M:%S}Z {lines[0].replica} Starting DPO Job {job.name}"


def test_following_gives_every_line_once_and_ends_with_the_job(job, cloud):
    cloud.logs.page_sizes = (3, 0, 1)
    followed = list(job.logs(follow=True))
    assert times(followed) == sorted(times(followed))
    assert followed == list(job.logs())
    assert len(followed) == LINES


def test_following_may_begin_in_the_middle(job, cloud, clock):
    clock.advance(13)
    cloud.advance()
    there = list(job.logs())
    assert 4 < len(there) < LINES
    followed = list(job.logs(follow=True))
    assert len(followed) == LINES
    later = there[-1].at + timedelta(milliseconds=1)
    assert not [line for line in job.logs(follow=True, since=later) if line.at < later]
    assert list(job.logs(since=later)) == followed[len(there) :]


def test_lines_that_arrive_late_are_given_all_the_same(job, cloud):
    cloud.logs.late(90)
    followed = list(job.logs(follow=True))
    assert len(followed) == LINES
    assert followed == list(job.logs())


def test_one_node_that_is_late_loses_nothing_and_the_others_do_not_wait_for_it(nova, clock, job, cloud):
    clock.advance(3)
    cloud.advance()
    node = nova.backend.snapshot(nova.backend.ref(job.name)).replicas[0].node
    cloud.logs.late(120, node)
    lines = []
    given_at = {}
    for line in job.logs(follow=True):
        lines.append(line)
        given_at.setdefault(line.node, clock.now())
    assert len(lines) == LINES
    assert set(lines) == set(job.logs())
    others = max(moment for name, moment in given_at.items() if name != node)
    assert given_at[node] - others > timedelta(seconds=60)


def test_a_node_is_named_by_node_instance_or_replica(job):
    job.wait()
    line = next(iter(job.logs()))
    meant = [line.node, line.node.removeprefix("hyperpod-"), line.replica]
    found = [list(job.logs(node=each)) for each in meant]
    assert found[0] == found[1] == found[2]
    assert {each.replica for each in found[0]} == {line.replica}
    with pytest.raises(
        ConfigurationError, match=rf"no node, instance or replica of {job.name}: {job.name}-master-0 on "
    ):
        job.logs(node=f"{job.name}-worker-9")


def test_following_a_node_that_is_none_of_the_jobs_is_refused_once_all_its_pods_are_placed(clock, job):
    began = clock.monotonic()
    with pytest.raises(ConfigurationError, match=f"no node, instance or replica of {job.name}: {job.name}-master-0, "):
        job.logs(follow=True, node=f"{job.name}-worker-3")
    assert clock.monotonic() == began
    following = job.logs(follow=True, node="typo")  # before any pod is on a node: it may yet be one
    with pytest.raises(ConfigurationError, match=rf"node='typo' is .* of {job.name}: {job.name}-master-0 on "):
        next(following)
    assert clock.monotonic() - began < 10
    worker = list(job.logs(follow=True, node=f"{job.name}-worker-2"))
    assert {line.replica for line in worker} == {f"{job.name}-worker-2"}


def test_a_replica_that_is_meant_is_waited_for_until_it_has_a_node(job):
    line = next(job.logs(follow=True, node=f"{job.name}-worker-0"))
    assert line.replica == f"{job.name}-worker-0"


def test_only_the_lines_within_a_pods_own_time_are_its(clock, pairs, chats):
    groups = [InstanceGroup("nova", "ml.p5.48xlarge", 4)]
    with LocalCloud(clock=clock, instance_groups=groups) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        first = nova.submit(nova.plan(DPO, pairs), check=False)
        first.wait()
        second = nova.submit(nova.plan(SFT, chats), check=False)
        followed = list(second.logs(follow=True))
        assert len(followed) == LINES
        assert not [line for line in followed if "DPO" in line.text]
        assert {line.node for line in first.logs()} == {line.node for line in second.logs()}
        assert not [line for line in first.logs() if "SFT" in line.text]
        assert not [line for line in second.logs() if "DPO" in line.text]
        assert len(list(first.logs())) == len(list(second.logs())) == LINES


def test_a_pod_that_is_made_again_while_following_loses_no_line(nova, job):
    lines: list[LogLine] = []
    following = job.logs(follow=True)
    for line in following:
        lines.append(line)
        if len(lines) == 12:
            nova.backend.api().delete(PODS, "kubeflow", f"{job.name}-worker-0")
    starts = [line for line in lines if line.text.startswith("Starting DPO Job")]
    assert len(starts) == 8  # four pods, and four again when the new pod joined
    assert sum(line.text == "DPO Job completed" for line in lines) == 4


def test_the_words_of_a_crash_are_in_the_log(nova, cloud, pairs, clock):
    plan = nova.plan(DPO, pairs)
    job = nova.submit(plan, check=False)
    key = plan.uploads[0].uri.partition(f"{cloud.bucket}/")[2]
    nova.backend.aws.client("s3").delete_object(Bucket=cloud.bucket, Key=key)
    clock.advance(60)
    errors = [line for line in job.logs() if line.text.startswith("ERROR: ")]
    assert {line.replica for line in errors} >= {f"{job.name}-master-0"}
    assert "NoSuchKey" in errors[0].text


def test_a_job_that_is_too_young_says_so_and_can_be_waited_for(job, clock, cloud):
    with pytest.raises(JobNotFinishedError, match=r"no pod of it is on a node.*follow=True"):
        job.logs()
    cloud.logs.late(100)
    clock.advance(10)
    with pytest.raises(JobNotFinishedError, match="no stream of its nodes yet"):
        job.logs()
    assert len(list(job.logs(follow=True))) == LINES


def test_nodes_that_never_send_a_line_are_named(job, clock, cloud):
    cloud.logs.late(100_000)
    clock.advance(900)
    with pytest.raises(NotFoundError, match=r"no stream SagemakerHyperPodTrainingJob/<group>/<instance> of any node"):
        job.logs()
    assert list(job.logs(follow=True)) == []


def test_following_ends_when_its_time_is_up_and_the_job_runs_on(clock, pairs):
    with LocalCloud(clock=clock, script=Script(training=4000)) as cloud:
        nova = NovaClient(cloud.hyperpod(), output=cloud.output)
        job = nova.submit(nova.plan(DPO, pairs), check=False)
        began = clock.monotonic()
        lines = []
        with pytest.raises(JobTimeoutError, match="the job runs on"):
            lines.extend(job.logs(follow=True, timeout=120))
        assert clock.monotonic() - began == pytest.approx(120, abs=10)
        assert not job.status().status.is_terminal
        assert "Starting DPO Job" in next(iter(job.logs())).text


def test_lines_that_mention_the_job_are_found_when_its_pods_are_gone(job, clock, caplog):
    job.wait()
    job.delete()
    clock.advance(60)
    with caplog.at_level(logging.INFO, logger="nova_dpo_sdk"):
        found = job.logs()
    assert f"only lines that mention {job.name}" in found.source
    assert found.source in caplog.text
    lines = list(found)
    assert [line.text for line in lines] == [f"Starting DPO Job {job.name}"] * 4
    assert {line.replica for line in lines} == {""}
    assert len({line.node for line in lines}) == 4
    assert list(job.logs(node=lines[0].node)) == [lines[0]]
    assert list(job.logs(since=clock.now())) == []
    with pytest.raises(ConfigurationError, match=r"is a replica, and the pods .* are not seen .* each line names its"):
        job.logs(node=f"{job.name}-master-0")
    assert f"has a wording that is known (read: {found.source})" in str(job.metrics())


def test_the_pods_are_asked_where_there_is_no_log_group(job, cloud):
    cloud.logs.exists = False
    job.wait()
    with pytest.raises(NotFoundError, match=r"log group /aws/sagemaker/Clusters/research/.*pods/.*/log failed \(403"):
        job.logs()


def test_pods_of_an_unrestricted_cluster_are_read_from_kubernetes(job, nova, cloud):
    for group in cloud.cluster.groups:
        group.restricted = False
    following = job.logs(follow=True)
    assert following.source == f"the Kubernetes API, the logs of the pods of {job.name}"
    followed = list(following)
    assert times(followed) == sorted(times(followed))
    assert followed == list(job.logs())
    assert len(followed) == LINES
    assert not [each for each in cloud.requests if each.service == "logs"]
    for hours in (2, -3.5):
        cloud.logs.zone = timezone(timedelta(hours=hours))
        assert list(job.logs()) == followed
    middle = followed[LINES // 2].at
    assert list(job.logs(since=middle)) == [line for line in followed if line.at >= middle]
    job.delete()
    nova.backend.clock.sleep(10)
    with pytest.raises(JobNotFinishedError, match="no pod of it is on a node"):
        job.logs()


def test_without_a_log_group_a_crashing_pods_last_life_is_read_too(nova, cloud, pairs, clock):
    cloud.logs.exists = False
    for group in cloud.cluster.groups:
        group.restricted = False
    plan = nova.plan(DPO, pairs)
    job = nova.submit(plan, check=False)
    key = plan.uploads[0].uri.partition(f"{cloud.bucket}/")[2]
    nova.backend.aws.client("s3").delete_object(Bucket=cloud.bucket, Key=key)
    clock.advance(20)
    texts = [line.text for line in job.logs(node=f"{job.name}-master-0")]
    assert texts
    assert all("NoSuchKey" in text for text in texts)


def test_a_role_that_may_not_read_pod_logs_is_told_which_right_is_missing(job, cloud, clock):
    for group in cloud.cluster.groups:
        group.restricted = False
    clock.advance(10)
    cloud.role = "namespaced"
    with pytest.raises(NotFoundError, match=r"may not `get` `pods/log` in namespace kubeflow"):
        job.logs()


def test_a_reader_without_the_right_is_told_the_actions(job, cloud):
    job.wait()
    for operation in ("DescribeLogStreams", "FilterLogEvents"):
        cloud.faults.answer(operation, 400, code="AccessDeniedException")
        with pytest.raises(AccessDeniedError) as told:
            list(job.logs())
        assert told.value.operation == operation
        assert told.value.code == "AccessDeniedException"
        assert "logs:DescribeLogStreams and logs:FilterLogEvents" in str(told.value)
    cloud.faults.answer("DescribeLogStreams", 400, code="ExpiredTokenException")
    with pytest.raises(AccessDeniedError) as told:
        job.logs()
    assert "logs:FilterLogEvents" not in str(told.value)


def test_following_from_a_moment_to_come_gives_nothing_before_it(job, clock):
    moment = clock.now() + timedelta(seconds=15)
    followed = list(job.logs(follow=True, since=moment))
    assert followed == [line for line in job.logs() if line.at >= moment]
    assert 0 < len(followed) < LINES


def test_since_needs_a_time_zone(job):
    with pytest.raises(ConfigurationError, match="has no time zone"):
        job.logs(since=datetime(2026, 1, 1))  # noqa: DTZ001 - the very thing that is refused


def test_no_secret_is_in_the_log_of_reading_logs(job, cloud, caplog):
    with caplog.at_level(logging.DEBUG, logger="nova_dpo_sdk"):
        following = job.logs(follow=True)
        list(following)
        job.metrics()
    said = caplog.text + repr(following) + repr(job._backend.aws.log_group(cloud.logs.group))
    assert "is read from CloudWatch" in said
    for secret in ("k8s-aws-v1.", "local-cloud-not-a-secret", "X-Amz-Signature", "Authorization", "Starting DPO Job"):
        assert secret not in said


class Direct:
    """A boto3 client's two methods, straight into the rehearsal cloud's log group."""

    def __init__(self, logs: LocalLogs) -> None:
        self.logs = logs
        self.asked = 0

    def describe_log_streams(self, **given: Any) -> Any:
        return self._ask("DescribeLogStreams", given)

    def filter_log_events(self, **given: Any) -> Any:
        return self._ask("FilterLogEvents", given)

    def _ask(self, operation: str, given: Any) -> Any:
        self.asked += 1
        return self.logs.answer(operation, json.dumps(given).encode())


class Nodes:
    """Three nodes that write until the end."""

    name = "three nodes"

    def __init__(self, client: Direct, clock: FakeClock, end: float, failures: int = 0) -> None:
        self.group = LogGroup(client.logs.group, client)
        self.clock = clock
        self.end = end
        self.failures = failures

    def look(self) -> LogView:
        streams = self.group.streams("SagemakerHyperPodTrainingJob/")
        over = (self.clock.now() - START).total_seconds() >= self.end
        return LogView(dict.fromkeys(streams), complete=len(streams) == 3, over=over)

    def read(self, places, start):
        events = list(self.group.events(streams=places, start=start))
        if self.clock.now() > START and self.failures:
            self.failures -= 1
            raise ThrottledError("slow down")
        return events

    def line(self, event):
        return LogLine(event.at, event.stream.rpartition("/")[2], "", event.text)


def written(gaps: list[list[float]], delays: list[float]) -> tuple[LocalLogs, FakeClock, list[LogLine], float]:
    clock = FakeClock(START)
    logs = LocalLogs(Cluster("research", "us-east-1", "123456789012"), clock.now)
    lines: list[LogLine] = []
    for node, (own, delay) in enumerate(zip(gaps, delays, strict=True)):
        logs.late(delay, f"hyperpod-i-{node}")
        at = START
        for number, gap in enumerate(own):
            at += timedelta(milliseconds=round(gap * 1000))
            logs.write("nova", f"hyperpod-i-{node}", f"line {number}", at)
            lines.append(LogLine(at, f"i-{node}", "", f"line {number}"))
    return logs, clock, lines, max((line.at - START).total_seconds() for line in lines)


GAPS = st.lists(st.floats(0, 20), min_size=1, max_size=40)
PAGES = st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any)


def key(line: LogLine) -> tuple[Any, ...]:
    return line.at, line.node, line.text


@settings(max_examples=30, deadline=None)
@given(
    gaps=st.lists(GAPS, min_size=3, max_size=3),
    delays=st.lists(st.sampled_from([0.0, 2.0, 8.0, 45.0, 200.0]), min_size=3, max_size=3),
    pages=PAGES,
    interval=st.sampled_from([1.0, 5.0, 13.0]),
    failures=st.integers(0, 3),
)
def test_whatever_the_pages_and_delays_each_line_is_followed_once(gaps, delays, pages, interval, failures):
    logs, clock, lines, end = written(gaps, delays)
    logs.page_sizes = tuple(pages)
    source = Nodes(Direct(logs), clock, end, failures)
    followed = list(follow_lines(source, clock, timeout=5000, interval=interval))
    assert sorted(followed, key=key) == sorted(lines, key=key)
    if max(delays) + interval * (1 + failures) * 1.2 < 10:
        assert times(followed) == sorted(times(followed))


@settings(max_examples=60, deadline=None)
@given(gaps=st.lists(GAPS, min_size=3, max_size=3), pages=PAGES)
def test_whatever_the_pages_each_line_is_read_once_in_order(gaps, pages):
    logs, clock, lines, _ = written(gaps, [0, 0, 0])
    clock.advance(5000)
    logs.page_sizes = tuple(pages)
    found = list(read_lines(Nodes(Direct(logs), clock, 0)))
    assert times(found) == sorted(times(found))
    assert sorted(found, key=key) == sorted(lines, key=key)


def test_what_never_mends_ends_the_following():
    logs, clock, _, end = written([[1.0], [1.0], [1.0]], [0, 0, 0])
    source = Nodes(Direct(logs), clock, end, failures=1000)
    clock.advance(1)
    source.read = lambda *_: (_ for _ in ()).throw(ServiceError("down"))  # type: ignore[method-assign]
    with pytest.raises(ServiceError):
        list(follow_lines(source, clock, timeout=5000))


def test_a_single_straggler_among_punctual_lines_is_found():
    logs, clock, lines, end = written([[2.0] * 600, [2.0] * 600, [10.0] * 120], [0, 0, 0])
    logs.late(400, "hyperpod-i-1")
    logs.write("nova", "hyperpod-i-1", "straggler", START + timedelta(seconds=300))
    followed = list(follow_lines(Nodes(Direct(logs), clock, end), clock, timeout=5000))
    assert len(followed) == len(lines) + 1
    (place,) = [number for number, line in enumerate(followed) if line.text == "straggler"]
    before = followed[place - 1].at - START
    assert timedelta(seconds=690) <= before <= timedelta(seconds=830)


def test_a_line_at_the_border_of_what_is_read_again_is_given_once():
    logs, clock, lines, end = written([[0.0], [599.0, 0.9996, 0.0014], [606.0, *[1.0] * 1700]], [0, 0, 0])
    clock.advance(600.0004)
    followed = list(follow_lines(Nodes(Direct(logs), clock, end), clock, timeout=5000))
    assert sorted(followed, key=key) == sorted(lines, key=key)


def test_a_late_stream_whose_first_reading_fails_is_read_from_its_start_again():
    logs, clock, lines, end = written([[1.0] * 60, [1.0] * 60, [1.0] * 60], [200, 200, 200])
    followed = list(follow_lines(Nodes(Direct(logs), clock, end, failures=1), clock, timeout=5000))
    assert sorted(followed, key=key) == sorted(lines, key=key)


def test_the_end_waits_twice_as_long_as_lines_were_seen_to_be_late():
    logs, clock, lines, end = written([[60.0] * 6, [60.0] * 6, [60.0] * 6], [90, 90, 90])
    followed = list(follow_lines(Nodes(Direct(logs), clock, end), clock, timeout=5000))
    assert sorted(followed, key=key) == sorted(lines, key=key)


def test_a_node_whose_clock_is_ahead_loses_nothing():
    logs, clock, lines, end = written([[1.0] * 60, [1.0] * 60, [1.0] * 160], [0, 0, -100])
    followed = list(follow_lines(Nodes(Direct(logs), clock, end - 100), clock, timeout=5000))
    assert sorted(followed, key=key) == sorted(lines, key=key)


def test_following_for_a_day_costs_a_few_requests_a_look():
    logs, clock, lines, end = written([[60.0] * 60, [60.0] * 60, [60.0] * 60], [0, 0, 0])
    client = Direct(logs)
    followed = list(follow_lines(Nodes(client, clock, end), clock, timeout=90000))
    assert len(followed) == len(lines)
    looks = end / 5
    assert client.asked <= 2.2 * looks


def said(text: str, at: datetime = START, replica: str = "a-master-0") -> LogLine:
    return LogLine(at, "hyperpod-i-0", replica, text)


@pytest.mark.parametrize(
    ("text", "step", "epoch", "loss", "lr"),
    [
        ("Epoch 0: : 12it [00:35, reduced_train_loss=0.693, global_step=11.0, lr=9.5e-06]", 11, 0, 0.693, 9.5e-6),
        ("Epoch 2:  10%|█ | 10/100 [00:01<00:09, reduced_train_loss=1.20, global_step=210.0]", 210, 2, 1.2, None),
        ("{'loss': 0.6931, 'grad_norm': 1.5, 'learning_rate': 1e-06, 'epoch': 0.1}", None, 0.1, 0.6931, 1e-6),
        ('{"step": 7, "loss": 0.5, "lr": 1e-7}', 7, None, 0.5, 1e-7),
        ("2026-03-01 12:00:00 INFO rank=0 step=3 loss=.25 lr=1E-5 elapsed=5s", 3, None, 0.25, 1e-5),
        ("loss=nan step=4", 4, None, pytest.approx(float("nan"), nan_ok=True), None),
        ("step=4.5 loss=-inf", None, None, float("-inf"), None),
    ],
)
def test_known_wordings_become_rows(text, step, epoch, loss, lr):
    (row,) = rows_of(said(text))
    assert (row.step, row.epoch, row.loss, row.lr) == (step, epoch, loss, lr)


@pytest.mark.parametrize(
    "text",
    [
        "Starting DPO Job support-dpo",
        "DPO Job completed",
        "Epoch 0: : 12it",
        "the loss is 0.5 at step 3",
        "loss: 0.5",
        "loss=0.5s",
        "loss=12:30",
        "loss=3/5",
        "loss=10%",
        "loss=1,000",
        "loss=10.0.0.1",
        "loss=tensor(0.5)",
        "port=8080 world_size=32",
        "path/loss=0.5",
        "weird-loss=0.5",
        "global_step=5",
        "lossy=0.5",
    ],
)
def test_unknown_wordings_stay_text(text):
    assert rows_of(said(text)) == []


def test_every_named_number_of_a_row_is_kept_under_its_own_name():
    (row,) = rows_of(said("{'loss': 0.5, 'rewards/accuracies': 0.75, 'rewards/margins': -0.1, 'note': 'x', 'n': 1e3}"))
    assert dict(row.values) == {"loss": 0.5, "rewards/accuracies": 0.75, "rewards/margins": -0.1, "n": 1000.0}


def test_metrics_go_to_other_processes_and_into_data_frames():
    rows = read_metrics([said("step=1 loss=0.9 rewards/margins=0.1")], "dpo")
    for copied in (pickle.loads(pickle.dumps(rows)), copy.deepcopy(rows)):  # noqa: S301 - our own bytes
        assert (repr(copied), list(copied)) == (repr(rows), list(rows))
    plain = dataclasses.asdict(rows[0])
    assert json.loads(json.dumps(plain["values"])) == {"step": 1.0, "loss": 0.9, "rewards/margins": 0.1}


def test_a_progress_bar_that_was_redrawn_gives_a_row_each_time():
    rows = rows_of(said("step=1 loss=0.9\rstep=2 loss=0.8\rEpoch 0"))
    assert [(row.step, row.loss) for row in rows] == [(1, 0.9), (2, 0.8)]


def test_numbers_that_every_node_prints_are_counted_once():
    lines = [said(f"step={n} loss=0.{n}", replica=who) for n in range(1, 4) for who in ("a-worker-0", "a-master-0")]
    lines.append(said("step=4 loss=0.4", replica="a-worker-0"))
    rows = read_metrics(lines)
    assert [row.step for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize(("recipe", "data"), [(SFT, "chats"), (DPO, "pairs")], ids=["sft", "dpo"])
def test_a_runs_metrics_are_a_table_and_a_picture(nova, request, tmp_path, recipe, data):
    job = nova.submit(nova.plan(recipe, request.getfixturevalue(data)), check=False)
    job.wait()
    metrics = job.metrics()
    assert [row.step for row in metrics] == list(range(1, 11))
    assert metrics[0].loss > metrics[-1].loss > 0
    assert all(row.lr is not None and row.epoch is not None for row in metrics)
    table = str(metrics).splitlines()
    assert len(table) == 11
    assert max(len(line) for line in table) <= 80
    assert len({len(line) for line in table}) == 1
    assert ("accuracies" in table[0]) is (recipe is DPO)
    if recipe is DPO:
        assert metrics[-1].values["rewards/accuracies"] > metrics[0].values["rewards/accuracies"]
    picture = metrics.plot(tmp_path / "run.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    assert len(metrics[2:4]) == 2


def test_a_picture_needs_rows_and_matplotlib(tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match="nothing to draw"):
        Metrics(()).plot(tmp_path / "run.png")
    assert str(Metrics(())).startswith("no metrics")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'nova-dpo-sdk\[plots\]'"):
        read_metrics([said("loss=0.5 step=1")]).plot(tmp_path / "run.png")
    assert list(tmp_path.iterdir()) == []


def test_a_log_line_of_a_gone_job_is_not_searched_before_it_was_submitted(job, nova, cloud, clock):
    early = clock.now() - timedelta(days=1)
    cloud.logs.write("nova-p5", "hyperpod-i-0", f"Starting DPO Job {job.name}", early)
    job.wait()
    nova.backend.api().delete(PYTORCHJOBS, "kubeflow", job.name)
    clock.advance(60)
    assert len(list(job.logs())) == 4
