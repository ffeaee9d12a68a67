"""A run as one file to share: report, records, configuration, environment, stamps and logs, with their digests."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nsa.errors import RecordError
from nsa.layout import Layout
from nsa.records import files

SUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry: the same run makes the same file


def pack(layout: Layout, out: Path) -> str:
    """Write the bundle and return its digest.

    Raises:
        RecordError: there is no report to share, or the file cannot be written.
    """
    for needed in (layout.gate, layout.html):
        if not needed.exists():
            raise RecordError(f"{needed}: missing, expected a finished run; run `snakemake` first")
    content = {path.relative_to(layout.root).as_posix(): path.read_bytes() for path in shared(layout)}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items())
    with files.atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in {SUMS: sums.encode(), **content}.items():
            bundle.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
    return files.sha256(out)


def shared(layout: Layout) -> Iterator[Path]:
    """The files of a run that others can use: no lock, no half-written file, nothing compiled."""
    for path in sorted(layout.root.rglob("*")):
        first = path.relative_to(layout.root).parts[0]
        hidden = first.startswith(".") and first != layout.stamps.name
        if path.is_file() and not hidden and path.suffix not in (".o", ".so", files.TEMPORARY):
            yield path


def unpack(bundle: Path, folder: Path) -> Layout:
    """Unpack a bundle into a new folder and return where the run lies.

    Raises:
        RecordError: it is no bundle, a file in it is not the one that was packed, or the folder is there already.
    """
    if folder.exists():
        raise RecordError(f"{folder}: is there already, expected a free name; give another one with --to")
    content = _checked(bundle)
    for name, data in content.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return Layout(folder)


def _checked(bundle: Path) -> dict[str, bytes]:
    """The files of a bundle by name, each the one that its digest is of."""
    try:
        with zipfile.ZipFile(bundle) as packed:
            content = {name: packed.read(name) for name in packed.namelist()}
    except OSError as error:
        raise RecordError(f"{bundle}: cannot be read ({error.strerror}), expected what `nsa bundle` wrote") from error
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # broken, encrypted, another method
        raise RecordError(f"{bundle}: is no bundle ({error}), expected what `nsa bundle` wrote") from error
    lines = content.pop(SUMS, b"").decode(errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not sums or set(sums) != set(content):
        raise RecordError(f"{bundle}: is no bundle (no {SUMS}, or not of its files), expected what `nsa bundle` wrote")
    for name, data in content.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise RecordError(f"{bundle}: {name} would lie outside of the folder, expected what `nsa bundle` wrote")
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise RecordError(f"{bundle}: {name} is not the file that was packed; ask for the bundle again")
    return content
