"""An app of another user tries to become root through root's supervisor and root's commands."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import percore
from percore.deploy.connection.bootstrap import SHARED, modules_of
from percore.errors import PercoreError
from percore.supervisor.base.home import make_private
from tests.supervisor.conftest import Supervisor
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than others")
USER = "nobody"
SECRET = "only root\n" * 3000


class Yard:
    def __init__(self, place: Path) -> None:
        place.chmod(0o755)
        self.uid = pwd.getpwnam(USER).pw_uid
        self.own, self.root = place / "own", place / "root"
        self.own.mkdir()
        os.chown(self.own, self.uid, -1)
        self.root.mkdir(mode=0o755)
        self.secret = self.root / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)

    def does(self, script: str) -> None:
        """What the app's user does in his own directory."""
        subprocess.run(["sh", "-ec", script], cwd=self.own, user=self.uid, check=True)

    def is_untouched(self) -> bool:
        return self.secret.read_text() == SECRET and [path.name for path in self.root.iterdir()] == ["secret"]


@pytest.fixture(autouse=True)  # so it is made before the supervisor, and removed when nothing writes into it any more
def yard() -> Iterator[Yard]:
    place = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="percore-test-"))
    yield Yard(place)
    shutil.rmtree(place)


def ticking(supervisor: Supervisor, yard: Yard, **fields: object) -> dict[str, object]:
    script = "while :; do echo pwned; sleep 0.05; done"
    return supervisor.singleton(
        **{"cwd": str(yard.own), "user": USER, "args": [script], "out_file": "out.log", **fields}
    )


@pytest.mark.parametrize("link", ["../root/secret", "../root/new"])
def test_no_worker_writes_through_a_link_what_its_user_may_not(supervisor: Supervisor, yard: Yard, link: str) -> None:
    yard.does(f"ln -s {link} out.log")
    result = supervisor.apply(ticking(supervisor, yard), check=False)
    assert result["exit_code"]
    assert f"its log {yard.own}/out.log cannot be opened" in json.dumps(result)
    assert yard.is_untouched()


@pytest.mark.parametrize(
    "fields",
    [{"log_date_format": "HH:mm"}, {"log_date_format": "YYYY", "log_file": "both.log"}, {"log_type": "json"}],
)
def test_the_log_formatter_writes_through_no_link_what_the_apps_user_may_not(
    supervisor: Supervisor, yard: Yard, fields: dict[str, object]
) -> None:
    supervisor.apply(ticking(supervisor, yard, **fields))
    wait_for(lambda: "pwned" in (yard.own / "out.log").read_text(), "the log")
    assert (yard.own / "out.log").stat().st_uid == yard.uid
    yard.does("rm -f out.log both.log; ln -s ../root/secret out.log; ln -s ../root/secret both.log")
    supervisor.run("restart", "tick")
    wait_for(lambda: "out.log cannot be written" in supervisor.log(), "the log formatter to notice")
    assert yard.is_untouched()
    yard.does("rm out.log both.log")
    wait_for(lambda: (yard.own / "out.log").exists(), "the log formatter to go on")
    assert yard.is_untouched()


def test_flush_and_logs_go_through_no_link_where_the_apps_user_may_not(supervisor: Supervisor, yard: Yard) -> None:
    supervisor.apply(ticking(supervisor, yard))
    supervisor.run("stop", "tick")
    yard.does("rm out.log; ln -s ../root/secret out.log; ln -s ../root/secret out.log.1")
    flushed = supervisor.run("flush", "tick", check=False)
    assert flushed.returncode == 1
    assert "out.log" in flushed.stderr
    shown = supervisor.run("logs", "tick", "--nostream", "--out")
    assert "only root" not in shown.stdout
    assert "out.log cannot be read: Permission denied" in shown.stderr
    assert yard.is_untouched()


def test_the_supervisor_rotates_nothing_through_a_link_that_came_while_the_app_was_stopped(
    supervisor: Supervisor, yard: Yard
) -> None:
    supervisor.apply(ticking(supervisor, yard, log_max_size=4096))
    supervisor.run("stop", "tick")
    yard.does("rm out.log; ln -s ../root/secret out.log")
    wait_for(lambda: "out.log cannot be rotated: Permission denied" in supervisor.log(), "a look at the log")
    assert yard.is_untouched()


def owners(paths: Iterable[Path]) -> set[int]:
    """Of those that are still there: a rotation goes on meanwhile."""
    found = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.add(path.stat().st_uid)
    return found


def test_a_users_log_rotates_as_his_own(supervisor: Supervisor, yard: Yard) -> None:
    supervisor.apply(ticking(supervisor, yard, log_max_size=4096, args=["while :; do seq 500; sleep 0.1; done"]))
    wait_for(lambda: (yard.own / "out.log.2").exists(), "rotations")
    assert owners(yard.own.glob("out.log*")) == {yard.uid}
    supervisor.run("flush", "tick")
    wait_for(lambda: (yard.own / "out.log").stat().st_size < 100_000, "the flush")


def test_a_pid_file_is_written_through_no_link(supervisor: Supervisor, yard: Yard) -> None:
    yard.does("mkdir run; ln -s ../root pids; ln -s ../../root/secret run/app-0.pid.new")
    supervisor.apply(ticking(supervisor, yard, pid_file="run/app.pid"))
    wait_for(lambda: (yard.own / "run" / "app-0.pid").exists(), "the pid file")
    assert (yard.own / "run" / "app-0.pid").stat().st_uid == yard.uid
    supervisor.run("delete", "tick")
    assert not (yard.own / "run" / "app-0.pid").exists()
    supervisor.apply(ticking(supervisor, yard, pid_file="pids/app.pid"))
    wait_for(lambda: "app-0.pid cannot be written: Permission denied" in supervisor.log(), "the refusal")
    assert yard.is_untouched()


NODE = """#!/bin/sh
id -u >> {own}/ran; echo $SECRET_OF_ROOT >> {own}/ran
[ "$1" = --version ] && {{ echo v99.1.2; exit; }}
exec sleep 1000
"""


@pytest.mark.parametrize("command", ["describe", "jlist", "prettylist"])
@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize("interpreter", ["./node", "node"])
def test_a_program_that_an_app_chose_is_run_by_nobody_but_its_user(
    supervisor: Supervisor,
    yard: Yard,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    is_stopped: bool,
    interpreter: str,
) -> None:
    (yard.own / "node").write_text(NODE.format(own=yard.own))
    (yard.own / "node").chmod(0o755)
    shutil.copy("/bin/sleep", yard.own / "sleep")  # `sh` is what runs; where the app's own binary does, see below
    app = ticking(supervisor, yard, interpreter=interpreter, env={"PATH": f"{yard.own}:/usr/bin:/bin"})
    supervisor.apply(app)
    if is_stopped:
        supervisor.run("stop", "tick")
    wait_for(lambda: (yard.own / "ran").exists(), "the first run")
    monkeypatch.setenv("SECRET_OF_ROOT", "hunter2")
    supervisor.run(command, *(["tick"] if command == "describe" else []))
    said = (yard.own / "ran").read_text().split()
    assert set(said) <= {str(yard.uid)}


def test_the_binary_that_a_worker_executes_is_asked_as_the_workers_user(supervisor: Supervisor, yard: Yard) -> None:
    """The worker of root gave up its rights by itself, and executes what is another user's."""
    node = yard.own / "node"
    shutil.copy(Path(sys.executable).resolve(), node)  # any binary: what it does is told by its environment
    os.chown(node, yard.uid, -1)
    source = yard.own / "node.c"
    source.write_text(
        "#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n"
        'int main(int n, char **a) { if (n > 1 && !strcmp(a[1], "--version")) { FILE *f = fopen(ASKED, "a");\n'
        '  if (f) { fprintf(f, "%d\\n", geteuid()); fclose(f); } puts("v98.7.6"); } else sleep(1000); return 0; }\n'
    )
    if subprocess.run(["cc", f'-DASKED="{yard.own}/asked"', "-o", node, source], check=False).returncode:
        pytest.skip("no C compiler")
    app = supervisor.singleton(
        cwd=str(yard.own), interpreter="node", script="-x", env={"PATH": f"{yard.own}:/usr/bin:/bin"}, args=[]
    )
    supervisor.apply(app | {"user": USER})
    assert "98.7.6" in supervisor.run("describe", "tick").stdout
    assert (yard.own / "asked").read_text() == f"{yard.uid}\n"
    supervisor.run("delete", "tick")
    (yard.own / "asked").unlink()
    (yard.own / "drop.py").write_text(
        f"import os\nos.setgroups([])\nos.setgid(65534)\nos.setuid({yard.uid})\nos.execv('{node}', ['node', '-y'])\n"
    )
    dropping = yard.root.parent / "node"
    dropping.write_text(f"#!/bin/sh\nexec {sys.executable} {yard.own}/drop.py\n")
    dropping.chmod(0o755)
    supervisor.apply(app | {"interpreter": str(dropping)})
    wait_for(
        lambda: os.readlink(f"/proc/{supervisor.pids('tick')[0]}/exe") == str(node), "the worker to become another"
    )
    supervisor.run("describe", "tick")
    assert not (yard.own / "asked").exists() or (yard.own / "asked").read_text() == f"{yard.uid}\n"


def test_what_is_shown_of_a_package_json_is_what_the_apps_user_may_read(supervisor: Supervisor, yard: Yard) -> None:
    yard.secret.write_text('{"version": "9.9.9-secret"}')
    yard.does("ln -s ../root/secret package.json")
    supervisor.apply(ticking(supervisor, yard))
    assert "9.9.9-secret" not in supervisor.run("describe", "tick").stdout + supervisor.run("jlist").stdout
    endless = "head -c 2000000 /dev/zero | tr '\\0' '[' > package.json"
    for bad in ("mkfifo package.json", "ln -s /dev/zero package.json", endless):
        yard.does(f"rm package.json; {bad}")
        supervisor.run("describe", "tick")
    yard.does("""rm package.json; echo '{"version": "1.2.3"}' > package.json""")
    assert "1.2.3" in supervisor.run("describe", "tick").stdout


def test_an_env_file_gives_an_app_only_what_its_user_may_read(supervisor: Supervisor, yard: Yard) -> None:
    yard.secret.write_text("WORD=stolen\n")
    yard.does("ln -s ../root/secret .env")
    (yard.root / "apps.json").write_text(json.dumps({"apps": [ticking(supervisor, yard, env_file=".env")]}))
    refused = supervisor.run("start", str(yard.root / "apps.json"), check=False)
    assert refused.returncode
    assert "the env file cannot be read" in refused.stderr
    assert not supervisor.pids("tick")


# -- a home of another user ------------------------------------------------------------------------------------------


class Installed:
    """A percore that every user can read, as on a deployed host, with a home of another user."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.library = yard.root.parent / "lib"
        code = Path(percore.__file__).parent
        for path in (path for name in (*SHARED, "supervisor") for path in modules_of(code / name)):
            place = self.library / "percore" / path.relative_to(code)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        for path in (code / "supervisor" / "sockets").iterdir():
            if path.is_file():
                shutil.copy(path, self.library / "percore" / "supervisor" / "sockets")
        self.home = yard.own / "home"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, yard.uid, pwd.getpwuid(yard.uid).pw_gid)

    def run(self, *words: str, start: str = "cli.main", check: bool = True) -> subprocess.CompletedProcess[str]:
        module, _, function = start.partition(".")
        code = f"import sys; sys.path.insert(0, {str(self.library)!r})\n"
        code += f"from percore.supervisor.{module} import {function}; {function}()"
        return subprocess.run(
            ["/usr/bin/python3", "-I", "-S", "-c", code, *words], capture_output=True, text=True, timeout=60, check=check,
            env={**os.environ, "PERCORE_HOME": str(self.home), "SECRET_OF_ROOT": "hunter2"}, cwd="/",
        )  # fmt: skip


@pytest.fixture
def installed(yard: Yard) -> Iterator[Installed]:
    made = Installed(yard)
    yield made
    made.run("kill", check=False)


def test_a_command_of_root_in_a_home_of_another_user_goes_on_as_that_user(installed: Installed) -> None:
    pid = int(installed.run("ping").stdout.split()[-1])
    assert os.stat(f"/proc/{pid}").st_uid == installed.yard.uid
    installed.run("start", "/bin/sh", "--name", "who", "--", "-c", "id -u; env; exec sleep 1000")
    log = installed.home / "logs" / "who-out.log"
    wait_for(lambda: log.exists() and "PATH=" in log.read_text(), "the app")
    assert log.read_text().splitlines()[0] == str(installed.yard.uid)
    assert "hunter2" not in log.read_text()
    assert {path.stat().st_uid for path in installed.home.rglob("*")} == {installed.yard.uid}


@pytest.mark.parametrize("name", ["logs/percore.log", "run/lock", "settings.json.new", "run", "logs"])
def test_root_writes_through_no_link_in_a_home_of_another_user(installed: Installed, name: str) -> None:
    yard = installed.yard
    yard.does(f"mkdir -p {os.path.dirname(f'home/{name}')}")
    target = yard.root if name in ("run", "logs") else yard.secret
    yard.does(f"ln -s {target} home/{name}")
    for words in (["ping"], ["set", "log_keep", "3"]):
        installed.run(*words, check=False)
    assert yard.is_untouched()


def test_an_app_that_was_planted_in_the_home_is_run_by_its_owner_only(installed: Installed) -> None:
    installed.run(
        "start", "/bin/sh", "--name", "who", "--", "-c", f"id -u >> {installed.yard.own}/ran; exec sleep 1000"
    )
    wait_for(lambda: (installed.yard.own / "ran").exists(), "the app")
    pid = int(installed.run("ping").stdout.split()[-1])
    with open(os.pidfd_open(pid)) as pidfd:
        os.kill(pid, 9)
        select.select([pidfd], [], [], 10)
    installed.run("ping")
    installed.run("restart", "who")
    assert set((installed.yard.own / "ran").read_text().split()) == {str(installed.yard.uid)}


def test_root_is_refused_where_another_user_could_put_a_home_of_his_own(installed: Installed) -> None:
    installed.home.rmdir()
    installed.home.mkdir(mode=0o700)  # root's own, but the directory around it is not
    for start in ("cli.main", "daemon.main", "daemon.check"):
        refused = installed.run("ping", start=start, check=False)
        assert refused.returncode == 1
        assert f"{installed.yard.own} can be changed by user {USER} -> " in refused.stderr
        assert f"sudo -u {USER} percore ping" in refused.stderr
    assert list(installed.home.iterdir()) == []
    installed.home.rmdir()
    assert installed.run("ping", check=False).returncode == 1
    assert not installed.home.exists()
    installed.home.symlink_to(installed.yard.root)  # root's, by a link of another user
    assert installed.run("ping", check=False).returncode == 1
    installed.home.unlink()
    assert installed.yard.is_untouched()


def test_a_user_is_told_whose_home_it_is(installed: Installed) -> None:
    refused = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c",
         f"import sys; sys.path.insert(0, {str(installed.library)!r})\nfrom percore.supervisor.cli import main; main()", "list"],
        capture_output=True, text=True, check=False, user=1, env={"PERCORE_HOME": str(installed.home)},
    )  # fmt: skip
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith(f"belongs to another user -> sudo -u {USER} percore list")


def test_a_percore_that_the_owner_of_the_home_cannot_read_says_so(installed: Installed) -> None:
    installed.library.chmod(0o700)
    refused = installed.run("ping", check=False)
    assert refused.returncode == 1
    assert f"belongs to user {USER}, who cannot read this percore" in refused.stderr
    assert not (installed.home / "run").exists()


# -- directories in /tmp ---------------------------------------------------------------------------------------------


def test_a_home_whose_path_has_a_blank_leaves_one_directory_that_is_put_back_when_it_is_cleaned_up(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.home = supervisor.folder / "a home: here"
    own = supervisor.folder / "root"
    own.mkdir()
    monkeypatch.setenv("HOME", str(own))
    before = {*Path("/tmp").glob("percore-*")}
    supervisor.apply(supervisor.api())
    for _ in range(3):
        supervisor.kill_daemon()
        supervisor.run("ping")
    places = [*(own / ".cache").glob("percore-*/preload-*")]
    assert len(places) == 1
    assert {*Path("/tmp").glob("percore-*")} == before
    shutil.rmtree(places[0])
    supervisor.run("restart", "api")
    assert {supervisor.get()["slot"] for _ in range(40)} == {"0", "1"}
    assert [*(own / ".cache").glob("percore-*/preload-*")] == places


@pytest.mark.parametrize("way", ["link", "directory", "open to others"])
def test_a_directory_that_another_user_made_before_us_in_tmp_is_refused(yard: Yard, way: str) -> None:
    path = yard.own / "percore-0"
    if way == "link":
        yard.does(f"ln -s {yard.root} percore-0")
    elif way == "directory":
        yard.does("mkdir percore-0")
    else:
        path.mkdir()
        path.chmod(0o777)
    with pytest.raises(PercoreError, match="belongs to another user, or is open to others"):
        make_private(str(yard.own))
    assert yard.is_untouched()
