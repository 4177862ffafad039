"""What the supervisor was asked to do, one job at a time, in order.

A job is a generator that yields whenever it must wait for a change. `stop`, `delete` and `kill` do not queue behind a job:
they cancel it, because the operator wants an end now. One that fails in an unexpected way fails alone (`faults`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping

from percore.common.control import failure
from percore.common.typing import Any, Callable, NamedTuple, Optional
from percore.errors import PercoreError
from percore.supervisor.base.logger import Faults, log
from percore.supervisor.base.loop import Job
from percore.supervisor.config.dependencies import Needs

Reply = Callable[[Mapping[str, Any]], None]
Outcome = Generator[None, None, Mapping[str, Any]]


class Ticket(NamedTuple):
    """A job in the queue, and where its progress goes."""

    title: str
    steps: Outcome
    reply: Reply


class Jobs:
    def __init__(self, faults: Faults) -> None:
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
