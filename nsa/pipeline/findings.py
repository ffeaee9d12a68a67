"""What `nsa doctor` says, and what it says of files of an older version and of a configuration that has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nsa import backends
from nsa.config import Config
from nsa.layout import Layout
from nsa.pipeline.stages import effective_flags
from nsa.settings import leaves

AGAIN = "run `snakemake`"
OLD_STAMPS = ("build.json", "tune.json", "deleted")  # of stages that are called artifact-cuda and artifact-triton now
OLD_ACCEPTED = "baselines"  # the folder that is called accepted now
NAMED = 3  # of the keys that differ


@dataclass(frozen=True)
class Finding:
    """One fault of the folder, or a note.

    Attributes:
        where: the file, as a user would name it.
        what: what is wrong with it.
        fix: what to do about it.
        fault: whether something is wrong; a note is for the reader only.
    """

    where: Path
    what: str
    fix: str
    fault: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


def reason_alone(path: Path, text: str) -> str:
    """What a reader says of a file, less the file's name and the fix that it ends in, where it has one."""
    reason = text.removeprefix(f"{path}: ")
    return reason.rpartition("; ")[0] or reason


def older_version(layout: Layout, accepted: Path) -> Iterator[Finding]:
    """Files of an older version of this project that nothing reads or makes any more."""
    for name in OLD_STAMPS:
        if (path := layout.stamps / name).exists():
            yield Finding(
                path, "left by an older version, and no rule makes it any more (see CHANGELOG.md)", "delete it"
            )
    old = accepted.with_name(OLD_ACCEPTED)
    if old.is_dir():
        yield Finding(
            old,
            f"accepted runs of an older version, which nothing is compared with any more (see CHANGELOG.md); new ones "
            f"are kept in {accepted}",
            "delete it, and run `python -m nsa accept` after a run",
        )


def differences(path: Path, given: Config, run: Config) -> Iterator[Finding]:
    """A note when config.yaml or the flags are not those of the run that is there, with the first keys."""
    now, then = dict(leaves(given.document())), dict(leaves(run.document()))
    said = [f"{key} is {now.get(key)}, was {then.get(key)}" for key in now | then if now.get(key) != then.get(key)]
    flags, before = effective_flags(given), effective_flags(run)
    said += [
        f"{name} is {_flag(flags.get(name))}, was {_flag(before.get(name))}"
        for name in flags | before
        if flags.get(name) != before.get(name)
    ]
    if said:
        more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
        what = f"not what the run in this folder was made with: {', '.join(said[:NAMED])}{more}"
        yield Finding(path, what, "a note: run `snakemake` for what it says now", fault=False)


def left_out(unreadable: Iterable[str]) -> Iterator[Finding]:
    """A note for each installed backend that is broken: who did not ask for it has lost nothing.

    Args:
        unreadable: those whose sources cannot be told, see stamps.write.
    """
    for line in dict.fromkeys((*backends.warnings(), *unreadable)):
        what, _, fix = line.rpartition("; ")
        yield Finding(Path(backends.GROUP), what, f"a note: nothing of it is run, {fix}", fault=False)


def _flag(value: bool | None) -> str:
    return "unset" if value is None else str(int(value))
