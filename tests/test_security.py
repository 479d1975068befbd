"""Secrets stay secret, input stays input, and a bucket of somebody else's is not written to.

The tests beside each part plant canaries of their own; these plant them in everything at once.
"""

from __future__ import annotations

import gzip
import html
import io
import json
import logging
import os
import pickle
import re
import stat
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING

import boto3
import pytest
import yaml
from cli_support import CHATS, PAIRS, make_shell  # noqa: F401 - a fixture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sagemaker_support import needs_sdk

from nova_dpo_sdk import (
    ChatDataset,
    DPORecipe,
    HyperPodBackend,
    HyperPodOptions,
    JobSnapshot,
    JobStatus,
    NovaClient,
    NovaModel,
    PreferenceDataset,
    Recipe,
    SFTRecipe,
    TrainingJobBackend,
)
from nova_dpo_sdk.backends._archive import ArchiveError, find_members
from nova_dpo_sdk.errors import ConfigurationError, NovaError, RecipeError
from nova_dpo_sdk.local._token import LOCAL_KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from nova_dpo_sdk.local import FakeClock, LocalCloud

SFT = SFTRecipe(name="support-sft", model=NovaModel.LITE, replicas=4, warmup_steps=1)
CANARIES = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY0001",
    "AWS_SECRET_ACCESS_KEY": "canarySecret/+abcdefghijklmnopqrstuv0002",
    "AWS_SESSION_TOKEN": "canaryToken//wExampleToken0003==",
}
SIGNED = re.compile(r"k8s-aws-v1\.[\w-]{20,}|X-Amz-Signature=\w{8,}|Bearer [\w.-]{8,}", re.IGNORECASE)


def everything_shown(*things: object) -> str:
    """What a person, a notebook, a pickle or a traceback would show of these things."""
    shown: list[str] = []
    for each in things:
        shown += [str(each), repr(each), getattr(each, "_repr_html_", str)()]
        if isinstance(each, NovaError):
            shown += [pickle.dumps(each).decode("latin-1"), repr(each.__dict__), repr(each.__cause__)]
    return "\n".join(shown)


def in_s3(cloud: LocalCloud) -> str:
    s3 = cloud.session().client("s3")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=cloud.bucket).get("Contents", [])]
    bodies = [s3.get_object(Bucket=cloud.bucket, Key=key)["Body"].read() for key in keys]
    return "\n".join([*keys, *(readable(each) for each in bodies)])


def readable(body: bytes) -> str:
    """The text of an object, or of what is packed in it."""
    return (gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body).decode("latin-1")


def assert_clean(text: str, secrets: dict[str, str] | tuple[str, ...]) -> None:
    values = secrets.values() if isinstance(secrets, dict) else secrets
    assert [name for name in values if name in text] == []
    assert SIGNED.findall(text) == []


def ours(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged at DEBUG, by whomever; botocore and urllib3 log requests of their own, which are not ours."""
    theirs = ("botocore", "urllib3", "boto3", "s3transfer", "moto", "werkzeug", "asyncio")
    return "\n".join(each.getMessage() for each in caplog.records if not each.name.startswith(theirs))


def test_a_whole_chain_leaves_no_secret_anywhere(cloud: LocalCloud, nova: NovaClient, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    plan = nova.plan(SFT, ChatDataset.from_jsonl(CHATS))
    job = nova.submit(plan)
    taught = job.result()
    with nova.chain("c") as chain:
        dpo = DPORecipe(name="d", model=NovaModel.LITE, replicas=4, warmup_steps=1).starting_from(taught)
        chain.run("dpo", dpo, PreferenceDataset.from_jsonl(PAIRS))
    backend = nova.backend
    assert isinstance(backend, HyperPodBackend)
    token = backend.aws.eks_token(cloud.eks_name)
    kept = json.dumps([plan.to_dict() if hasattr(plan, "to_dict") else plan.to_json(), cloud.connection().to_dict()])
    shown = everything_shown(
        nova, backend, backend.aws, backend.api(), job, plan, taught, chain, token, cloud, cloud.connection(),
        nova.check(plan), *nova.jobs(), *job.logs(), *cloud.requests,
    )  # fmt: skip
    in_cluster = repr([vars(cloud.store)])
    secrets = (LOCAL_KEYS.secret_key, token.value)
    for text in (ours(caplog), shown, in_s3(cloud), in_cluster, kept):
        assert_clean(text, secrets)
    assert LOCAL_KEYS.secret_key not in caplog.text
    assert token.value not in caplog.text
    assert cloud.requests


def test_credentials_from_the_environment_are_in_no_error_and_no_record(
    cloud: LocalCloud, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """The cluster refuses these credentials, S3 takes them: so both ways are walked."""
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.aws_endpoint)
    caplog.set_level(logging.DEBUG)
    backend = HyperPodBackend("research", region=cloud.region, session=boto3.Session(), clock=clock)
    nova = NovaClient(backend, output=cloud.output)
    plan = nova.plan(SFT, ChatDataset.from_jsonl(CHATS))
    errors: list[NovaError] = []
    for act in (lambda: nova.check(plan), lambda: nova.submit(plan, check=False), nova.jobs):
        try:
            shown = everything_shown(act())
        except NovaError as error:
            errors.append(error)
            shown = everything_shown(error)
        assert_clean(shown, CANARIES)
    assert len(errors) >= 2
    assert_clean(ours(caplog), CANARIES)
    assert_clean(in_s3(cloud), CANARIES)
    assert in_s3(cloud)
    assert CANARIES["AWS_SECRET_ACCESS_KEY"] not in caplog.text


def test_credentials_for_training_jobs_are_in_no_error_and_no_record(
    cloud: LocalCloud, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    walk_training_jobs(cloud, clock, caplog, monkeypatch)


@needs_sdk
def test_the_sagemaker_sdk_shows_no_credentials_either(
    cloud: LocalCloud, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    assert walk_training_jobs(cloud, clock, caplog, monkeypatch) == 0


def walk_training_jobs(
    cloud: LocalCloud, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Every way to SageMaker, with planted credentials; how many of them were refused."""
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.aws_endpoint)
    caplog.set_level(logging.DEBUG)
    role = f"arn:aws:iam::{cloud.account}:role/nova-execution"
    backend = TrainingJobBackend(role, region=cloud.region, session=boto3.Session(), clock=clock)
    nova = NovaClient(backend, output=cloud.output)
    plan = nova.plan(SFT, ChatDataset.from_jsonl(CHATS))
    refused = 0
    for act in (
        lambda: nova.check(plan),
        lambda: nova.submit(plan, check=False),
        lambda: nova.job(plan.ref).wait(600),
        lambda: [*nova.job(plan.ref).logs()],
        nova.jobs,
    ):
        try:
            shown = everything_shown(act())
        except NovaError as error:
            refused += 1
            shown = everything_shown(error)
        assert_clean(shown, CANARIES)
    assert_clean(everything_shown(nova, backend, plan), CANARIES)
    assert_clean(ours(caplog), CANARIES)
    assert_clean(in_s3(cloud), CANARIES)
    assert CANARIES["AWS_SECRET_ACCESS_KEY"] not in caplog.text
    return refused


def test_the_command_shows_no_credentials(shell, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch):
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.aws_endpoint)
    for words in (
        ("doctor", "--cluster", "research", "--region", "us-east-1", "--output", cloud.output),
        ("jobs", "--cluster", "research", "--region", "us-east-1", "--json"),
        ("permissions", "--cluster", "research", "--region", "us-east-1", "--output", cloud.output),
        ("doctor", "--platform", "training-jobs", "--region", "us-east-1", "--output", cloud.output),
        ("jobs", "--platform", "training-jobs", "--region", "us-east-1"),
        ("status", "training-jobs://us-east-1/nothing"),
        ("data", "check", f"{cloud.output}/nothing.jsonl", "--region", "us-east-1"),
    ):
        told = shell(*words)
        assert_clean(told.out + told.err, CANARIES)


# --- a bucket of somebody else's ----------------------------------------------------------------------------------


def test_a_bucket_that_somebody_else_registered_is_refused_and_not_written_to(cloud: LocalCloud):
    cloud.add_bucket("acme-nova-runs", account="999999999999")
    nova = NovaClient(cloud.hyperpod(), output="s3://acme-nova-runs/runs")
    plan = nova.plan(SFT, ChatDataset.from_jsonl(CHATS))
    for act in (lambda: nova.submit(plan), lambda: nova.submit(plan, check=False)):
        with pytest.raises((ConfigurationError, NovaError), match="belongs to another account"):
            act()
    with pytest.raises(NovaError):
        nova.upload(ChatDataset.from_jsonl(CHATS))
    with pytest.raises(NovaError), nova.chain("c") as chain:
        chain.run("sft", SFT, ChatDataset.from_jsonl(CHATS))
    assert [
        each.operation for each in cloud.requests if "acme-nova-runs" in each.target and "Put" in each.operation
    ] == []


# --- names and values are text, whatever is in them ---------------------------------------------------------------

NASTY = st.one_of(
    st.text(min_size=1, max_size=60),
    st.sampled_from([
        "a: b", "x\nrun:\n  name: other", "{}", "[1, 2]", "!!python/object:os.system", "*alias", "&anchor", "---", "...",
        "'", '"', "`id`", "$(id)", "; rm -rf /", "<script>alert(1)</script>", "yes", "null", "1e5", "0o10", "\\u0000", "#",
        " lead", "trail ", "\t", "\x7f", "\u2028", "\ufeff", "=1+1", "%s%n", "../../etc/passwd", "a" * 300,
    ]),
)  # fmt: skip
LABEL = st.text(alphabet="abcXYZ019-_./:\n{}\"' é", min_size=1, max_size=20)


@given(value=NASTY, key=st.sampled_from(["run.new_key", "training_config.new_key"]))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_value_in_a_recipe_comes_back_as_it_went_in_and_changes_nothing_else(value: str, key: str):
    plain = DPORecipe(name="a", model=NovaModel.LITE)
    try:
        recipe = plain.replace(extra={key: value}, mlflow_run_name=value)
    except RecipeError:
        return
    read = yaml.safe_load(recipe.to_yaml())
    section, name = key.split(".")
    assert read[section].pop(name) == value
    assert read["run"].pop("mlflow_run_name") == value
    assert read == yaml.safe_load(plain.to_yaml())


@given(name=NASTY, label=LABEL, value=LABEL, queue=NASTY)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_names_reach_the_cluster_legal_or_not_at_all(name: str, label: str, value: str, queue: str):
    legal = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
    chats = ChatDataset.from_jsonl(CHATS)
    try:
        options = HyperPodOptions(labels={label: value}, queue=queue)
        nova = NovaClient(
            HyperPodBackend("research", region="us-east-1", options=options), output="s3://acme-nova/runs"
        )
    except ConfigurationError:
        nova = NovaClient(HyperPodBackend("research", region="us-east-1"), output="s3://acme-nova/runs")
    try:
        plan = nova.plan(SFT.replace(name=name), chats)
    except ConfigurationError:
        return
    config_map, job = plan.objects
    assert legal.match(plan.name)
    assert legal.match(job["metadata"]["name"])
    assert set(config_map["data"]) == {"config.yaml"}
    assert yaml.safe_load(config_map["data"]["config.yaml"])["run"]["name"] == plan.name
    for given_value in job["metadata"]["labels"].values():
        assert re.match(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z", given_value)


def test_no_text_of_a_job_or_a_recipe_becomes_html(cloud: LocalCloud, nova: NovaClient):
    bad = "<img src=x onerror=alert(1)>'\"&"
    snapshot = JobSnapshot(f"hyperpod://r/c/n/{bad}", JobStatus.FAILED, cloud.clock.now(), reason=bad, message=bad)
    plan = nova.plan(SFT.replace(mlflow_run_name=bad, extra={"run.note": bad}), ChatDataset.from_jsonl(CHATS))
    assert html.escape(bad) in snapshot._repr_html_()
    for each in (snapshot, plan):
        assert "<img" not in each._repr_html_()


# --- hostile files ------------------------------------------------------------------------------------------------


@given(text=st.text(max_size=400))
@settings(max_examples=80, deadline=None)
def test_any_text_is_a_recipe_or_a_recipe_error(text: str):
    with suppress(RecipeError):
        Recipe.from_yaml(text)


@given(
    cut=st.integers(0, 900),
    junk=st.sampled_from(
        ["{", "&a [*a]", "!!python/object/apply:os.system ['id']", "\t", "? ", "<<: *x", "%YAML 9", "\x00"]
    ),
)
@settings(max_examples=50, deadline=None)
def test_a_damaged_recipe_is_a_recipe_error_or_still_a_recipe(cut: int, junk: str):
    text = DPORecipe(name="a", model=NovaModel.LITE).to_yaml()
    place = cut % len(text)
    with suppress(RecipeError):
        Recipe.from_yaml(text[:place] + junk + text[place:])


def test_a_yaml_bomb_is_refused_before_it_grows():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(RecipeError):
        Recipe.from_yaml("\n".join(lines))


def archive_of(*members: tuple[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return held.getvalue()


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_a_damaged_archive_is_an_archive_error_or_read(place: int, byte: int, cut: int):
    whole = bytearray(archive_of(("manifest.json", b"{}"), ("../../evil", b"x"), ("/abs", b"y")))
    whole[place % len(whole)] = byte
    damaged = bytes(whole[: len(whole) - cut % 50])
    try:
        found = find_members(io.BytesIO(damaged), {"manifest.json"}, largest=1 << 20)
    except ArchiveError:
        return
    assert set(found) <= {"manifest.json"}


def test_a_member_longer_than_any_manifest_is_passed_over():
    long = io.BytesIO(archive_of(("manifest.json", b" " * (2 << 20))))
    assert find_members(long, {"manifest.json"}, largest=1 << 20) == {}


# --- files that others must not read ------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_temporary_files_can_be_read_by_their_owner_alone(tmp_path: Path):
    seen: dict[str, int] = {}
    old = os.umask(0)
    try:

        def watched():
            for number in range(3000):
                if number == 2999:
                    for each in tmp_path.iterdir():
                        seen[each.name] = stat.S_IMODE(each.stat().st_mode)
                yield {"prompt": f"Why {number}?", "chosen": "Because of rain.", "rejected": "Dunno."}

        PreferenceDataset.convert(watched(), tmp_path / "pairs.jsonl")
        assert stat.S_IMODE((tmp_path / "pairs.jsonl").stat().st_mode) == 0o666
    finally:
        os.umask(old)
    temporary = {name: mode for name, mode in seen.items() if name.endswith(".tmp")}
    assert temporary
    assert {name: oct(mode) for name, mode in temporary.items() if mode & 0o077} == {}
