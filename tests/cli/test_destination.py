"""A CSV is refused before anything is measured where it could not be kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nsa.cli.destination import writable
from nsa.errors import RecordError


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "absent" / "decode.csv")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "it is a folder"),
    "pipe": (os.mkfifo, "it is a folder, a device or a pipe"),
    "device": (lambda path: path.symlink_to("/dev/null"), "a device"),
    "link into no folder": (dangling, "no folder"),
    "link to itself": (loop, "cannot be written"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_file_is_refused_and_left_alone(case: str, tmp_path: Path) -> None:
    """A measurement takes the place of no device, and none is lost for want of a place."""
    make, said = REFUSED[case]
    make(tmp_path / "decode.csv")
    before = os.lstat(tmp_path / "decode.csv")
    with pytest.raises(RecordError, match=said):
        writable(tmp_path / "decode.csv")
    assert os.lstat(tmp_path / "decode.csv") == before


def test_a_link_is_followed(tmp_path: Path) -> None:
    """What is written lands where the link leads."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "decode.csv").symlink_to(tmp_path / "kept" / "decode.csv")
    assert writable(tmp_path / "decode.csv") == tmp_path / "kept" / "decode.csv"
    assert list((tmp_path / "kept").iterdir()) == []  # trying left nothing


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_no_file_is_refused(tmp_path: Path) -> None:
    """A read-only folder is found before the measurement."""
    tmp_path.chmod(0o500)
    with pytest.raises(RecordError, match="Permission denied"):
        writable(tmp_path / "decode.csv")
