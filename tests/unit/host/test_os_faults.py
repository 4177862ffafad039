"""What the file system refuses on a host: the error names the whole path, and says what to do where a person can do it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from percore.errors import describe_os_error
from percore.host.agent import _fault_of
from percore.host.files import replace_link
from percore.host.paths import remove
from percore.host.resources.registry import make


def refuse(*given: object, **more: object) -> None:
    """As the kernel does for an open directory: it names what it was given, or nothing."""
    raise OSError(errno.EROFS, "Read-only file system", given[0] if isinstance(given[0], str) else None)


@pytest.mark.parametrize("call", ["symlink", "rename", "unlink", "fchmod"])
def test_a_fault_of_the_file_system_names_the_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    works = {"unlink": lambda: remove(str(place)), "fchmod": make({"kind": "directory", "path": str(place)}).apply}
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        works.get(call, lambda: replace_link(str(place), "elsewhere"))()
    assert caught.value.filename == str(place)


@pytest.mark.parametrize(
    ("number", "uid", "told"),
    [
        (errno.EROFS, 0, "3 mount it there so that it can be written, then try again"),
        (errno.ENOSPC, 0, "3 make room there, then deploy again"),
        (errno.EACCES, 65534, "3 set ansible_become: true"),
        (errno.EPERM, 65534, "3 set ansible_become: true"),
        (errno.EACCES, 0, "1 "),
    ],
)
def test_what_a_person_puts_right_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, number: int, uid: int, told: str
) -> None:
    monkeypatch.setattr("percore.host.agent.os.geteuid", lambda: uid)
    fault = _fault_of(OSError(number, os.strerror(number), "/srv/shop"))
    assert f"{fault.exit_code} {fault.next}" == told
    assert fault.what.endswith(f"{os.strerror(number)}: /srv/shop")


@pytest.mark.parametrize(("number", "named"), [(errno.ENOSPC, "copy"), (errno.EROFS, "copy"), (errno.ENOENT, "source")])
def test_of_a_copy_that_file_is_named_which_the_fault_is_about(number: int, named: str) -> None:
    error = OSError(number, os.strerror(number), "source", None, "copy")
    assert describe_os_error(error) == f"{os.strerror(number)}: {named}"
