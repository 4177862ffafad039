"""What the supervisor was asked to do, one job at a time, in order.

A job is a generator that yields whenever it must wait for a change. `stop`, `delete` and `kill` do not queue: they cancel every
job about the same apps, under way or queued, because the operator wants an end now; jobs about others go on afterwards.
One that fails in an unexpected way fails alone (`faults`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Mapping

from percore.common.control import failure
from percore.common.typing import Any, Callable, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.logger import Faults, log
from percore.supervisor.base.loop import Job
from percore.supervisor.config.dependencies import Needs

Reply = Callable[[Mapping[str, Any]], None]
Outcome = Generator[None, None, Mapping[str, Any]]

_IS_OVER = "not done, because the supervisor ends"


class Ticket(NamedTuple):
    """A job in the queue, and where its progress goes."""

    title: str
    steps: Outcome
    reply: Reply
    apps: Optional[Collection[str]]  # the names of those that it is about; None: all
    is_urgent: bool

    def is_about(self, apps: Optional[Collection[str]]) -> bool:
        return self.apps is None or apps is None or any(name in apps for name in self.apps)


class Jobs:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._queue: deque[Ticket] = deque()
        self._current: Optional[Ticket] = None
        self._has_news = False
        self._is_over = False

    def submit(
        self,
        title: str,
        steps: Outcome,
        reply: Reply,
        *,
        apps: Optional[Collection[str]] = None,
        urgent: bool = False,
    ) -> None:
        """`apps` are the names of those that it is about; None: all."""
        ticket = Ticket(title, steps, reply, apps, urgent)
        if self._is_over:
            self._cancel(ticket, _IS_OVER)
            return
        if urgent:
            self._cancel_all(apps, f"cancelled by '{title}'")
            if self._current:
                self._queue.appendleft(self._current)
                self._current = None
            self._queue.appendleft(ticket)
        else:
            self._queue.append(ticket)
        self._has_news = True

    def end(self) -> None:
        """Nothing but the job under way is done any more."""
        self._is_over = True
        while self._queue:
            self._cancel(self._queue.popleft(), _IS_OVER)

    def _cancel_all(self, apps: Optional[Collection[str]], reason: str) -> None:
        """What is urgent ends something as well, and goes on."""
        tickets = [*([self._current] if self._current else []), *self._queue]
        cancelled = [ticket for ticket in tickets if not ticket.is_urgent and ticket.is_about(apps)]
        self._queue = deque(ticket for ticket in self._queue if ticket not in cancelled)
        if self._current in cancelled:
            self._current = None
        for ticket in cancelled:
            self._cancel(ticket, reason)

    def _cancel(self, ticket: Ticket, reason: str) -> None:
        self._faults.contain(f"cancelling '{ticket.title}'", ticket.steps.close)
        self._reply(ticket, _refusal(f"'{ticket.title}' was {reason}"))

    @property
    def is_idle(self) -> bool:
        return not self._current and not self._queue

    def note_change(self) -> None:
        """Something changed that a job may have waited for."""
        self._has_news = True

    @property
    def is_heard(self) -> bool:
        """A job is under way, so progress is told to its caller."""
        return self._current is not None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Progress, for the caller who asked for the current job."""
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
                log(f"{ticket.title} failed: {error}")
                self._reply(ticket, failure(error))
            except Exception as error:
                self._current = None
                self._reply(ticket, failure(self._faults.note(f"doing '{ticket.title}'", error)))
        return True

    def _reply(self, ticket: Ticket, message: Mapping[str, Any]) -> None:
        self._faults.contain(f"answering '{ticket.title}'", ticket.reply, message)


def _refusal(sentence: str) -> dict[str, Any]:
    return {"event": "result", "ok": False, "error": sentence, "exit_code": 1}


class Blocked(PercoreError):
    """Not done, because an app that it depends on failed."""

    def __init__(self, name: str, need: str, reason: str) -> None:
        super().__init__(f"it was not started, because '{need}', which it depends on, {reason}", where=name)
        self.app = name


def do_in_order(jobs: Mapping[str, Job], needs: Needs, blocked: Optional[dict[str, Blocked]] = None) -> Job:
    """All at once, but each only when those it needs are done. `blocked` receives those whose needs failed.

    The first failure is raised when all is over; it names the apps that were not done because of it.
    """
    waiting = dict(jobs)
    running: dict[str, Job] = {}
    failures: dict[str, PercoreError] = {}
    held: dict[str, Blocked] = {} if blocked is None else blocked
    try:
        while waiting or running:
            for name in list(waiting):
                lost = [need for need in needs.get(name, ()) if need in failures or need in held]
                if lost:
                    waiting.pop(name).close()
                    held[name] = Blocked(name, lost[0], "failed" if lost[0] in failures else "was not started")
                elif not any(need in waiting or need in running for need in needs.get(name, ())):
                    running[name] = waiting.pop(name)
            has_ended = _advance(running, failures)
            if running and not (has_ended and waiting):
                yield
    finally:
        for job in (*running.values(), *waiting.values()):
            job.close()
    for error in failures.values():
        if held:
            error.what += f"; not started because of that: {', '.join(held)}"
        raise error


def _advance(running: dict[str, Job], failures: dict[str, PercoreError]) -> bool:
    """One step of each; True when one is over, and with that gone from `running`."""
    has_ended = False
    for name, job in list(running.items()):
        try:
            next(job)
            continue
        except StopIteration:
            pass
        except PercoreError as error:
            failures[name] = error
        del running[name]
        has_ended = True
    return has_ended
