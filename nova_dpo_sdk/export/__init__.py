"""Hand a chain over to an engine that runs it without a machine of yours: AWS Step Functions."""

from nova_dpo_sdk.export._check import definition_findings
from nova_dpo_sdk.export._draft import DraftChain, DraftHandle, DraftStage
from nova_dpo_sdk.export._machine import StateMachine, reader_source

__all__ = ["DraftChain", "DraftHandle", "DraftStage", "StateMachine", "definition_findings", "reader_source"]
