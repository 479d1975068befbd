"""References to container images: whether one is legal, and whether one of Nova's own fits the run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk.catalog import Catalog, Platform

_HOST = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
_PATH = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
REFERENCE = re.compile(
    rf"(?:{_HOST}(?::[0-9]+)?/)?{_PATH}(?:/{_PATH})*(?::[A-Za-z0-9_][\w.-]{{0,127}})?(?:@{_DIGEST})?\Z", re.ASCII
)
"""An image reference (the grammar of github.com/distribution/reference, which container runtimes read by)."""
REFERENCE_FORM = (
    "a reference such as 123456789012.dkr.ecr.us-east-1.amazonaws.com/repository:tag, the repository in lower case"
)

_ECR = re.compile(r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/")


def image_doubts(image: str, region: str, platform: Platform, family: str, catalog: Catalog) -> Iterator[Finding]:
    """What speaks against an image that the caller has chosen, as far as its name tells.

    Args:
        image: A legal reference.
        region: Where the run is.
        platform: What the run runs on.
        family: Which images its recipe takes: `DPO`, `SFT` or `SFT nova-2`.
        catalog: Knows Nova's own images.
    """
    yield from registry_doubts("image", image, region)
    stems = {repository.removesuffix("latest"): key for key, repository in catalog.training_repositories.items()}
    named = image.rpartition("/")[2]
    made_for = max((stem for stem in stems if named.startswith(stem)), key=len, default=None)
    if made_for is not None and stems[made_for] != (platform, family):
        of, technique = stems[made_for]
        yield Finding(
            "image-of-another-kind",
            Severity.WARNING,
            "options.image",
            f"The image {named} is made for {technique} on {of}, and this is {family} on {platform}: "
            "its container would end at once.",
            image,
            catalog.training_repositories.get((platform, family), ""),
            "Leave image out, or name one for this technique.",
            catalog.titles(["launcher"]),
        )


def registry_doubts(option: str, image: str, region: str) -> Iterator[Finding]:
    """A warning when an image lies in another Region's ECR registry.

    Args:
        option: The option that names it.
        image: A legal reference.
        region: Where the run is.
    """
    match = _ECR.match(image)
    if match is not None and match[1] != region:
        yield Finding(
            "image-in-another-region",
            Severity.WARNING,
            f"options.{option}",
            f"The image {image} lies in {match[1]}, and the run is in {region}: its nodes may not reach that registry.",
            match[1],
            region,
            f"Use the registry of {region}.",
            "Amazon ECR user guide, private registries",
        )
