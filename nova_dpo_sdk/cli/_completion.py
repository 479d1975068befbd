"""`nova-dpo completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from nova_dpo_sdk.cli._out import GOOD, say
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse


def completion(arguments: argparse.Namespace) -> int:
    """Print the script."""
    if find_spec("shtab") is None:
        raise ConfigurationError("Completion needs shtab. Install it: pip install 'nova-dpo-sdk[completion]'")
    import shtab

    from nova_dpo_sdk.cli._parser import parser

    say(shtab.complete(parser(), shell=arguments.shell))
    return GOOD
