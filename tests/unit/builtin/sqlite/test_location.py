from __future__ import annotations

import stat
from pathlib import Path

import pytest

from caraway.builtin.sqlite.location import (
    check_file_system,
    file_system,
    find_path,
    prepare_directory,
)
from caraway.errors import ImproperlyConfigured, TransportError
from caraway.url import Url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite://", "/shop/.caraway/caraway.db"),
        ("sqlite:///", "/shop/.caraway/caraway.db"),
        ("sqlite:///jobs.db", "/shop/jobs.db"),
        ("sqlite:///var/jobs.db", "/shop/var/jobs.db"),
        ("sqlite:////var/lib/jobs.db", "/var/lib/jobs.db"),
        ("sqlite:///with%20space.db", "/shop/with space.db"),
        ("sqlite:///jobs.db?synchronous=normal", "/shop/jobs.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert find_path(Url.parse(url), "/shop") == path


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite://jobs.db", "sqlite:///jobs.db"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///folder/", "Name the file"),
    ],
)
def test_a_url_that_names_no_file_is_refused_with_what_to_write(url: str, hint: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        find_path(Url.parse(url), "/shop")
    assert hint in caught.value.hint


def test_the_default_directory_is_made_private_and_kept_out_of_git(tmp_path: Path) -> None:
    folder = tmp_path / ".caraway"
    prepare_directory(str(folder / "caraway.db"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"


def test_any_other_directory_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="there is no directory") as caught:
        prepare_directory(str(tmp_path / "absent" / "jobs.db"))
    assert "mkdir -p" in caught.value.hint
    assert not (tmp_path / "absent").exists()


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="is a directory"):
        prepare_directory(str(tmp_path))


@pytest.fixture
def mounts(tmp_path: Path) -> str:
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/root / ext4 rw 0 0\n"
        "server:/home /home nfs4 rw 0 0\n"
        "/dev/sdb /home/local\\040disk xfs rw 0 0\n"
        "odd\n"
        "//nas/share /mnt/nas cifs rw 0 0\n"
        "me@host: /mnt/far fuse.sshfs rw 0 0\n"
    )
    return str(table)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/home/local disk/me", "xfs"),
        ("/homeless", "ext4"),
        ("/mnt/nas", "cifs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str, mounts: str) -> None:
    assert file_system(path, mounts) == kind


@pytest.mark.parametrize("path", ["/home/me/a.db", "/mnt/nas/a.db", "/mnt/far/a.db"])
def test_a_network_file_system_is_refused(path: str, mounts: str) -> None:
    with pytest.raises(TransportError, match="network file system") as caught:
        check_file_system(path, mounts)
    assert "network=allow" in caught.value.hint


def test_a_local_or_unknown_file_system_is_taken(mounts: str) -> None:
    check_file_system("/home/local disk/a.db", mounts)
    check_file_system("/home/me/a.db", "/no/such/table")
