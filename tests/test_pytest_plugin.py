"""The fixtures that ship with the package, used by the tests of somebody else's project."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from cli_support import PAIRS

from nova_dpo_sdk import DPORecipe, JobStatus, NovaClient, NovaModel, PreferenceDataset
from nova_dpo_sdk.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

    from nova_dpo_sdk.local import FakeClock, LocalCloud

RECIPE = DPORecipe(name="support-dpo", model=NovaModel.LITE, replicas=4, global_batch_size=16, warmup_steps=1)


def test_my_pipeline(nova_local):
    nova = NovaClient(nova_local.hyperpod(), output=nova_local.output)
    nova_local.script_fault("node-loss", lasts=60)
    job = nova.submit(nova.plan(RECIPE, PreferenceDataset.from_jsonl(PAIRS)))
    assert job.result().uri.startswith("s3://customer-escrow-")


def test_the_clock_is_frozen_until_somebody_waits(nova_local: LocalCloud, nova_clock: FakeClock):
    start = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    assert nova_local.clock is nova_clock
    nova = NovaClient(nova_local.hyperpod(), output=nova_local.output)
    job = nova.submit(nova.plan(RECIPE, PreferenceDataset.from_jsonl(PAIRS)))
    assert job.status().observed_at == start
    assert job.wait().status is JobStatus.SUCCEEDED
    assert nova_clock.now() > start


@pytest.mark.nova_local(role="unmapped", bucket="other-bucket")
def test_the_marker_speaks_to_the_cloud(nova_local):
    assert nova_local.output == "s3://other-bucket/runs"
    nova = NovaClient(nova_local.hyperpod(), output=nova_local.output)
    with pytest.raises(ClusterError):
        nova.jobs()


def pytest_of(project: Path, test: str, hidden: tuple[str, ...] = (), *options: str) -> str:
    project.joinpath("test_theirs.py").write_text(test, encoding="utf-8")
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); import pytest; sys.exit(pytest.main())"
    words = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(words, cwd=project, capture_output=True, text=True, check=False, timeout=60).stdout


def test_a_project_without_the_extra_is_told_what_to_install(tmp_path):
    test = "def test_a(nova_local): pass\ndef test_b(): pass\n"
    told = pytest_of(tmp_path, test, ("moto", "cryptography", "werkzeug"))
    assert "1 passed, 1 error" in told
    assert "pip install 'nova-dpo-sdk[local]'" in told
    assert "Traceback" not in told


def test_a_run_that_does_not_use_it_loads_nothing_for_it(tmp_path):
    heavy = [
        "boto3",
        "botocore",
        "pydantic",
        "moto",
        "rich",
        "yaml",
        "cryptography",
        "nova_dpo_sdk.local",
        "nova_dpo_sdk.errors",
    ]
    test = f"import sys\ndef test_a():\n    assert 'nova_dpo_sdk.pytest_plugin' in sys.modules\n    assert [m for m in {heavy!r} if m in sys.modules] == []\n"
    told = pytest_of(tmp_path, test, (), "--strict-markers", "-W", "error")
    assert "1 passed" in told, told


@pytest.mark.nova_local(role="administrator", region="eu-west-2")
class TestOfAClass:
    @pytest.mark.nova_local(role="unmapped")
    def test_the_closest_marker_counts_and_the_others_add_to_it(self, nova_local):
        assert nova_local.region == "eu-west-2"
        nova = NovaClient(nova_local.hyperpod(), output=nova_local.output)
        with pytest.raises(ClusterError):
            nova.jobs()


def test_a_mistake_in_the_marker_is_said_in_one_line(tmp_path):
    mistakes = {
        "role='king'": "role 'king' is none of administrator",
        "'team'": "takes arguments by name, such as role='team', not 'team'. It knows clock, region,",
        "bogus=1": "not bogus. It knows clock",
        "bucket='m'": "a bucket's name has 3 to 63 lower-case letters",
    }
    tests = [f"@pytest.mark.nova_local({given})\ndef test_{n}(nova_local): pass\n" for n, given in enumerate(mistakes)]
    told = pytest_of(tmp_path, "import pytest\n" + "".join(tests))
    assert [each for each in mistakes.values() if each not in told] == []
    assert "4 errors" in told
    assert "Traceback" not in told
    assert "Error" not in told
