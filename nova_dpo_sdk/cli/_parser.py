"""The words that `nova-dpo` understands. Nothing heavy is imported here: handlers are named, not loaded."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    Words = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - argparse has no public name for it


class _Options(Protocol):
    """What options are added to: a parser, or a group of one."""

    def add_argument(self, *flags: str, **about: Any) -> Any:
        """Add one."""
        ...


MODELS = ("nova-micro", "nova-lite", "nova-pro", "nova-lite-2")
P5 = "ml.p5.48xlarge"
PLATFORMS = ("hyperpod", "training-jobs")
KINDS = ("preference", "chat", "chat-nova-2")
_SOURCE = "the Nova JSONL: a file, - for stdin, or s3://bucket/key"

_SINCE = "30m, 2h, 1d, or a moment such as 2026-11-26T12:00Z"
_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_AGE = re.compile(r"(\d{1,6})([smhd])")

_ABOUT = """\
Fine-tune Amazon Nova by preference on SageMaker HyperPod: first on chats
(SFT), then on pairs of a better and a worse answer (DPO).

Try it now, without an AWS account:

  nova-dpo demo
"""
_CODES = """\
A job is named by its reference, which submit prints, such as
hyperpod://REGION/CLUSTER/NAMESPACE/JOB or training-jobs://REGION/JOB. Every
command has a --help of its own.

exit codes: 0 all is well; 1 findings, a failed job or an error; 2 wrong usage;
130 interrupted. Colours are for terminals; NO_COLOR turns them off, FORCE_COLOR
on.
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help for 80 columns, with texts kept as they were written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)
        self._action_max_length = 15  # argparse forgets the indent of commands and would break the longest one


def parser() -> argparse.ArgumentParser:
    """The parser of `nova-dpo`."""
    top = argparse.ArgumentParser("nova-dpo", description=_ABOUT, epilog=_CODES, formatter_class=_Help)
    top.add_argument("--version", action="version", version=f"nova-dpo-sdk {__version__}")
    words = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _demo(words)
    _cloud(words)
    _recipe(words)
    _data(words)
    _plan(words)
    _jobs(words)
    _doctor(words)
    _chain(words)
    _permissions(words)
    _completion(words)
    return top


def _word(words: Words, name: str, run: str, about: str, more: str = "") -> argparse.ArgumentParser:
    text = f"{about}\n\n{more}" if more else about
    made = words.add_parser(name, help=about, description=text, formatter_class=_Help)
    made.set_defaults(run=run, interrupted="Interrupted.", usage=made.error)
    return made


def _noun(words: Words, name: str, about: str) -> Words:
    made = words.add_parser(name, help=about, description=about, formatter_class=_Help)
    return made.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _platform(word: _Options, about: str = "where jobs run (default: hyperpod)") -> None:
    word.add_argument("--platform", choices=PLATFORMS, default="hyperpod", help=about)


def _json(word: argparse.ArgumentParser) -> None:
    word.add_argument("--json", action="store_true", help="answer in JSON")


def _demo(words: Words) -> None:
    word = _word(
        words,
        "demo",
        "_demo:demo",
        "rehearse the whole way, SFT then DPO, on this machine",
        "Starts a rehearsal cloud on 127.0.0.1 (S3, SageMaker, EKS, a cluster and a\n"
        "trainer), then plans, submits and follows an SFT run and a DPO run that starts\n"
        "from its checkpoint, with the very code that talks to AWS. No account is needed\n"
        "and nothing leaves this machine. Nothing is trained: the trainer reads and\n"
        "checks what it gets and writes the manifest that real training would leave.",
    )
    word.add_argument("--chats", metavar="FILE", help="your chats for SFT; any known layout")
    word.add_argument(
        "--pairs",
        metavar="FILE",
        help="your preference pairs for DPO; any known layout (alone: SFT on the better side)",
    )
    word.add_argument("--model", choices=MODELS[:3], default="nova-lite", help="the model (default: nova-lite)")
    _platform(word, "where jobs run (default: hyperpod); training-jobs needs the extra `sagemaker`")
    word.add_argument(
        "--out",
        metavar="DIR",
        default="nova-dpo-demo",
        help="folder for recipes, plans and data (default: nova-dpo-demo)",
    )
    word.add_argument(
        "--fault",
        metavar="NAME",
        help="let the DPO run have a bad day, such as crash-loop; `list` names them all, `random` picks some by --seed",
    )
    word.add_argument("--seed", type=int, default=1, metavar="N", help="for --fault random (default: 1)")
    word.add_argument(
        "--keep", action="store_true", help="let the rehearsal cloud run on until Ctrl-C, for --local in another shell"
    )


def _cloud(words: Words) -> None:
    word = _word(
        words,
        "cloud",
        "_cloud:cloud",
        "run a rehearsal cloud for scripts and commands of other shells, until Ctrl-C",
        "What it takes to reach it is written to FILE; --local FILE of other commands, and\n"
        "LocalCloud.attach() in Python, read it.",
    )
    word.add_argument("file", metavar="FILE", help="where to write the connection")
    word.add_argument(
        "--pace",
        type=_seconds,
        metavar="X",
        default=1.0,
        help="factor on how long jobs take (default: 1, half a minute)",
    )


def _recipe(words: Words) -> None:
    nouns = _noun(words, "recipe", "write, check and normalise recipes")
    new = _word(nouns, "new", "_recipe:new", "write a recipe with the published defaults as YAML")
    new.add_argument("--technique", choices=("sft", "dpo"), required=True, help="what to train with")
    new.add_argument("--model", choices=MODELS, default="nova-lite", help="the model (default: nova-lite)")
    new.add_argument("--tuning", choices=("lora", "full-rank"), default="lora", help="which weights (default: lora)")
    new.add_argument("--name", metavar="NAME", help="what the run is called (default: from model and technique)")
    new.add_argument("--instance-type", metavar="TYPE", default=P5, help=f"instance type (default: {P5})")
    _platform(new)
    new.add_argument("-o", "--out", metavar="FILE", help="file to write (default: standard output)")
    check = _word(nouns, "check", "_recipe:check", "say everything that is wrong or disputed about a recipe")
    check.add_argument("file", metavar="FILE", help="the recipe's YAML")
    check.add_argument("--instance-type", metavar="TYPE", default=P5, help=f"instance type (default: {P5})")
    _platform(check)
    show = _word(nouns, "show", "_recipe:show", "print a recipe as Nova's container will read it")
    show.add_argument("file", metavar="FILE", help="the recipe's YAML")
    for word in (check, show):
        _extra(word)
    for word in (new, check, show):
        _json(word)


def _extra(word: _Options) -> None:
    word.add_argument(
        "--extra", metavar="PATH", action="append", default=[], help="unknown key to carry along, such as run.new_key"
    )


def _data(words: Words) -> None:
    nouns = _noun(words, "data", "check, convert, profile, split and upload training data")
    check = _check(nouns)
    convert = _convert(nouns)
    profile = _word(nouns, "profile", "_data:profile", "say what data are made of, and which recipe values suit them")
    profile.add_argument("file", metavar="FILE", help=_SOURCE)
    profile.add_argument("--validation", metavar="FILE", help="what will be validated on: counts prompts in both")
    profile.add_argument("--plot", metavar="PNG", help="draw the distributions, too (needs the extra plots)")
    split = _word(nouns, "split", "_data:split", "write data to two files, no prompt in both")
    split.add_argument("file", metavar="FILE", help=_SOURCE)
    split.add_argument("train", metavar="TRAIN", help="the .jsonl file to train on")
    split.add_argument("validation", metavar="VALIDATION", help="the .jsonl file to validate on")
    split.add_argument(
        "--fraction", type=_share, default=0.05, metavar="F", help="share of prompts to validate on (default: 0.05)"
    )
    upload = _upload(nouns)
    rules = _word(nouns, "rules", "_data:rules", "list every rule with its remedy and its source")
    rules.add_argument("--format", choices=("text", "markdown", "json"), default="text", help="how (default: text)")
    for word in (check, convert, profile, split, upload):
        word.add_argument("--kind", choices=KINDS, help="what the records are for (default: told from them)")
    for word in (check, profile, split, upload):
        _in_s3(word)
    _json(split)
    for word in (profile, split):
        word.set_defaults(rule=[])
    for word in (check, upload):
        _rule(word)
    for word in (check, convert, profile, upload, rules):
        _json(word)


def _check(nouns: Words) -> argparse.ArgumentParser:
    check = _word(
        nouns,
        "check",
        "_data:check",
        "hold every line of Nova JSONL against every rule",
        "Prints one finding for each rule that is broken; --all lists every problem as\n"
        "FILE:LINE: severity [rule] path: message. The exit code is 1 for an error.",
    )
    check.add_argument("file", metavar="FILE", help=_SOURCE)
    check.add_argument("--all", action="store_true", help="list every problem (text: the first 10,000)")
    check.add_argument(
        "--format", choices=("text", "json", "jsonl", "sarif"), default="text", help="how (default: text)"
    )
    check.add_argument("-o", "--out", metavar="FILE", help="write the report to a file")
    check.add_argument(
        "--write-clean", metavar="GOOD", help="write the good records to this file, byte by byte (- for stdout)"
    )
    check.add_argument(
        "--rejected", metavar="BAD", help="the other records with reasons (default: GOOD.rejected.jsonl)"
    )
    check.add_argument(
        "--recipe", metavar="YAML", help="check the data as the kind this recipe trains on, and against it"
    )
    check.add_argument(
        "--profile", action="store_true", help="say what the data are made of, too; of a large file, from a part of it"
    )
    check.add_argument("--strict", action="store_true", help="exit code 1 for warnings, too")
    return check


def _convert(nouns: Words) -> argparse.ArgumentParser:
    convert = _word(
        nouns,
        "convert",
        "_data:convert",
        "write data of any known layout as Nova JSONL",
        "Reads JSONL or JSON (plain, gzip or zstd) and Parquet. What Nova cannot hold is\n"
        "dropped or mended by named rules, and counted.",
    )
    convert.add_argument("source", metavar="SRC", help="the file to read (- for stdin)")
    convert.add_argument("target", metavar="DST", help="the .jsonl file to write (- for stdout)")
    convert.add_argument("--layout", metavar="L", help="layout of SRC (default: found out)")
    convert.add_argument(
        "--clean-reserved", action="store_true", help='remove words like "User:" where they begin a line'
    )
    convert.add_argument(
        "--local-images", action="store_true", help="keep images that a local path names; data upload sends them"
    )
    return convert


def _upload(nouns: Words) -> argparse.ArgumentParser:
    upload = _word(
        nouns,
        "upload",
        "_data:upload",
        "check data and send them to S3 at the same time",
        "Prints the address, which is made of the content: the same bytes are never sent\n"
        "twice, and an interrupted upload goes on where it stopped. Data with an error\n"
        "are not left in S3.",
    )
    upload.add_argument("file", metavar="FILE", help=_SOURCE)
    upload.add_argument("--output", metavar="S3", required=True, help="S3 prefix for data, as plan and submit take it")
    upload.add_argument("--name", metavar="NAME", help="the object's name, for data from stdin (default: data.jsonl)")
    upload.add_argument(
        "--local-images",
        metavar="DIR",
        nargs="?",
        const="",
        help="send the images that records name by local path, too; the paths start at DIR (default: FILE's folder)",
    )
    upload.add_argument(
        "--to",
        metavar="OUT",
        help="with --local-images: the file to write, the same records with their images' addresses in S3",
    )
    upload.set_defaults(interrupted="Interrupted. Do it again: what has arrived is not sent again.")
    return upload


def _rule(word: argparse.ArgumentParser) -> None:
    word.add_argument(
        "--rule",
        metavar="CODE=SETTING",
        type=_setting,
        action="append",
        default=[],
        help="make a rule an error, a warning or off; repeatable; see data rules",
    )


def _in_s3(word: argparse.ArgumentParser) -> None:
    word.add_argument("--region", metavar="R", help="AWS Region of data in S3 (default: that of your configuration)")
    word.add_argument("--account", metavar="N", help="your account, 12 digits (default: asked of AWS)")
    _local(word)


def _plan(words: Words) -> None:
    plan = _word(
        words,
        "plan",
        "_runs:plan",
        "say everything that would be sent; sends nothing",
        "Needs no network and no credentials, except for --check and for --from with a\njob reference.",
    )
    submit = _word(
        words,
        "submit",
        "_runs:submit",
        "send a run exactly once; prints the job's reference",
        "Sent again, it finds the same job. A job that failed needs --attempt 2.",
    )
    for word in (plan, submit):
        _run_options(word)
    plan.add_argument("--full", action="store_true", help="print the recipe and every object, too")
    plan.add_argument("--check", action="store_true", help="ask AWS and the cluster whether they would accept it")


def _run_options(word: argparse.ArgumentParser) -> None:
    what = word.add_argument_group("what to train")
    what.add_argument("--recipe", metavar="FILE", required=True, help="the recipe's YAML")
    what.add_argument(
        "--data", metavar="FILE", required=True, help="Nova JSONL, or its s3:// path: chats for SFT, pairs for DPO"
    )
    what.add_argument("--validation", metavar="FILE", help="the same for validation")
    what.add_argument(
        "--from", dest="start", metavar="WHERE", help="start from a checkpoint: its s3:// path, or the job that made it"
    )
    what.add_argument("--attempt", type=_count, default=1, metavar="N", help="2, 3, ... to run the same again")
    what.add_argument("--allow", action="append", default=[], metavar="CODE", help="leave out a warning; repeatable")
    _extra(what)
    _where(word)
    _on_hyperpod(word.add_argument_group("on HyperPod"))
    _on_training_jobs(word.add_argument_group("on SageMaker Training Jobs"))
    _json(word)


def _where(word: argparse.ArgumentParser) -> None:
    where = word.add_argument_group("where")
    _platform(where)
    where.add_argument("--output", metavar="S3", help="S3 prefix for data, plans and manifests")
    where.add_argument("--instance-type", metavar="TYPE", help=f"instance type (default: {P5})")
    where.add_argument("--image", metavar="URI", help="training image (default: AWS's for Region and technique)")
    where.add_argument("--kms-key", metavar="KEY", help="KMS key for what is written to S3")
    where.add_argument("--deadline", type=_count, metavar="S", help="seconds after which it is ended for good")
    where.add_argument("--region", metavar="R", help="AWS Region (default: that of your AWS configuration)")
    where.add_argument("--account", metavar="N", help="your account, 12 digits (default: asked of AWS at submit)")
    _local(where)


def _on_hyperpod(where: _Options) -> None:
    where.add_argument("--cluster", metavar="NAME", help="the HyperPod cluster")
    where.add_argument("--namespace", metavar="NAME", help="Kubernetes namespace (default: kubeflow)")
    where.add_argument("--queue", metavar="NAME", help="Kueue's local queue, such as hyperpod-ns-nlp-localqueue")
    where.add_argument("--queue-priority", metavar="NAME", help="Kueue's priority class of the job")
    where.add_argument("--backoff-limit", type=_count, metavar="N", help="restarts after which it fails for good")


def _on_training_jobs(where: _Options) -> None:
    where.add_argument("--role", metavar="ARN", help="the execution role that SageMaker assumes")
    where.add_argument("--volume-gb", type=_count, metavar="GB", help="storage of each instance (default: 30)")
    for name, about in (("subnet", "a subnet"), ("security-group", "a security group")):
        where.add_argument(f"--{name}", metavar="ID", action="append", help=f"{about} for the instances; repeatable")
    where.add_argument("--tag", metavar="KEY=VALUE", type=_pair, action="append", help="a tag of the job; repeatable")
    where.add_argument("--training-plan", metavar="ARN", help="a training plan that the instances are taken from")
    where.add_argument("--model-package", metavar="ARN", help="start from this model package")
    where.add_argument("--model-package-group", metavar="ARN", help="where SageMaker registers the trained model")
    where.add_argument(
        "--serverless", action="store_const", const=True, help="AWS chooses instances; needs --model-package-group"
    )
    where.add_argument("--accept-eula", action="store_const", const=True, help="serverless: accept the model's EULA")
    where.add_argument("--sequence-length", metavar="L", help="serverless: for sequences of this length, such as 8K")


def _local(word: _Options) -> None:
    word.add_argument(
        "--local", metavar="FILE", help="use the rehearsal cloud of `nova-dpo cloud FILE`, or of `nova-dpo demo --keep`"
    )


def _jobs(words: Words) -> None:
    found = _word(words, "jobs", "_jobs:jobs", "list the jobs that this package made in a namespace or a Region")
    _platform(found)
    found.add_argument("--cluster", metavar="NAME", help="the HyperPod cluster")
    found.add_argument("--namespace", metavar="NAME", help="Kubernetes namespace (default: kubeflow)")
    found.add_argument("--region", metavar="R", help="AWS Region (default: that of your AWS configuration)")
    found.add_argument("--name", metavar="NAME", help="only runs of recipes of this name")
    found.add_argument("--technique", choices=("sft", "dpo"), help="only this technique")
    found.add_argument("--since", type=_since, metavar="T", help=f"only jobs made since then: {_SINCE}")
    _watch(found)
    _local(found)
    _json(found)
    logs = _word(words, "logs", "_jobs:logs", "print a job's log lines, all its nodes merged by time")
    logs.add_argument("ref", metavar="REF", help="the job's reference, as submit prints it")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with lines to come until the job has finished")
    logs.add_argument("--since", type=_since, metavar="T", help=f"no line from before: {_SINCE}")
    logs.add_argument("--node", metavar="NODE", help="only this node, instance or replica")
    logs.add_argument("--output", metavar="S3", help="the output that the job was submitted with")
    logs.set_defaults(interrupted="Interrupted. The job runs on.")
    _local(logs)
    logs.add_argument("--json", action="store_true", help="answer in JSON, an object to a line")
    status = _word(words, "status", "_jobs:status", "look at a job once, or at several with --watch")
    status.add_argument("ref", metavar="REF", nargs="+", help="the job's reference, as submit prints it")
    _watch(status)
    _local(status)
    wait = _word(words, "wait", "_jobs:wait", "wait until a job has finished, and print what changes")
    cancel = _word(words, "cancel", "_jobs:cancel", "stop a job and free its nodes; one that is over stays")
    delete = _word(words, "delete", "_jobs:delete", "remove a finished job's record; S3 keeps what it wrote")
    checkpoint = _word(words, "checkpoint", "_jobs:checkpoint", "print the checkpoint that a finished job left")
    for word in (wait, cancel, delete, checkpoint):
        word.add_argument("ref", metavar="REF", help="the job's reference, as submit prints it")
        _local(word)
    for word in (status, wait, cancel, delete, checkpoint):
        _json(word)
    for word in (status, found):
        word.set_defaults(interrupted="Interrupted. The jobs run on.")
    wait.set_defaults(interrupted="Interrupted. The job runs on; wait again whenever you like.")
    wait.add_argument("--timeout", type=_seconds, metavar="S", help="seconds to wait at most (default: five days)")
    wait.add_argument("--interval", type=_seconds, metavar="S", help="seconds between looks (default: 30)")
    checkpoint.add_argument("--output", metavar="S3", help="the output that the job was submitted with")
    checkpoint.add_argument(
        "--instance-type", metavar="TYPE", default=P5, help=f"the job's instance type (default: {P5})"
    )


def _watch(word: argparse.ArgumentParser) -> None:
    word.add_argument("--watch", action="store_true", help="go on: a live table until every job is over")
    word.add_argument("--interval", type=_seconds, metavar="S", help="seconds between looks of --watch (default: 30)")
    word.add_argument("--timeout", type=_seconds, metavar="S", help="seconds to watch at most (default: five days)")


def _doctor(words: Words) -> None:
    word = _word(
        words,
        "doctor",
        "_doctor:doctor",
        "say whether this machine, account and cluster are ready, and what is missing",
        "Asks only; tries to create a ConfigMap as a dry run, and, with --output, writes a\n"
        "few bytes to checks/writable there.",
    )
    _platform(word)
    word.add_argument("--role", metavar="ARN", help="training jobs: the execution role that SageMaker assumes")
    word.add_argument("--instance-type", metavar="TYPE", help=f"training jobs: whose quota to ask (default: {P5})")
    word.add_argument("--cluster", metavar="NAME", help="the HyperPod cluster")
    word.add_argument("--namespace", metavar="NAME", help="Kubernetes namespace (default: kubeflow)")
    word.add_argument("--region", metavar="R", help="AWS Region (default: that of your AWS configuration)")
    word.add_argument("--output", metavar="S3", help="S3 prefix that runs are to write to")
    _local(word)
    _json(word)


def _chain(words: Words) -> None:
    nouns = _noun(words, "chain", "look at durable chains, and go on with them")
    listed = _word(nouns, "list", "_chain:list_chains", "list the chains below an output")
    show = _word(
        nouns,
        "show",
        "_chain:show",
        "show a chain's stages: states, durations, GPU-hours",
        "Asks the platform about the stages that are under way, unless --recorded is\ngiven.",
    )
    show.add_argument("--recorded", action="store_true", help="show what is recorded, and ask nobody")
    show.add_argument("--plot", metavar="PNG", help="draw the timeline, too (needs the extra plots)")
    resume = _word(
        nouns,
        "resume",
        "_chain:resume",
        "wait for the stages under way and bring their records up to date",
        "Begins no stage: that takes your script, which has the recipes and the data.",
    )
    resume.set_defaults(interrupted="Interrupted. The jobs run on; resume again whenever you like.")
    resume.add_argument("--timeout", type=_seconds, metavar="S", help="seconds to wait at most (default: five days)")
    reset = _word(nouns, "reset", "_chain:reset", "let a stage be begun anew by the next run of the script")
    for word in (show, resume, reset):
        word.add_argument("name", metavar="CHAIN", help="the chain's name")
    reset.add_argument("stage", metavar="STAGE", help="the stage's name")
    reset.add_argument("--cancel", action="store_true", help="stop its job, if that is still running")
    lineage = _word(words, "lineage", "_chain:lineage", "say what a checkpoint was made of, back to the base model")
    lineage.add_argument("where", metavar="WHERE", help="the checkpoint's s3:// path, or the job that made it")
    for word in (listed, show, resume, reset, lineage):
        word.add_argument("--output", metavar="S3", help="the output that the runs were submitted with")
        word.add_argument("--region", metavar="R", help="AWS Region (default: that of your AWS configuration)")
        word.add_argument("--account", metavar="N", help="your account, 12 digits (default: asked of AWS)")
        _local(word)
    for word in (listed, show, resume, reset, lineage):
        _json(word)


def _permissions(words: Words) -> None:
    word = _word(
        words,
        "permissions",
        "_permissions:permissions",
        "print the least IAM policy and Kubernetes roles for a place",
        "Made from the calls that this package makes; asks nobody.",
    )
    _platform(word)
    word.add_argument("--output", metavar="S3", required=True, help="S3 prefix that runs are to write to")
    word.add_argument("--cluster", metavar="NAME", help="the HyperPod cluster")
    word.add_argument(
        "--namespace", metavar="NAME", default="kubeflow", help="Kubernetes namespace (default: kubeflow)"
    )
    word.add_argument("--role", metavar="ARN", help="the role that training jobs run with")
    word.add_argument("--region", metavar="R", help="AWS Region (default: that of your AWS configuration)")
    word.add_argument("--account", metavar="N", help="your account, 12 digits (default: *, which is your own)")
    word.add_argument(
        "--group", metavar="NAME", default="nova-dpo-users", help="Kubernetes group (default: nova-dpo-users)"
    )
    word.add_argument(
        "--required-only", action="store_true", help="leave out what jobs can do without, such as logs and watching"
    )
    word.add_argument("--only", choices=("iam", "kubernetes"), help="print nothing else, for a file or a pipe")
    _json(word)


def _completion(words: Words) -> None:
    word = _word(
        words,
        "completion",
        "_completion:completion",
        "print a script that completes commands and options in your shell",
        'For bash: eval "$(nova-dpo completion bash)". Needs the extra completion.',
    )
    word.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")


def _share(text: str) -> float:
    value = _number(text, float, "a share above 0 and below 1")
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and below 1")
    return value


def _setting(text: str) -> tuple[str, str]:
    code, found, setting = text.partition("=")
    if not found or setting not in ("error", "warning", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not CODE=error, CODE=warning or CODE=off")
    return code, setting


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not key or not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _since(text: str) -> datetime:
    match = _AGE.fullmatch(text)
    if match:
        return SystemClock().now() - int(match[1]) * _UNITS[match[2]]
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an age such as 30m, 2h or 1d nor a moment with its zone")
    return moment


def _seconds(text: str) -> float:
    return _number(text, float, "a number of seconds above 0")


def _count(text: str) -> int:
    return int(_number(text, int, "a whole number from 1"))


def _number(text: str, kind: Callable[[str], float], wanted: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value
