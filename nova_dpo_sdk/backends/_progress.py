"""A bar for bytes on their way: on a terminal and in a notebook, silent anywhere else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console


@contextmanager
def progress_bar(
    total: int, label: str = "sending", *, console: Console | None = None
) -> Generator[Callable[..., None]]:
    """Show how many bytes have arrived, how fast, and the time that is left.

        with progress_bar(sum(each.size for each in plan.uploads)) as told:
            nova.submit(plan, on_upload=told)

    Args:
        total: Bytes in all.
        label: A word for what goes on.
        console: Where to show it; the standard error when left out.

    Yields:
        What takes the news: its last argument is the bytes that arrived since the last call, so that it fits
        `submit(on_upload=)` and `upload(on_progress=)` alike. It does nothing where nobody looks, or without rich.
    """
    try:
        from rich import progress
        from rich.console import Console as RichConsole
    except ImportError:
        yield _unheard
        return
    console = console or RichConsole(stderr=True)
    if not (console.is_terminal or console.is_jupyter) or not total:
        yield _unheard
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total)

        def told(*news: Any) -> None:
            bar.advance(task, news[-1])

        yield told


def _unheard(*_: Any) -> None:
    """Nobody looks."""
