"""The stop signal of a program that is known, by what is executed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from percore.supervisor.process.stop_signal import name_for, program_in
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("command_line", "program"),
    [
        ("/srv/env/bin/python3.11\0/srv/env/bin/gunicorn\0app:app", "gunicorn"),
        ("python\0-u\0-m\0gunicorn\0app", "gunicorn"),
        ("gunicorn: master [app:app]", "gunicorn"),
        ("uv\0run\0--frozen\0gunicorn\0app", "gunicorn"),
        ("/bin/sh\0-c\0PORT=1 exec gunicorn app", "gunicorn"),
        ("nginx: master process nginx -g daemon off;", "nginx"),
        ("php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", "php-fpm"),
        ("/usr/sbin/php-fpm8.2\0-F", "php-fpm"),
        ("/usr/sbin/apache2\0-DFOREGROUND", "apache"),
        ("bundle\0exec\0unicorn\0-c\0u.rb", "unicorn"),
        ("node\0server.js\0gunicorn", "node"),
        ("python\0/srv/app/nginx.py", "nginx.py"),
        ("sh", ""),
        ("", ""),
    ],
)
def test_a_program_is_known_behind_whatever_launches_it(command_line: str, program: str) -> None:
    assert program_in(command_line) == program


@pytest.fixture
def below_a_shell(tmp_path: Path) -> Iterator[int]:
    """The pid of a shell that waits for a program called gunicorn."""
    program = tmp_path / "gunicorn"
    program.write_text(f"#!{sys.executable}\nprint('up', flush=True)\ninput()\n")
    program.chmod(0o755)
    with subprocess.Popen(
        ["sh", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as shell:
        assert shell.stdin
        assert shell.stdout
        shell.stdin.write("./gunicorn; true\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "up\n"
        yield shell.pid
        shell.stdin.close()


def test_the_program_that_a_shell_waits_for_decides(below_a_shell: int) -> None:
    wait_for(lambda: name_for(below_a_shell) == "SIGTERM", "the signal of gunicorn")


def test_a_program_that_is_not_known_gets_the_usual_one() -> None:
    assert name_for(1 << 22) == "SIGINT"
