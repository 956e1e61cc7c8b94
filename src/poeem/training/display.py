"""What the user sees of a training: a bar with loss, rate and time left, and a line an evaluation.

Anything with these methods can take its place, and `Quiet` does in tests and in scripts.
"""

from __future__ import annotations

from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class Display(Protocol):
    """Receives what happens in a training."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *exc: object) -> None: ...

    def step(self, epoch: int, loss: float, num_examples: int) -> None:
        """Report one batch."""
        ...

    def message(self, text: str) -> None:
        """Report anything else in a line."""
        ...


class Quiet:
    """Shows nothing."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def step(self, epoch: int, loss: float, num_examples: int) -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""


class Bar:
    """A progress bar in the terminal.

    Args:
        title: what is trained.
        total_steps: batches until the end. done_steps: batches already done.
        num_epochs: shown beside the current epoch.
        console: where to write; None = standard error.
    """

    def __init__(
        self,
        title: str,
        *,
        total_steps: int,
        num_epochs: int,
        done_steps: int = 0,
        console: Console | None = None,
    ) -> None:
        self._num_epochs = num_epochs
        self._loss = 0.0
        self._progress = Progress(
            TextColumn(
                "[bold]{task.description}[/] epoch {task.fields[epoch]}/{task.fields[epochs]}"
            ),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:.0f}% loss {task.fields[loss]:.3f} {task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console or Console(stderr=True),
        )
        epoch = min(num_epochs, 1 + done_steps * num_epochs // max(1, total_steps))
        fields: dict[str, Any] = {"epoch": epoch, "epochs": num_epochs, "loss": 0.0, "rate": ""}
        self._task: TaskID = self._progress.add_task(
            title, total=total_steps, completed=done_steps, **fields
        )

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def step(self, epoch: int, loss: float, num_examples: int) -> None:
        """Move the bar by one batch."""
        self._loss = loss if not self._loss else 0.98 * self._loss + 0.02 * loss
        speed = self._progress.tasks[self._task].speed
        rate = f"{speed * num_examples:,.0f} examples/s" if speed else ""
        self._progress.update(self._task, advance=1, epoch=epoch + 1, loss=self._loss, rate=rate)

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False)
