"""The supervisor's main: one per home. Take the lock, from another supervisor if need be, then serve until told to stop."""

from __future__ import annotations

import time

from percore.errors import PercoreError
from percore.supervisor import service
from percore.supervisor.base import systemd
from percore.supervisor.base.home_owner import find_home
from percore.supervisor.base.logger import log
from percore.supervisor.base.program import passed_lock
from percore.supervisor.home_watch import ask_to_reopen, take_home, take_lock
from percore.supervisor.state.predecessor import check_state

_LACK_SECONDS = 1.0


def main() -> None:
    home = find_home()
    try:
        home.make()
        held, taken = passed_lock() or take_home(home), None
        if held is None and systemd.is_there():
            # Ending would not help: we would be started again at once.
            from percore.supervisor.state.takeover import take_over  # seldom needed, and it would stay in memory

            log("a supervisor already runs; it is asked to leave")
            taken = take_over(home)
            held = take_lock(home.lock, waits=True)
        if held is None:
            raise SystemExit(f"percore: a supervisor already runs in {home.path}{ask_to_reopen(home.lock)}")
        service.run(home, held, taken)
    except OSError as error:
        if systemd.is_there():
            time.sleep(_LACK_SECONDS)  # it starts us again at once, and a full disk is not emptied in a millisecond
        place = f"{error.filename}: " if error.filename else ""
        raise SystemExit(f"percore: the supervisor cannot start: {place}{error.strerror}") from None
    except PercoreError as error:
        raise SystemExit(f"percore: the supervisor cannot start: {error}") from None


def check() -> None:
    """Ends with a sentence on stderr unless this program can take over the supervisor of `$PERCORE_HOME`; changes nothing."""
    check_state(find_home())
