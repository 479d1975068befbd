"""How the rehearsal looks: plain lines, or `rich` on a terminal that has it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from nova_dpo_sdk.cli._colour import harmless, is_lively
from nova_dpo_sdk.cli._out import say, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from rich.console import Console
    from rich.table import Table

_LABEL = 12
"""Columns for the label of a row."""
_BAR = 24
"""Columns of an upload's bar."""


class Screen(Protocol):
    """What the rehearsal can show."""

    def heading(self, text: str, aside: str = "") -> None:
        """Begin a part."""
        ...

    def row(self, label: str, text: str, mood: str = "") -> None:
        """Show one fact; the mood is `good`, `warning`, `error`, `quiet` or nothing."""
        ...

    def busy(self, label: str, tell: Callable[[], str]) -> AbstractContextManager[None]:
        """Show that something goes on; `tell` is asked again and again what to say about it."""
        ...

    def changed(self, label: str, text: str) -> None:
        """Show a change that a moving picture shows anyway."""
        ...

    def summed_up(self, label: str, text: str) -> None:
        """Show all changes in one row, where they were not shown one by one."""
        ...

    def end(self, title: str, rows: Sequence[tuple[str, str]], after: str) -> None:
        """Show what came of it."""
        ...


def screen() -> Screen:
    """The best screen that there is."""
    return RichScreen() if is_lively(sys.stdout) else PlainScreen()


def bar(done: int, total: int) -> str:
    """A bar of progress in text."""
    filled = _BAR if not total else min(_BAR, _BAR * done // total)
    return "━" * filled + "─" * (_BAR - filled)


class PlainScreen:
    """Lines, for files, pipes and terminals without `rich`."""

    def heading(self, text: str, aside: str = "") -> None:
        """Begin a part."""
        say("", text + (f" ({aside})" if aside else ""))

    def row(self, label: str, text: str, mood: str = "") -> None:  # noqa: ARG002 - plain lines have no colours
        """Show one fact."""
        lead = f"  {label:<{_LABEL}}"
        say(*wrapped(text, lead, " " * len(lead)))

    @contextmanager
    def busy(self, label: str, tell: Callable[[], str]) -> Generator[None]:  # noqa: ARG002 - nothing moves in a file
        """Nothing: what comes of it is shown as a row."""
        yield

    def changed(self, label: str, text: str) -> None:
        """Show a change as a row."""
        self.row(label, text)

    def summed_up(self, label: str, text: str) -> None:
        """Nothing: every change has its row."""

    def end(self, title: str, rows: Sequence[tuple[str, str]], after: str) -> None:
        """Show what came of it."""
        say("", title)
        for label, text in rows:
            say(f"  {label:<{_LABEL + 4}}{text}")
        say("", after)


class RichScreen:
    """Colours, a spinner and a panel."""

    _STYLES = {"good": "green", "warning": "yellow", "error": "red", "quiet": "dim", "": ""}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        from rich.console import Console

        real = Console(highlight=False)
        self._console: Console = Console(highlight=False, width=min(100, real.width))

    def heading(self, text: str, aside: str = "") -> None:
        """Begin a part."""
        from rich.text import Text

        self._console.print()
        self._console.print(Text.assemble((harmless(text), "bold cyan"), (f"  {aside}" if aside else "", "dim")))

    def _grid(self) -> Table:
        from rich.table import Table

        grid = Table.grid(padding=(0, 0, 0, 0))
        grid.add_column(width=_LABEL + 2, no_wrap=True)
        grid.add_column(overflow="fold")
        return grid

    def row(self, label: str, text: str, mood: str = "") -> None:
        """Show one fact."""
        from rich.text import Text

        grid = self._grid()
        style = self._STYLES[mood]
        grid.add_row(
            Text(f"  {label}", style=style if mood in ("warning", "error") else "dim"),
            Text(harmless(text), style=style),
        )
        self._console.print(grid)

    @contextmanager
    def busy(self, label: str, tell: Callable[[], str]) -> Generator[None]:
        """Show a spinner and what goes on beside it, until it is over."""
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner = Spinner("dots", style="cyan")

        def picture() -> Table:
            grid = self._grid()
            spinner.update(text=Text(harmless(tell())))
            grid.add_row(Text(f"  {label}", style="dim"), spinner)
            return grid

        with Live(get_renderable=picture, console=self._console, refresh_per_second=10, transient=True):
            yield

    def changed(self, label: str, text: str) -> None:
        """Nothing: the spinner's text shows it."""

    def summed_up(self, label: str, text: str) -> None:
        """Show all changes in one row, in place of the spinner."""
        self.row(label, text, "good")

    def end(self, title: str, rows: Sequence[tuple[str, str]], after: str) -> None:
        """Show what came of it in a panel."""
        from rich.panel import Panel
        from rich.text import Text

        body = Text()
        for label, text in rows:
            body.append(f"{label}\n", style="bold")
            body.append(f"{harmless(text)}\n")
        body.append(f"\n{after}", style="dim")
        self._console.print()
        self._console.print(Panel(body, title=title, title_align="left", border_style="green", padding=(0, 1)))
