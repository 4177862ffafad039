"""What the supervisor was asked to do, one job at a time, in order.

A job is a generator that yields whenever it must wait for a change. `stop`, `delete` and `kill` do not queue behind a job:
they cancel it, because somebody wants quiet now. One that fails in an unexpected way fails alone (`faults`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping

from percore.errors import PercoreError
from percore.hints import Any, Callable, NamedTuple, Optional
from percore.supervisor.faults import Faults
from percore.supervisor.protocol import failure

Reply = Callable[[Mapping[str, Any]], None]
Outcome = Generator[None, None, Mapping[str, Any]]


class Ticket(NamedTuple):
    """A job in the queue, and where its progress goes."""

    title: str
    steps: Outcome
    reply: Reply


class Jobs:
    def __init__(self, log: Callable[[str], None], faults: Faults) -> None:
        self._log = log
        self._faults = faults
        self._queue: deque[Ticket] = deque()
        self._current: Optional[Ticket] = None
        self._has_news = False

    def submit(self, title: str, steps: Outcome, reply: Reply, *, urgent: bool = False) -> None:
        if urgent and self._current:
            cancelled, self._current = self._current, None
            self._faults.contain(f"cancelling '{cancelled.title}'", cancelled.steps.close)
            self._reply(cancelled, _refusal(f"'{cancelled.title}' was cancelled by '{title}'"))
        ticket = Ticket(title, steps, reply)
        if urgent:
            self._queue.appendleft(ticket)
        else:
            self._queue.append(ticket)
        self._has_news = True

    @property
    def is_idle(self) -> bool:
        return not self._current and not self._queue

    def note_change(self) -> None:
        """Something changed that a job may have waited for."""
        self._has_news = True

    def tell(self, message: Mapping[str, Any]) -> None:
        """Progress, for whoever asked for the current job."""
        if self._current:
            self._reply(self._current, message)

    def advance(self) -> bool:
        """Takes a step when something changed; False when nothing did."""
        if not self._has_news:
            return False
        self._has_news = False
        while self._current or self._queue:
            if self._current is None:
                self._current = self._queue.popleft()
            ticket = self._current
            try:
                next(ticket.steps)
                break
            except StopIteration as done:
                self._current = None
                self._reply(ticket, {"event": "result", "ok": True, **(done.value or {})})
            except PercoreError as error:
                self._current = None
                self._log(f"{ticket.title} failed: {error}")
                self._reply(ticket, failure(error))
            except Exception as error:
                self._current = None
                self._reply(ticket, failure(self._faults.note(f"doing '{ticket.title}'", error)))
        return True

    def _reply(self, ticket: Ticket, message: Mapping[str, Any]) -> None:
        self._faults.contain(f"answering '{ticket.title}'", ticket.reply, message)


def _refusal(sentence: str) -> dict[str, Any]:
    return {"event": "result", "ok": False, "error": sentence, "exit_code": 1}
