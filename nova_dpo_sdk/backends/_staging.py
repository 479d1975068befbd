"""Data on their way to S3 while they are checked: hashed first, then sent and looked at side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.aws import S3Uri, measure
from nova_dpo_sdk.datasets import Dataset
from nova_dpo_sdk.datasets._lines import state_of
from nova_dpo_sdk.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from nova_dpo_sdk.aws import AWS, Measured
    from nova_dpo_sdk.backends._plan import Upload
    from nova_dpo_sdk.datasets import Report
    from nova_dpo_sdk.datasets._images import LocalImage
    from nova_dpo_sdk.datasets._lines import FileState

D = TypeVar("D", bound=Dataset)

IMAGE_WORKERS = 8
"""Images that are sent at the same time."""


def stage(aws: AWS, data: D, output: S3Uri, on_progress: Callable[[int], None] | None = None) -> D:
    """Check a data set and send it at the same time; see `NovaClient.upload`.

    The address is made of the hash, so the file is hashed before the first byte is sent: that costs a small part of
    what the network takes, and shows whether the same bytes are there already. The object comes to be only when
    the check has ended without an error, and all images of the data are there.

    Args:
        aws: Whose S3.
        data: What to check and send.
        output: The prefix that data sets are kept under.
        on_progress: Told how many bytes have newly arrived.
    """
    with ThreadPoolExecutor(2, thread_name_prefix="nova-check") as pool:
        if data.sources:
            aws.check_bucket(output)
            checked = replace(data, known=expect_good(data))
            _send_images_of(aws, data, on_progress)
            return checked
        hashing = pool.submit(_measured, data)
        aws.check_bucket(output)
        measured, state = hashing.result()
        # The check looks at the file in processes of its own, so that this one is free to send.
        checking = pool.submit(expect_good, data, measured)

        def agreed() -> None:
            if checking.result().sha256 != measured.sha256 or _state(data) != state:
                # By another file of this name, what was sent and what was checked may be two things.
                raise DatasetError(
                    f"{data.where} changed while it was read; write it to its end first, then upload it."
                )
            _send_images_of(aws, data, on_progress)

        uri = output.join("datasets", measured.sha256, data.name)
        return _send(aws, data, uri, measured, checking, agreed, on_progress)


def expect_good(data: Dataset, measured: Measured | None = None) -> Report:
    """Check data by all that their rules say, of the lines and of the whole.

    Args:
        data: What to check.
        measured: What is known of the file already; then it is looked at in processes of their own.

    Raises:
        DatasetError: There is at least one error, or the data cannot be read.
    """
    report = data.check_measured(measured) if measured else data.check(hashed=True)
    if errors := [finding for finding in report.against(rules=data.rules) if finding.is_error]:
        raise DatasetError(f"{data.where}: {plural(len(errors), 'error')} of the data as a whole.", errors)
    return report


def _send(
    aws: AWS,
    data: D,
    uri: S3Uri,
    measured: Measured,
    checking: Future[Report],
    agreed: Callable[[], None],
    on_progress: Callable[[int], None] | None,
) -> D:
    def told(count: int) -> None:
        if checking.done():
            checking.result()  # bad data stop the upload at once
        if on_progress is not None:
            on_progress(count)

    aws.upload(
        data.path,
        uri,
        sha256=measured.sha256,
        size=measured.size,
        on_progress=told,
        may_finish=agreed,
    )
    return replace(data, sources=(aws.ranged(uri),), known=checking.result())


def _send_images_of(aws: AWS, data: Dataset, on_progress: Callable[[int], None] | None) -> None:
    send_images(aws, data.images, (lambda _, count: on_progress(count)) if on_progress else None)


def _measured(data: Dataset) -> tuple[Measured, FileState | None]:
    with data.open() as file:
        state = _state(data)
        return measure(file), state


def _state(data: Dataset) -> FileState | None:
    """Which file has the name; None when none has."""
    try:
        return state_of(data.path.stat())
    except OSError:
        return None


def send_images(
    aws: AWS, images: Sequence[Upload | LocalImage], on_upload: Callable[[str, int], None] | None = None
) -> int:
    """Send many small files, several at a time, unless they are there; progress is told from this thread.

    Args:
        aws: Whose S3.
        images: Which files, each with its address.
        on_upload: Told the address and the bytes of each that has arrived.

    Returns:
        How many were sent.
    """
    if not images:
        return 0
    sent = 0
    with ThreadPoolExecutor(IMAGE_WORKERS, thread_name_prefix="nova-images") as pool:
        try:
            for each, is_new in zip(images, pool.map(partial(_send_image, aws), images), strict=True):
                sent += is_new
                if on_upload:
                    on_upload(each.uri, each.size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sent


def _send_image(aws: AWS, image: Upload | LocalImage) -> bool:
    kind = f"image/{image.uri.rpartition('.')[2]}"
    return aws.upload(image.path, S3Uri.parse(image.uri), sha256=image.sha256, size=image.size, content_type=kind)
