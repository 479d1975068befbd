"""`nova-dpo chain` and `lineage`: what is recorded of chains, and what can be done with it without the script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.backends import JobRef
from nova_dpo_sdk.chain import Chain, ChainStore
from nova_dpo_sdk.chain._lineage import lineage as trace
from nova_dpo_sdk.chain._records import StageStatus, legal_name
from nova_dpo_sdk.chain._show import chain_lines, chains_lines, duration, gpu_hours, is_at_most, stage_took
from nova_dpo_sdk.chain._timeline import draw_timeline
from nova_dpo_sdk.cli._out import BAD, GOOD, complain, in_a_line, say, say_json, wrapped
from nova_dpo_sdk.cli._place import aws, backend, connection
from nova_dpo_sdk.client import NovaClient
from nova_dpo_sdk.errors import AWSError, ClusterError, ConfigurationError

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from nova_dpo_sdk.backends import JobSnapshot
    from nova_dpo_sdk.chain._records import StageRecord


def list_chains(arguments: argparse.Namespace) -> int:
    """List the chains below an output."""
    store = _store(arguments)
    now = _now(arguments)
    found = {name: store.stages(name) for name in store.chains()}
    if arguments.json:
        say_json([_summary(name, records, now) for name, records in found.items()])
        return GOOD
    say(*(chains_lines(found, now) if found else [f"No chains below {_output(arguments)}."]))
    return GOOD


def show(arguments: argparse.Namespace) -> int:
    """Show the stages of a chain."""
    records = _records(arguments)
    now = _now(arguments)
    seen = {} if arguments.recorded else _asked(arguments, records)
    if arguments.json:
        stages = [_stage(record, now, seen) for record in records]
        say_json({**_summary(arguments.name, records, now), "stages": stages})
    else:
        say(*chain_lines(arguments.name, records, now, seen), *_last(records))
    if arguments.plot:
        draw_timeline(arguments.name, records, arguments.plot, now)
        complain(f"Drawn: {arguments.plot}")
    return GOOD


def resume(arguments: argparse.Namespace) -> int:
    """Wait for the stages of a chain that are under way, and bring their records up to date."""
    records = _records(arguments)
    waiting = [each for each in records if each.status.is_under_way]
    if not waiting:
        say(*chain_lines(arguments.name, records, _now(arguments)))
        complain("Nothing is under way. Run the script again to begin what comes next.")
        return _verdict(records)
    chain = _chain(arguments, waiting[0])
    complain(f"Waiting for {', '.join(each.stage for each in waiting)}.")
    tell = None if arguments.json else _tell
    after = chain.follow(on_update=tell, **({"timeout": arguments.timeout} if arguments.timeout else {}))
    if arguments.json:
        say_json({**_summary(arguments.name, after, _now(arguments)), "stages": [each.to_dict() for each in after]})
    else:
        say("", *chain_lines(arguments.name, after, _now(arguments)), *_last(after))
    return _verdict(after)


def reset(arguments: argparse.Namespace) -> int:
    """Forget how far a stage has come."""
    records = _records(arguments)
    record = next((each for each in records if each.stage == arguments.stage), None)
    if record is None:
        known = ", ".join(each.stage for each in records)
        raise ConfigurationError(f"Chain {arguments.name} has no stage {arguments.stage!r}; it has {known}.")
    after = _chain(arguments, record).reset(arguments.stage, cancel=arguments.cancel)
    if arguments.json:
        say_json(_stage(after, _now(arguments), {}))
        return GOOD
    say(f"{after.stage} is reset: the next run of the script begins it anew. What was before stays in its record.")
    return GOOD


def lineage(arguments: argparse.Namespace) -> int:
    """Say what a checkpoint was made of."""
    told = trace(aws(arguments), _output(arguments), arguments.where)
    if arguments.json:
        say_json(told)
        return GOOD
    for number, step in enumerate(told["steps"]):
        say(*([""] if number else []), *_step_lines(step))
    missing: dict[str, Any] = told["missing"] or {}
    say(
        "", told["base_model"] or f"before that: {missing.get('checkpoint') or missing.get('job')}, with no record here"
    )
    return GOOD


def _step_lines(step: dict[str, Any]) -> list[str]:
    data = [
        f"{each['file']} ({plural(each['records'], 'record')}, sha256 {each['sha256'][:12]})" for each in step["data"]
    ]
    rows = [
        ("checkpoint", step["checkpoint"] or "(its job's manifest names it)"),
        ("job", step["job"]),
        ("trained", f"{step['model']} {step['technique']}, {step['tuning']}, digest {step['digest'][:12]}"),
        *(("data", each) for each in data),
        ("from", step["starts_from"] or "(handed over by a state machine)"),
    ]
    return [f"{label:<12}{value}" for label, value in rows]


def _output(arguments: argparse.Namespace) -> S3Uri:
    output: str | None = arguments.output
    if output is None and arguments.local is None:
        arguments.usage("--output must be given: the S3 prefix that the runs were submitted with")
    output = output or connection(str(arguments.local), arguments.clock).output
    return S3Uri.parse(output.rstrip("/"))


def _store(arguments: argparse.Namespace) -> ChainStore:
    output = _output(arguments)
    return ChainStore(aws(arguments), output)


def _records(arguments: argparse.Namespace) -> list[StageRecord]:
    legal_name(arguments.name, "chain")
    records = _store(arguments).stages(arguments.name)
    if not records:
        raise ConfigurationError(
            f"There is no chain {arguments.name} below {_output(arguments)}. `nova-dpo chain list` names those that "
            "there are."
        )
    return records


def _now(arguments: argparse.Namespace) -> datetime:
    return aws(arguments).clock.now()


def _chain(arguments: argparse.Namespace, record: StageRecord) -> Chain:
    """The chain, with a client for the place where this stage's job is."""
    client = NovaClient(backend(arguments, JobRef.parse(record.current.ref)), output=str(_output(arguments)))
    return client.chain(arguments.name)


def _asked(arguments: argparse.Namespace, records: list[StageRecord]) -> dict[str, str]:
    """What the platform says about the stages under way; what cannot be asked stays as it is recorded."""
    seen: dict[str, str] = {}
    for record in records:
        if not record.status.is_under_way:
            continue
        ref = JobRef.parse(record.current.ref)
        try:
            seen[record.stage] = str(backend(arguments, ref).snapshot(ref).status)
        except (ClusterError, AWSError) as error:
            complain(*wrapped(f"{record.stage} cannot be asked about, so its record is shown: {error}", "", "    "))
    return seen


def _last(records: list[StageRecord]) -> list[str]:
    """The newest checkpoint of a chain."""
    done = [each for each in records if each.checkpoint is not None]
    newest = max(done, key=lambda each: (each.finished_at is not None, each.finished_at), default=None)
    return [] if newest is None or newest.checkpoint is None else ["", f"newest checkpoint: {newest.checkpoint.uri}"]


def _verdict(records: list[StageRecord]) -> int:
    return GOOD if all(each.status is StageStatus.FINISHED for each in records) else BAD


def _tell(stage: str, snapshot: JobSnapshot) -> None:
    say(f"{snapshot.observed_at:%H:%M:%S}  {stage}: {in_a_line(snapshot)}")


def _summary(name: str, records: list[StageRecord], now: datetime) -> dict[str, Any]:
    return {
        "chain": name,
        "finished": sum(each.status is StageStatus.FINISHED for each in records),
        "gpu_hours": round(sum(gpu_hours(each, now) for each in records), 2),
        "at_most": is_at_most(*records),
        "stages": [each.stage for each in records],
    }


def _stage(record: StageRecord, now: datetime, seen: dict[str, str]) -> dict[str, Any]:
    return {
        **record.to_dict(),
        "seen": seen.get(record.stage),
        "took": duration(stage_took(record, now)),
        "gpu_hours": round(gpu_hours(record, now), 2),
        "at_most": is_at_most(record),
    }
