"""Packages that are installed for the time of a test: a folder on the path with modules and a dist-info."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nsa import backends


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """While inside, what lies in the folder is installed, its entry points included."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            module = sys.modules[name]
            origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
            if origin is not None and Path(origin).is_relative_to(folder):
                del sys.modules[name]
        forget()


def forget() -> None:
    """Look anew for what is installed."""
    importlib.invalidate_caches()
    backends._lines.cache_clear()
    backends._load.cache_clear()


def distribution(folder: Path, name: str, entry_points: str, files: Mapping[str, str]) -> Path:
    """Write a package with an entry point, `name = module:attribute`, of the group of backends."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{backends.GROUP}]\n{entry_points}\n")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder
