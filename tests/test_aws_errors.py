from __future__ import annotations

import datetime as dt
import io
import pickle
import socket
import traceback
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from aws_loopback import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, LoopbackSession, loopback_aws
from scripted import Reply, ScriptedServer, make_authority

from nova_dpo_sdk.aws import AWS, S3Uri
from nova_dpo_sdk.errors import (
    AccessDeniedError,
    AWSError,
    ConfigurationError,
    NotFoundError,
    NovaError,
    ServiceError,
    ThrottledError,
)

if TYPE_CHECKING:
    from pathlib import Path

URI = S3Uri("acme-attic", "runs/a.json")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without credentials, Region or profile."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def told(error: BaseException) -> str:
    """Everything that a person, a log or a file might be shown of an error."""
    shown = "".join(traceback.format_exception(error))
    return shown + repr(error) + repr(vars(error)) + pickle.dumps(error).decode("latin-1")


def answer_to_read(reply: Reply) -> AWSError:
    with ScriptedServer(reply) as s3, pytest.raises(AWSError) as raised:
        loopback_aws(s3.url).read(URI)
    return raised.value


def xml(status: int, code: str, message: str = "no", **headers: str) -> Reply:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, body.encode(), {"x-amz-request-id": "R-42", **headers})


def test_the_region_is_the_one_that_is_given_then_aws_region_then_the_profile_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = us-west-2\n")
    assert AWS().region == "us-west-2"
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert AWS().region == "us-east-1"
    assert AWS(region="eu-west-2").region == "eu-west-2"


@pytest.mark.parametrize(
    ("status", "code", "cls", "words"),
    [
        (400, "ExpiredToken", AccessDeniedError, "the credentials have expired"),
        (403, "InvalidAccessKeyId", AccessDeniedError, "does not accept the credentials"),
        (403, "SignatureDoesNotMatch", AccessDeniedError, "does not accept the credentials"),
        (403, "AccessDenied", AccessDeniedError, "access denied"),
        (403, "RequestTimeTooSkewed", ServiceError, "clock"),
        (404, "NoSuchKey", NotFoundError, "does not exist"),
        (404, "NoSuchBucket", NotFoundError, "bucket's name"),
        (503, "SlowDown", ThrottledError, "slow down"),
        (429, "Whatever", ThrottledError, "slow down"),
        (400, "KMS.DisabledException", ServiceError, "kms_key_id"),
        (
            500,
            "InternalError",
            ServiceError,
            "AWS failed (InternalError), also after several tries. Try again in a minute. AWS says: no.",
        ),
        (418, "", ServiceError, "AWS answered 418"),
    ],
)
def test_each_answer_has_its_own_class_and_words(status: int, code: str, cls: type[AWSError], words: str) -> None:
    error = answer_to_read(xml(status, code))
    assert type(error) is cls
    assert words in str(error)
    assert str(URI) in str(error)
    assert error.operation == "GetObject"
    assert error.target == str(URI)
    assert error.code in {code, str(status)}
    assert error.status == status
    assert error.may_pass == (status == 429 or status >= 500)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


def test_the_request_id_is_kept() -> None:
    error = answer_to_read(xml(403, "AccessDenied"))
    assert error.request_id == "R-42"
    assert "(request id R-42)" in str(error)


def test_a_wrong_clock_is_told_from_wrong_credentials_by_the_date_of_the_answer() -> None:
    date = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=30)
    error = answer_to_read(xml(403, "SignatureDoesNotMatch", Date=format_datetime(date, usegmt=True)))
    assert type(error) is ServiceError
    assert "this machine's clock is 30 minutes behind AWS's" in str(error)


def test_texts_of_aws_are_passed_on_in_one_short_line() -> None:
    error = answer_to_read(xml(400, "InvalidRequest", "first\n  second " + "word " * 200))
    assert "AWS says: first second word" in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 700


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "AccessDenied", "InvalidRequest", "ExpiredToken"])
def test_a_text_that_quotes_the_signed_request_is_kept_back(code: str) -> None:
    quoted = f"The Canonical String should have been 'GET / x-amz-security-token:{SESSION_TOKEN}' {ACCESS_KEY}"
    error = answer_to_read(xml(403, code, quoted))
    assert SESSION_TOKEN not in told(error)
    assert ACCESS_KEY not in told(error)
    assert SECRET_KEY not in told(error)


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken"])
def test_nothing_that_aws_says_about_credentials_is_passed_on(code: str) -> None:
    assert ACCESS_KEY not in told(answer_to_read(xml(403, code, f"The key {ACCESS_KEY} is not good")))


def test_no_credentials_are_told_with_the_remedy() -> None:
    aws = AWS(LoopbackSession("http://127.0.0.1:1", keys=False))
    with pytest.raises(AccessDeniedError, match=r"none were found\. Sign in"):
        aws.account()
    with pytest.raises(AccessDeniedError, match=r"none were found\. Sign in"):
        aws.eks_token("research")


def test_half_of_the_credentials_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    with pytest.raises(AccessDeniedError, match="only a part of them"):
        AWS(region="us-east-1").account()


def test_a_credential_process_that_fails_does_not_spill_its_output(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"[default]\nregion = us-east-1\ncredential_process = sh -c 'echo {SECRET_KEY} >&2; exit 1'\n"
    )
    with pytest.raises(AccessDeniedError, match="custom-process did not give any") as raised:
        AWS(account=None).account()
    assert SECRET_KEY not in told(raised.value)


ROLE = "role_arn = arn:aws:iam::123456789012:role/x\n"


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("credential_process = /nope/helper", "/nope/helper: No such file"),
        (f"credential_process = SECRET={SECRET_KEY}", "failed: No such file"),
        (f"credential_process = echo {SECRET_KEY}", "no credentials in JSON"),
        ("credential_process = echo []", "no credentials in JSON"),
        (f"{ROLE}web_identity_token_file = /nope/token", "/nope/token: No such file"),
        (f"{ROLE}mfa_serial = arn:aws:iam::1:mfa/x\nsource_profile = base", "MFA code, and there is no terminal"),
    ],
)
@pytest.mark.filterwarnings("ignore::getpass.GetPassWarning")
def test_a_source_of_credentials_that_fails_is_told_with_what_to_check(
    profile: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = f"[profile base]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    (tmp_path / "config").write_text(f"{base}[default]\nregion = us-east-1\n{profile}\n")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    aws = AWS(account="123456789012")
    with pytest.raises(AccessDeniedError, match=f"{words}.*credential_process") as raised:
        aws.check_bucket(URI)
    assert SECRET_KEY not in told(raised.value)
    with pytest.raises(AccessDeniedError, match=f"{words}|new MFA code") as raised:
        aws.eks_token("research")
    assert SECRET_KEY not in told(raised.value)


@pytest.mark.parametrize("line", ["endpoint_url = localhost:9000", "s3 = foo"])
def test_settings_that_botocore_cannot_use_are_a_configuration_error(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[default]\nregion = us-east-1\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"cannot be used.*https://host:port"):
        AWS().client("s3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://me:hush@local host")
    with pytest.raises(ConfigurationError, match=r"cannot be used\..*https://host:port") as raised:
        AWS(region="us-east-1").client("sts")
    assert "hush" not in told(raised.value)


def test_credentials_with_a_line_break_are_told_as_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"{SESSION_TOKEN}\n")
    with ScriptedServer(Reply(200)) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
        with pytest.raises(AccessDeniedError, match="hold a line break") as raised:
            AWS(region="us-east-1", account="123456789012", max_attempts=1).read(URI)
    assert SESSION_TOKEN not in told(raised.value)


def test_a_bucket_that_was_not_asked_for_is_not_called_somebody_else_s() -> None:
    with pytest.raises(AccessDeniedError, match="none were found") as raised:
        AWS(LoopbackSession("http://127.0.0.1:1", keys=False), account="123456789012").check_bucket(URI)
    assert "another account" not in str(raised.value)


def test_a_refused_bucket_keeps_the_request_id() -> None:
    refused = Reply(403, b"", {"x-amz-request-id": "R-42"})
    with ScriptedServer(refused, refused) as s3, pytest.raises(AccessDeniedError, match="another account") as raised:
        loopback_aws(s3.url).check_bucket(URI)
    assert (raised.value.request_id, raised.value.status) == ("R-42", 403)


def test_an_expired_login_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[default]\nregion = us-east-1\nsso_start_url = https://acme.invalid/start\nsso_region = us-east-1\n"
        "sso_account_id = 123456789012\nsso_role_name = trainer\n"
    )
    with pytest.raises(AccessDeniedError, match="login session has expired"):
        AWS().account()


def test_no_region_names_every_place_to_set_one() -> None:
    with pytest.raises(ConfigurationError, match=r"AWS\(region='us-east-1'\).*AWS_REGION.*~/\.aws/config"):
        _ = AWS().region


def test_an_unknown_profile_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match=r"nobody.*AWS_PROFILE"):
        _ = AWS().region


def test_a_value_that_cannot_be_sent_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="GetObject was not sent"):
        loopback_aws("http://127.0.0.1:1").read(S3Uri("acme-attic"))


def test_an_endpoint_that_cannot_be_reached_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ServiceError, match=f"{url}.* cannot be reached.*Region") as raised:
            loopback_aws(url).read(URI)
    assert (raised.value.code, raised.value.request_id) == ("", "")
    assert raised.value.may_pass


def test_a_connection_that_breaks_is_a_service_error() -> None:
    with (
        ScriptedServer(Reply(drop=True)) as s3,
        pytest.raises(ServiceError, match="cannot be reached, or broke") as hit,
    ):
        loopback_aws(s3.url).read(URI)
    assert hit.value.may_pass


def test_a_handshake_that_breaks_may_pass_and_a_strange_certificate_does_not(tmp_path: Path) -> None:
    with ScriptedServer(Reply(drop=True)) as plain, pytest.raises(ServiceError, match="or broke") as broken:
        loopback_aws(plain.url.replace("http:", "https:")).read(URI)
    authority = make_authority(tmp_path)
    with (
        ScriptedServer(Reply(drop=True)).with_tls(authority.certificate, authority.key) as strange,
        pytest.raises(ServiceError, match="TLS certificate was not accepted") as refused,
    ):
        loopback_aws(strange.url.replace("http:", "https:")).read(URI)
    assert (broken.value.may_pass, refused.value.may_pass) == (True, False)


def test_a_busy_service_that_answers_400_may_be_asked_again_later() -> None:
    error = answer_to_read(xml(400, "ThrottlingException"))
    assert (type(error), error.may_pass) == (ThrottledError, True)


def test_no_secret_is_in_any_error_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="nova_dpo_sdk")
    with ScriptedServer(answer=lambda _: xml(403, "AccessDenied")) as s3:
        aws = loopback_aws(s3.url)
        calls = (
            lambda: aws.read(URI),
            lambda: aws.write(URI, b""),
            lambda: aws.check_bucket(URI),
            lambda: aws.describe_hyperpod("research"),
            lambda: aws.describe_eks("research"),
        )
        for call in calls:
            with pytest.raises(NovaError) as raised:
                call()
            shown = told(raised.value)
            assert not [secret for secret in (SECRET_KEY, SESSION_TOKEN, ACCESS_KEY) if secret in shown]
    shown = caplog.text + repr(aws) + repr(aws.eks_token("research"))
    assert not [secret for secret in (SECRET_KEY, SESSION_TOKEN, ACCESS_KEY) if secret in shown]
