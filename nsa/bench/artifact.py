"""A backend's own stage, run: whatever it raises or leaves undone is its own failure, and its artifact says so."""

from __future__ import annotations

import errno
import json
from pathlib import Path

from nsa import backends
from nsa.errors import ConfigError, Disturbed, Killed, RecordError, RequiredBuildFailed
from nsa.kernels.failures import said
from nsa.layout import Layout
from nsa.machine.process import announce
from nsa.records import files
from nsa.records import stamp as stamps

FULL = (errno.ENOSPC, errno.EDQUOT)
# What it was given, a folder that takes nothing, an end from outside, a host that was held up, what may not fail.
NO_FAULT_OF_ITS = (ConfigError, RecordError, Killed, Disturbed, RequiredBuildFailed)


def run(backend: str, stamp: Path, environment: Path, out: Path) -> None:
    """Call the stage of a backend, and write an artifact that says `failed` in the place of one that cannot be used.

    What our own package raises in a stage is a fault of the harness, unless it is the backend's package.

    Raises:
        ConfigError: the backend has no stage of its own, or CUDA was asked for and is not there.
        RecordError: what the stage starts from cannot be read, or the artifact cannot be written.
        Killed, Disturbed: a process of the stage was killed or held up from outside; a source was edited meanwhile.
        RequiredBuildFailed: it is a build that is required.
    """
    own = backends.spec(backend).stage
    if own is None:
        having = [name for name in backends.names() if backends.spec(name).stage is not None]
        raise ConfigError(f"--backend: got {backend!r}, which has no stage of its own; expected {', '.join(having)}")
    out.unlink(missing_ok=True)  # an earlier one does not stand for this one
    stamped = stamps.read(stamp)
    fault = _called(backend, own.entry, stamp, environment, out) or unusable(out)
    try:
        stamped.sources.require_unchanged()
    except Disturbed:
        out.unlink(missing_ok=True)
        raise
    if fault is not None:
        reason = f"{own.entry}: {fault}"
        fix = f"see {Layout().log(f'artifact_{backend}')}; then delete {out} and run again"
        digests = stamped.carried.model_dump()
        failed = {"status": "failed", "reason": reason, "fix": fix, "stamp": digests}
        files.write_text(out, json.dumps(failed, indent=1) + "\n")
        print(f"artifact {backend}: failed: {reason}", flush=True)
        announce(f"artifact {backend}: failed: {reason}; {fix}")


def _called(backend: str, entry: str, stamp: Path, environment: Path, out: Path) -> str | None:
    """What is wrong with a stage that did not return."""
    try:
        function = backends.resolve(entry)
    except ConfigError as error:
        return str(error)
    try:
        function(stamp, environment, out)
    except (Exception, SystemExit) as error:
        told = isinstance(error, NO_FAULT_OF_ITS) or (isinstance(error, OSError) and error.errno in FULL)
        if told or not entry.startswith(f"{backends.package(backend)}."):
            raise
        return said(error)
    return None


def unusable(artifact: Path) -> str | None:
    """Why nobody can use an artifact: it is not there, no JSON object, or lacks what every artifact says."""
    if not artifact.is_file():
        return "it wrote no artifact"
    try:
        found = files.read_json(artifact)
    except RecordError as error:
        return str(error).removeprefix(f"{artifact}: ").rpartition("; ")[0]
    for key, wanted in (("status", "text"), ("reason", "text or null"), ("fix", "text or null")):
        value = found.get(key)
        if key not in found or not (isinstance(value, str) or (value is None and wanted != "text")):
            shown = repr(value) if key in found else "nothing"
            return f"its artifact has {shown:.80} for {key}, expected {wanted}"
    return None
