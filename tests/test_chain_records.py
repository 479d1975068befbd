"""A stage's record: what is kept of it, how it is read again, and how two writers never overwrite each other."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from nova_dpo_sdk.catalog import NovaModel, Platform, Technique, TuningKind
from nova_dpo_sdk.chain._records import SCHEMA, Attempt, DataDigest, Outcome, Parent, StageRecord, StageStatus
from nova_dpo_sdk.chain._store import ChainStore
from nova_dpo_sdk.errors import ConfigurationError, ServiceError
from nova_dpo_sdk.recipes import Checkpoint

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def record(**changes):
    first = Attempt(number=1, digest="d1", job="tone-dpo-12345", ref="hyperpod://r/c/n/tone-dpo-12345", claimed_at=NOON)
    given = {
        "sdk": "0.1.0",
        "chain": "tone",
        "stage": "dpo",
        "status": StageStatus.CLAIMED,
        "digest": "d1",
        "technique": Technique.DPO,
        "model": NovaModel.LITE,
        "tuning": TuningKind.LORA,
        "platform": Platform.HYPERPOD,
        "instance_type": "ml.p5.48xlarge",
        "replicas": 4,
        "gpus": 8,
        "parent": Parent(uri="s3://escrow/sft", job="hyperpod://r/c/n/tone-sft-1", stage="sft"),
        "data": (
            DataDigest(role="data", file="p.jsonl", uri="s3://acme-nova/p.jsonl", sha256="ab", records=7, size=70),
        ),
        "plan": {"name": "tone-dpo-12345", "recipe": {"run": {"name": "tone"}}},
        "attempts": (first,),
        "claimed_at": NOON,
    }
    return StageRecord(**{**given, **changes})


def test_a_record_is_read_as_it_was_written():
    whole = record(
        status=StageStatus.FINISHED,
        checkpoint=Checkpoint(uri="s3://escrow/dpo", model=NovaModel.LITE, tuning=TuningKind.LORA),
        attempts=(*record().attempts, record().current.replace(number=2, outcome=Outcome.SUCCEEDED, ended_at=NOON)),
        finished_at=NOON,
    )
    assert StageRecord.from_json(whole.to_json()) == whole
    assert json.loads(whole.to_json())["schema"] == SCHEMA
    assert whole.current.number == 2


def test_an_older_record_without_what_was_added_since_is_read():
    older = record().to_dict()
    for key in ("started_at", "trouble", "trouble_since"):
        del older["attempts"][0][key]
    assert StageRecord.from_json(json.dumps(older)) == record()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not the record"),
        ("[]", "not the record"),
        ('{"schema": 99}', "has schema 99; this version reads 1. Upgrade"),
        ('{"schema": 1}', "sdk is required"),
        (record().to_json().replace('"claimed",', '"asleep",'), "status"),
        (record().to_json().replace('"replicas": 4', '"replicas": 4, "new": 1'), "new"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(text, says):
    with pytest.raises(ServiceError, match=says) as error:
        StageRecord.from_json(text, "s3://acme-nova/runs/chains/tone/dpo.json")
    assert error.value.target == "s3://acme-nova/runs/chains/tone/dpo.json"
    assert str(error.value).startswith("s3://acme-nova/runs/chains/tone/dpo.json")


def test_of_two_who_claim_one_wins_and_of_two_who_advance_one_wins(nova):
    store = ChainStore(nova.backend.aws, nova.output)
    held = store.claim(record())
    assert held is not None
    assert store.claim(record(digest="other")) is None
    assert store.advance(held, record(status=StageStatus.SUBMITTED)) is not None
    assert store.advance(held, record(status=StageStatus.STOPPED)) is None
    assert store.read("tone", "dpo").record.status is StageStatus.SUBMITTED


def test_stages_and_chains_are_listed(nova):
    store = ChainStore(nova.backend.aws, nova.output)
    assert store.chains() == []
    assert store.stages("tone") == []
    assert store.read("tone", "sft") is None
    later = NOON.replace(hour=13)
    attempts = (record().current.replace(claimed_at=later),)
    for each in (record(stage="a", attempts=attempts), record(stage="b"), record(chain="zeal")):
        assert store.claim(each)
    nova.backend.aws.write(store.folder.join("tone", "notes.txt"), b"mine")
    assert store.chains() == ["tone", "zeal"]
    assert [each.stage for each in store.stages("tone")] == ["b", "a"]
    with pytest.raises(ConfigurationError, match="not a stage's name"):
        store.read("tone", "DPO stage")
