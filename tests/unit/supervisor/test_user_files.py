"""What root does in a directory that another user may change: never more than that user could have done."""

from __future__ import annotations

import collections
import contextlib
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from percore.supervisor.base.user import Identity, identity_of
from percore.supervisor.base.user_files import acting, find, is_only_ours, ourselves, read_text, remove_file, write_file
from percore.supervisor.logs.files import last_lines, open_log
from percore.supervisor.logs.follow import Follower
from percore.supervisor.logs.limits import LogTask, RotationLimits
from percore.supervisor.logs.retention import do_tasks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than others")
SECRET = "only root\n" * 20_000


class Yard:
    """`own`: a directory of nobody; `deploy`: one of another user; `root`: a private one of root with a secret in it."""

    def __init__(self, place: Path) -> None:
        place.chmod(0o755)
        user = identity_of("nobody", None)
        assert user
        self.user: Identity = user
        self.deploy_uid = pwd.getpwnam("daemon").pw_uid
        self.own, self.deploy, self.root = (place / name for name in ("own", "deploy", "root"))
        for directory, uid in ((self.own, user.uid), (self.deploy, self.deploy_uid), (self.root, 0)):
            directory.mkdir(mode=0o755)
            os.chown(directory, uid, -1)
        self.secret = self.root / "secret.log"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        self.log = self.own / "secret.log"

    def link(self, path: Path, target: Path, *, uid: int | None = None) -> None:
        path.symlink_to(target)
        os.lchown(path, self.user.uid if uid is None else uid, -1)

    def is_untouched(self) -> bool:
        names = sorted(path.name for path in self.root.iterdir())
        return self.secret.read_text() == SECRET and names == ["secret.log"] and self.secret.stat().st_uid == 0


@pytest.fixture
def yard() -> Iterator[Yard]:
    place = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="percore-test-"))
    before = ourselves()
    made = Yard(place)
    yield made
    assert ourselves() == before
    shutil.rmtree(place)


def append(path: Path, user: Identity | None) -> None:
    log = open_log(str(path), user)
    os.write(log, b"pwned\n")
    os.close(log)


def final(yard: Yard) -> Path:
    yard.link(yard.log, yard.secret)
    return yard.log


def dangling(yard: Yard) -> Path:
    yard.link(yard.log, yard.root / "new.log")
    return yard.log


def middle(yard: Yard) -> Path:
    yard.link(yard.own / "logs", yard.root)
    return yard.own / "logs" / "secret.log"


def missing_below_a_link(yard: Yard) -> Path:
    yard.link(yard.own / "logs", yard.root)
    return yard.own / "logs" / "deeper" / "app.log"


def chain(yard: Yard) -> Path:
    yard.link(yard.own / "first", yard.own / "second")
    yard.link(yard.own / "second", Path("../root"))
    return yard.own / "first" / "secret.log"


def hard(yard: Yard) -> Path:
    os.link(yard.secret, yard.log)
    return yard.log


def roots_own_link(yard: Yard) -> Path:
    """Root made it for something else, and the user gave it the name of a log."""
    yard.link(yard.log, yard.secret, uid=0)
    return yard.log


WAYS = [final, dangling, middle, missing_below_a_link, chain, hard, roots_own_link]


@pytest.mark.parametrize("of_root", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_no_log_is_opened_through_what_a_user_put_in_its_place(
    yard: Yard, way: Callable[[Yard], Path], of_root: bool
) -> None:
    path = way(yard)
    with contextlib.suppress(OSError):
        append(path, None if of_root else yard.user)
    assert yard.is_untouched()


@pytest.mark.parametrize("way", WAYS)
def test_no_log_is_read_through_what_a_user_put_in_its_place(yard: Yard, way: Callable[[Yard], Path]) -> None:
    path = str(way(yard))
    assert last_lines(path, 5, user=yard.user) == []
    follower = Follower(path, user=yard.user, begin=0)
    assert follower.read() == b""
    assert follower.last_lines(5) == []
    with pytest.raises(OSError):  # noqa: PT011
        read_text(path, yard.user)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_rotated_or_emptied_or_deleted_through_what_a_user_put_in_its_place(
    yard: Yard, way: Callable[[Yard], Path]
) -> None:
    path = way(yard)
    task = LogTask(
        "app", str(path), RotationLimits(4096, 3, True), max_total=1, is_due=True, is_aged=True, user="nobody"
    )
    (yard.root / "secret.log.1").write_text(SECRET)
    report = do_tasks([task, task._replace(min_free=1 << 60)])
    assert report.moved == 0
    (yard.root / "secret.log.1").unlink()  # it is still there
    with contextlib.suppress(OSError), find(str(path), yard.user, os.O_RDWR) as found:
        os.ftruncate(found.descriptor, 0)
    assert yard.is_untouched()


@pytest.mark.parametrize("way", WAYS)
def test_no_pid_file_is_written_or_removed_through_what_a_user_put_in_its_place(
    yard: Yard, way: Callable[[Yard], Path]
) -> None:
    path = str(way(yard))
    with contextlib.suppress(OSError):
        write_file(path, yard.user, "1\n")
    with contextlib.suppress(OSError):
        remove_file(path, yard.user)
    assert yard.is_untouched()


def test_what_a_pid_file_is_written_to_first_is_no_link_either(yard: Yard) -> None:
    yard.link(yard.own / "app.pid.new", yard.secret)
    write_file(str(yard.own / "app.pid"), yard.user, "7\n")
    assert (yard.own / "app.pid").read_text() == "7\n"
    assert (yard.own / "app.pid").stat().st_uid == yard.user.uid
    assert yard.is_untouched()


@pytest.mark.parametrize("is_leftover", [False, True])
@pytest.mark.parametrize("name", [".1", ".moving", ".rotation", ".1.gz", ".2.gz.new", ".2"])
def test_names_that_a_rotation_uses_lead_nowhere(yard: Yard, name: str, is_leftover: bool) -> None:
    """Also in the log that an earlier percore made as root."""
    append(yard.log, None if is_leftover else yard.user)
    yard.log.write_text("a line\n" * 30_000)
    yard.link(Path(f"{yard.log}{name}"), yard.secret)
    task = LogTask("app", str(yard.log), RotationLimits(4096, 3, True), is_due=True, user="nobody")
    for _ in range(3):
        do_tasks([task])
    assert yard.is_untouched()
    for path in yard.own.iterdir():
        assert path.is_symlink() or b"only root" not in path.read_bytes()


def swap_for_ever(yard: Yard) -> None:
    """In a child, as the user: a log is a file or a link, and its directory a link to his own or to root's."""
    os.setuid(yard.user.uid)
    os.chdir(yard.own)
    while True:
        for name, target in (
            (("logs", "mine"), ("mine/app.log", "")),
            (("logs", yard.root), ("mine/app.log", yard.secret)),
        ):
            for place, leads_to in (name, target):
                with contextlib.suppress(OSError):
                    os.symlink(leads_to, "new") if leads_to else os.close(os.open("new", os.O_CREAT | os.O_WRONLY))
                    os.rename("new", place)


def test_a_link_that_comes_and_goes_leads_nowhere_at_any_moment(yard: Yard) -> None:
    (yard.own / "mine").mkdir()
    os.chown(yard.own / "mine", yard.user.uid, -1)
    yard.link(yard.own / "logs", Path("mine"))
    swapper = os.fork()
    if swapper == 0:
        with contextlib.suppress(BaseException):
            swap_for_ever(yard)
        os._exit(0)
    outcomes: collections.Counter[str] = collections.Counter()
    try:
        deadline = time.monotonic() + 20
        while (sum(outcomes.values()) < 500 or len(outcomes) < 2) and time.monotonic() < deadline:
            for path in (yard.own / "logs" / "secret.log", yard.own / "mine" / "app.log"):
                try:
                    append(path, yard.user)
                    write_file(f"{path}.pid", yard.user, "7\n")
                    outcomes["done"] += 1
                except OSError:
                    outcomes["refused"] += 1
    finally:
        os.kill(swapper, 9)
        os.waitpid(swapper, 0)
    assert len(outcomes) == 2  # it was in the way, and it was not
    assert yard.is_untouched()


def test_a_users_log_is_his_own_and_his_links_work_in_his_own_tree(yard: Yard) -> None:
    """As Capistrano has it: `current` and `log` are links."""
    shared = yard.own / "shared" / "log"
    (yard.own / "releases" / "1").mkdir(parents=True)
    shared.mkdir(parents=True)
    os.chown(shared, yard.user.uid, -1)
    yard.link(yard.own / "current", Path("releases/1"))
    os.chown(yard.own / "releases" / "1", yard.user.uid, -1)
    yard.link(yard.own / "releases" / "1" / "log", Path("../../shared/log"))
    append(yard.own / "current" / "log" / "app.log", yard.user)
    assert (shared / "app.log").read_text() == "pwned\n"
    assert (shared / "app.log").stat().st_uid == yard.user.uid
    assert last_lines(str(yard.own / "current/log/app.log"), 5, user=yard.user) == ["pwned"]


def test_missing_directories_are_the_users_own(yard: Yard) -> None:
    append(yard.own / "a" / "b" / "app.log", yard.user)
    assert {path.stat().st_uid for path in (yard.own / "a", yard.own / "a/b", yard.own / "a/b/app.log")} == {
        yard.user.uid
    }


def test_in_a_directory_of_a_third_user_that_ones_rights_are_used(yard: Yard) -> None:
    append(yard.deploy / "app.log", yard.user)
    assert (yard.deploy / "app.log").stat().st_uid == yard.deploy_uid
    yard.link(yard.deploy / "linked", yard.deploy / "app.log", uid=yard.deploy_uid)
    append(yard.deploy / "linked", yard.user)
    assert (yard.deploy / "app.log").read_text() == "pwned\n" * 2
    yard.link(yard.deploy / "to-root", yard.secret, uid=yard.deploy_uid)
    with pytest.raises(PermissionError):
        append(yard.deploy / "to-root", yard.user)
    assert yard.is_untouched()


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o1777])
def test_a_user_who_shares_a_directory_does_not_get_the_rights_of_whom_it_belongs_to(yard: Yard, mode: int) -> None:
    private = yard.deploy / "private"
    private.mkdir(mode=0o700)
    (private / "keys").write_text("mine\n")
    for path in (private, private / "keys"):
        os.chown(path, yard.deploy_uid, -1)
    shared = yard.deploy / "shared"
    shared.mkdir()
    shared.chmod(mode)
    os.chown(shared, yard.deploy_uid, yard.user.gid)
    yard.link(shared / "app.log", private / "keys")
    (shared / "logs").mkdir()
    os.chown(shared / "logs", yard.user.uid, -1)
    yard.link(shared / "logs" / "app.log", private / "keys")
    for path in (shared / "app.log", shared / "logs" / "app.log"):
        with pytest.raises(OSError):  # noqa: PT011
            append(path, yard.user)
    assert (private / "keys").read_text() == "mine\n"


def test_a_log_that_an_earlier_percore_made_as_root_goes_on(yard: Yard) -> None:
    (yard.own / "logs").mkdir(mode=0o755)
    for path in (yard.log, yard.own / "logs" / "app.log"):
        path.write_text("before\n")
        path.chmod(0o640)
        append(path, yard.user)
        assert path.read_text() == "before\npwned\n"
        assert last_lines(str(path), 5, user=yard.user) == ["before", "pwned"]
        assert path.stat().st_uid == 0
    append(yard.own / "logs" / "next.log", yard.user)


def test_a_pipe_is_a_log_where_a_program_reads_it_and_other_odd_files_are_refused(yard: Yard) -> None:
    os.mkfifo(yard.own / "pipe")
    os.chown(yard.own / "pipe", yard.user.uid, -1)
    with pytest.raises(OSError, match="a pipe that no program reads") as refused:
        open_log(str(yard.own / "pipe"), yard.user)
    assert refused.value.filename == str(yard.own / "pipe")
    reader = os.open(yard.own / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = open_log(str(yard.own / "pipe"), yard.user)
    assert os.get_blocking(log)
    os.write(log, b"x")
    assert os.read(reader, 9) == b"x"
    os.close(log)
    os.close(reader)
    with pytest.raises(OSError, match="directory"):
        open_log(str(yard.deploy), yard.user)
    for path in ("/dev/null", "/dev/stderr", "/dev/fd/2"):
        os.close(open_log(path, yard.user))
    with pytest.raises(OSError, match="no regular file"):
        read_text("/dev/zero", yard.user)


def test_of_a_file_only_so_much_is_read(yard: Yard) -> None:
    yard.log.write_text("x" * 100)
    assert read_text(str(yard.log), yard.user, most=100) == "x" * 100
    with pytest.raises(ValueError, match="longer"):
        read_text(str(yard.log), yard.user, most=99)


def test_another_users_rights_end_with_the_block_also_when_it_fails(yard: Yard) -> None:
    with pytest.raises(RuntimeError), acting(yard.user):  # noqa: PT012
        assert (os.geteuid(), os.getegid()) == (yard.user.uid, yard.user.gid)
        assert set(os.getgroups()) == set(yard.user.groups)
        raise RuntimeError


def test_a_file_is_only_ours_when_no_directory_on_the_way_is_anothers(yard: Yard) -> None:
    (yard.own / "node").write_text("made by root")
    assert not is_only_ours(str(yard.own / "node"))
    yard.link(yard.root / "node", yard.own / "node", uid=0)
    assert not is_only_ours(str(yard.root / "node"))
    assert is_only_ours(str(yard.secret))  # below /var/tmp, where nobody can move what is another's
