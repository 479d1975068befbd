"""AWS calls are tried again by the one policy, on the clock that was passed in, and not before the time asked for."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from nova_dpo_sdk._time import RetryPolicy, seconds_asked
from nova_dpo_sdk.errors import AccessDeniedError, ServiceError, ThrottledError

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def heads(cloud):
    return [each.operation for each in cloud.requests].count("HeadObject")


@pytest.fixture
def aws(nova):
    nova.backend.aws.account()
    return nova.backend.aws


def test_a_busy_service_is_asked_again_when_it_said_and_not_sooner(cloud, clock, nova, aws):
    cloud.faults.answer("HeadObject", 503, code="SlowDown", headers={"Retry-After": "7"})
    before = clock.monotonic()
    assert aws.head(nova.output.join("nothing")) is None
    assert clock.monotonic() - before >= 7
    assert heads(cloud) == 2


@pytest.mark.parametrize(("status", "code", "error"), [(429, "", ThrottledError), (500, "", ServiceError)])
def test_tries_end_and_take_no_time_of_the_machine(cloud, clock, nova, aws, status, code, error):
    cloud.faults.answer("HeadObject", status, code=code, times=100)
    before = clock.monotonic()
    with pytest.raises(error):
        aws.head(nova.output.join("nothing"))
    assert heads(cloud) == 5
    assert 3.5 <= clock.monotonic() - before <= 7.5  # half to the whole of 0.5 + 1 + 2 + 4 seconds


def test_a_wait_longer_than_the_budget_is_not_begun(cloud, clock, nova, aws):
    cloud.faults.answer("HeadObject", 429, headers={"Retry-After": "3600"}, times=100)
    before = clock.monotonic()
    with pytest.raises(ThrottledError):
        aws.head(nova.output.join("nothing"))
    assert (heads(cloud), clock.monotonic() - before) == (1, 0.0)


def test_what_another_try_does_not_help_is_asked_once(cloud, nova, aws):
    cloud.faults.answer("HeadObject", 403, code="AccessDenied", times=100)
    with pytest.raises(AccessDeniedError):
        aws.head(nova.output.join("nothing"))
    assert heads(cloud) == 1


def test_a_lost_answer_to_a_write_under_a_condition_is_known_for_our_own(cloud, nova, aws):
    cloud.faults.hang_up("PutObject", after=True)
    place = nova.output.join("mine")
    etag = aws.write(place, b"mine", only_if_absent=True)
    assert etag == aws.head(place).etag
    assert aws.write(place, b"theirs", only_if_absent=True) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert seconds_asked(text, NOON) == seconds


def test_pauses_grow_with_jitter_and_end_with_the_tries_or_the_budget():
    policy = RetryPolicy(attempts=4, base=1.0, cap=2.0, budget=10.0)
    for tried, ceiling in ((1, 1.0), (2, 2.0), (3, 2.0)):
        drawn = {policy.pause(tried, 0.0) for _ in range(50)}
        assert len(drawn) > 10
        assert all(ceiling / 2 <= each <= ceiling for each in drawn)
    assert policy.pause(4, 0.0) is None
    assert policy.pause(1, 9.9) is None
    assert policy.pause(1, 0.0, asked=5.0) == 5.0
    assert policy.pause(1, 6.0, asked=5.0) is None


def test_an_account_that_was_told_by_halves_is_asked_for_again(cloud, nova):
    cloud.faults.truncate("GetCallerIdentity")
    assert nova.backend.aws.account() == cloud.account
    cloud.faults.truncate("GetCallerIdentity", times=100)
    with pytest.raises(
        ServiceError, match=r"damaged on its way|broke the connection"
    ):  # older botocore says the latter
        nova.backend.aws.ask_account()


def test_a_cluster_that_was_told_by_halves_is_asked_for_again(cloud, nova):
    aws = nova.backend.aws
    whole = aws.describe_hyperpod("research")
    cloud.faults.truncate("DescribeCluster")
    assert aws.describe_hyperpod("research") == whole
    eks = whole.eks_arn.rpartition("/")[2]
    known = aws.describe_eks(eks)
    cloud.faults.truncate("DescribeCluster")
    assert aws.describe_eks(eks) == known
    cloud.faults.truncate("DescribeCluster", times=100)
    for ask, name in ((aws.describe_hyperpod, "research"), (aws.describe_eks, eks)):
        with pytest.raises(ServiceError, match=r"damaged on its way|broke the connection"):  # as above
            ask(name)
