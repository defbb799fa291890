"""Shows how far a long reading of the log is, on a terminal and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from recorder.display import plain


@contextmanager
def shown_progress(err: TextIO, label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Give a function that is to be reported positions, of ``total`` at the end."""
    if not err.isatty():
        yield lambda position: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(file=err), transient=True) as bars:
        bar = bars.add_task(escape(plain(label)), total=max(total, 1))
        yield lambda position: bars.update(bar, completed=position)
