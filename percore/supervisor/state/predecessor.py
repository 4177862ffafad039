"""What an earlier supervisor of this home left: its state, or what was saved, and its descriptor store."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from percore.common.typing import NamedTuple, Optional
from percore.supervisor.base import systemd
from percore.supervisor.base.home import Home
from percore.supervisor.base.logger import log
from percore.supervisor.base.program import STORE, passed_fds
from percore.supervisor.state.fd_store import Ends, FdStore, ends_among
from percore.supervisor.state.saved import SET_ASIDE, Saved, read_saved
from percore.supervisor.state.state_file import StateFile, is_this_boot


class Predecessor(NamedTuple):
    saved: Optional[Saved]  # None: nothing is known
    state: StateFile
    store: FdStore
    entries: dict[str, list[int]]  # what is in the store


def find_predecessor(home: Home, given_up: Optional[Ends]) -> Predecessor:
    """`given_up` are the ends of a store that another supervisor left to us."""
    state = StateFile(home.state)
    saved = _recall(home, state)
    passed = ends_among(passed_fds(STORE))
    store, entries = _recover_store(
        itertools.chain(filter(None, (given_up, passed)), _ends_from_workers(saved or Saved()))
    )
    if not passed or store.fds != tuple(end.fileno() for end in passed):
        # FDPOLL=0: systemd must not drop the pair because it looks hung up while we are dead.
        systemd.notify("FDSTORE=1\nFDNAME=store\nFDPOLL=0", store.fds)
    return Predecessor(saved, state, store, entries)


def check_state(home: Home) -> None:
    """Ends with a sentence on stderr unless this program can go on with the state; changes nothing."""
    try:
        content = StateFile(home.state).read()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise SystemExit(f"{home.state} cannot be read: {error}") from None
    # What is set aside already loses nothing.
    for app in read_saved({**content, SET_ASIDE: []}).aside:
        raise SystemExit(f"{home.state}: '{app.name}' would be set aside: {app.reason}")


def _recall(home: Home, state: StateFile) -> Optional[Saved]:
    content, problem = state.load()
    if problem:
        log(problem)
    saved = read_saved(content) if content else None
    if saved is None or (not saved.apps and not is_this_boot(saved.boot, saved.init)):
        return _read_dump(home, saved or Saved()) or saved
    return saved


def _read_dump(home: Home, saved: Saved) -> Optional[Saved]:
    """PM2's users expect what they saved after a boot; it also stands in for a state that is lost."""
    dump = StateFile(home.dump)
    if not dump.exists():
        return None
    content, problem = dump.load()
    log(problem or f"no app is known; what was saved in {home.dump} is started")
    if content is None:
        return None
    dumped = read_saved(content)
    names = {app.config.name for app in dumped.apps}
    kept = (app for app in saved.aside if app.name not in names)
    return dumped._replace(aside=(*dumped.aside, *kept), unknown={**dumped.unknown, **saved.unknown})


def _recover_store(candidates: Iterable[Ends]) -> tuple[FdStore, dict[str, list[int]]]:
    """The first of these that is a store and what is in it, or a new one."""
    for ends in candidates:
        store = FdStore(ends)
        try:
            return store, store.look()
        except (OSError, ValueError) as error:
            log(f"a descriptor store is invalid and is ignored: {error}")
            store.close()
    return FdStore(), {}


def _ends_from_workers(saved: Saved) -> Iterator[Ends]:
    """Every worker of our own user inherited both ends as STORE_FDS. Needs the right to trace the worker."""
    if not saved.workers:
        return
    from percore.supervisor.state.rescue import ends_held_by

    for worker in saved.workers:
        if ends := ends_held_by(worker.pid, worker.start_time):
            yield ends
