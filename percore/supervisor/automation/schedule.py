"""When each app with a `cron_restart` is due: one timer, set to the next moment, for all of them.

A moment that passed while the machine slept, or because the clock was put forward, comes once, late. One that comes again
because the clock was put back a little does not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from percore.common.typing import Callable, Optional
from percore.supervisor.automation.alarm import Alarm
from percore.supervisor.base.loop import Loop
from percore.supervisor.config.cron import Offset, Schedule, parse, zone_offset

# As cron(8): a clock that is put back by more means another time.
_LITTLE = 3 * 3600
_OURS: Mapping[str, str] = {}


class CronSchedule:
    def __init__(self, loop: Loop, ring: Callable[[str], None], now: Callable[[], float] = time.time) -> None:
        """`ring` is called with the name of each app whose time has come."""
        self._loop = loop
        self._ring = ring
        self._now = now
        self._times: dict[str, tuple[str, str]] = {}  # the expression and the time zone
        self._offsets: dict[str, Offset] = {}
        self._schedules: dict[str, Schedule] = {}
        self._due: dict[str, int] = {}
        self._rang: dict[str, int] = {}  # when each app's last time was
        self._alarm: Optional[Alarm] = None

    def follow(self, texts: Mapping[str, str], zones: Mapping[str, str] = _OURS) -> None:
        """The expressions of the apps that are up, by name; `zones` are those of apps whose time zone is another one.

        Those that stay the same keep their next time.
        """
        times = {name: (text, zones.get(name, "")) for name, text in texts.items()}
        if times == self._times:
            return
        for name in self._times.keys() - times.keys():
            del self._schedules[name]
            self._due.pop(name, None)
            self._rang.pop(name, None)
        changed = [name for name, each in times.items() if each != self._times.get(name)]
        self._times = times
        self._schedules.update({name: parse(texts[name]) for name in changed})
        self._offsets = {name: zone_offset(zone) for name, (_, zone) in times.items() if zone}
        self._plan(changed)

    def next_time(self, name: str) -> Optional[int]:
        return self._due.get(name)

    def came(self) -> None:
        """Rings for what is due by now."""
        now = self._now()
        due = [name for name, moment in self._due.items() if moment <= now]
        for name in due:
            self._rang[name] = self._due[name]
        self._plan(due)
        for name in due:
            self._ring(name)

    def clock_was_set(self) -> None:
        self.came()
        self._plan(list(self._schedules))

    def _plan(self, names: list[str]) -> None:
        now = self._now()
        time.tzset()  # /etc/localtime may have changed since
        for name in names:
            last = self._rang.get(name, 0)
            since = max(now, last) if last - now < _LITTLE else now
            moment = self._schedules[name].next_after(since, self._offsets.get(name))
            if moment is None:
                self._due.pop(name, None)
            else:
                self._due[name] = moment
        if self._due:
            self._alarm = self._alarm or Alarm(self._loop, self.came, self.clock_was_set)
            self._alarm.set(min(self._due.values()))
        elif self._alarm:
            self._alarm.close()
            self._alarm = None
