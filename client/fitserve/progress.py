"""A job on a terminal: a bar while it trains, or a line an epoch where nobody looks at a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from fitserve.results import Event, Job, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from fitserve.client import Client


def watch_job(
    client: Client,
    job_id: str,
    *,
    console: Console | None = None,
    as_json: bool = False,
    timeout_s: float | None = None,
) -> Job:
    """Show a job until it ends, and return it: a live bar on a terminal, else a plain line an epoch.

    `as_json` prints each event as one line `{"id", "event", "data"}` instead.

    Raises:
        DeadlineExceededError: it has not ended within timeout_s; it goes on.
    """
    from rich.console import Console as RichConsole

    target = console or RichConsole()
    state = _State(client.job(job_id))
    show: _Show
    if as_json:
        show = _JsonLines(target)
    elif target.is_terminal:
        show = _LiveBar(target)
    else:
        show = _PlainLines(target)
    with show.shown():
        for event in client.events(job_id, timeout_s=timeout_s):
            state.take(event)
            show.event(event, state)
    return client.job(job_id)


class _State:
    """What the events so far say of the job."""

    def __init__(self, job: Job) -> None:
        self.status = job.status
        self.phase: str | None = None  # the events tell it from the first on
        self.position = Progress.of({})
        self.metrics: dict[str, float] = {}
        self._estimated = job.estimated_finish_at
        self._asked_epochs: int | None = ((job.raw.get("spec") or {}).get("fit") or {}).get("epochs")

    def take(self, event: Event) -> None:
        """Fold in one event."""
        if event.kind == "status":
            self.status = str(event.data.get("status", self.status))
            self.phase = event.data.get("phase")
        elif event.kind == "progress":
            self.position = Progress.of(event.data)
            if told := event.data.get("estimated_finish_at"):
                self._estimated = datetime.fromisoformat(told)
            self.metrics |= _metrics(event.data.get("metrics") or {})
        elif event.kind == "metric":
            self.metrics = _metrics(event.data)

    @property
    def epochs(self) -> int | None:
        """How many epochs there are to be."""
        return self.position.epochs or self._asked_epochs

    @property
    def left_s(self) -> float | None:
        """Seconds to the end of training, as the server estimates it."""
        if self._estimated is None:
            return None
        return max(0.0, (self._estimated - datetime.now(UTC)).total_seconds())


class _Show(Protocol):
    def shown(self) -> AbstractContextManager[object]: ...

    def event(self, event: Event, state: _State) -> None: ...


class _JsonLines:
    def __init__(self, console: Console) -> None:
        self._console = console

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def event(self, event: Event, state: _State) -> None:  # noqa: ARG002 - the events say all
        line = json.dumps({"id": event.id, "event": event.kind, "data": event.data}, separators=(",", ":"))
        self._console.file.write(line + "\n")
        self._console.file.flush()


class _PlainLines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = ""

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def event(self, event: Event, state: _State) -> None:
        if event.kind == "metric":
            left = "" if state.left_s is None else f"  {_duration(state.left_s)} left"
            self._line(f"{_epoch(event.data.get('epoch'), state)}  {_numbers(state.metrics)}{left}")
        elif event.kind != "progress" and (sentence := _sentence(event, state)) != self._told:
            self._told = sentence
            self._line(sentence)

    def _line(self, text: str) -> None:
        # One event, one line: no wrapping where a program reads.
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _LiveBar:
    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.fields[doing]}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.fields[epoch]}", markup=False),
            TextColumn("{task.fields[numbers]}", style="cyan", markup=False),
            TextColumn("{task.fields[left]}", style="dim", markup=False),
            TimeElapsedColumn(),
        )
        self._bar: Bar = RichProgress(*columns, console=console)
        self._task = self._bar.add_task("", total=1.0, doing="queued", epoch="", numbers="", left="")

    def shown(self) -> AbstractContextManager[object]:
        return self._bar

    def event(self, event: Event, state: _State) -> None:
        if event.kind in {"log", "version"}:
            self._bar.console.print(_sentence(event, state), markup=False, highlight=False)
        done = state.status == "succeeded"
        self._bar.update(
            self._task,
            completed=1.0 if done else state.position.fraction or 0.0,
            doing=state.phase if state.phase and state.status == "running" else state.status,
            epoch=_epoch(state.position.epoch, state) if state.position.epoch else "",
            numbers=_numbers(state.metrics),
            left="" if done or state.left_s is None else f"{_duration(state.left_s)} left",
        )


def _metrics(data: Mapping[str, Any]) -> dict[str, float]:
    named = data.get("metrics")
    found: Iterable[tuple[str, Any]] = (named if isinstance(named, Mapping) else data).items()
    return {
        name: float(value)
        for name, value in found
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in {"epoch", "step"}
    }


def _sentence(event: Event, state: _State) -> str:
    data = event.data
    if event.kind == "version":
        return f"published {data.get('model', '')} version {data.get('version', '')}".replace("  ", " ")
    if event.kind == "status":
        words = [state.status]
        if state.phase and state.status == "running":
            words = [state.phase, str(data.get("artifact", ""))]
        error = data.get("error")
        if isinstance(error, Mapping):
            words.append(f"({error.get('code')}: {error.get('detail')})")
        return " ".join(word for word in words if word)
    return str(data.get("message") or data.get("detail") or data.get("text") or dict(data))


def _epoch(epoch: object, state: _State) -> str:
    return f"epoch {epoch}/{state.epochs}" if state.epochs else f"epoch {epoch}"


def _numbers(metrics: Mapping[str, float]) -> str:
    """Put loss, accuracy and what validation says of them first."""
    first = ("loss", "accuracy", "val_loss", "val_accuracy")
    names = [name for name in first if name in metrics] + sorted(set(metrics) - set(first))
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in names)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
