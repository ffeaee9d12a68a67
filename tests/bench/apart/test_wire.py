"""What comes back from the candidate's process: values, errors of ours as they are, and nothing that is run."""

from __future__ import annotations

import json
import os
import pickle

import pytest

from nsa.bench.apart import wire
from nsa.errors import BackendUnavailable, Disturbed, InputError, KernelFailed, KernelHung, NoMemory, RecordError
from nsa.kernels.failures import BackendBroken


class Own(InputError):
    """A class that the judge does not have."""


class Pickled:
    """What would run a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("value", [None, [1, 2], {"ns": [5], "odd": None}, ["a"]])
def test_a_value_comes_back(value: object) -> None:
    """As it was sent."""
    assert wire.opened("cuda", wire.answer(value)) == value


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (InputError("q: got float32"), InputError, "q: got float32"),
        (Own("q: got float32"), InputError, "q: got float32"),
        (BackendUnavailable("cuda", "no library", "build it"), BackendUnavailable, None),
        (NoMemory("CUDA out of memory"), NoMemory, "CUDA out of memory"),
        (BackendBroken("cuda: it returned a list"), BackendBroken, "cuda: it returned a list"),
        (KernelHung("it hangs"), KernelFailed, "it hangs"),
        (RecordError("results/x: broken"), RecordError, "results/x: broken"),
        (Disturbed("the host was held up"), Disturbed, "the host was held up"),
        (RuntimeError("no kernel image\nmore"), KernelFailed, "cuda: RuntimeError: no kernel image"),
        (RuntimeError("CUDA out of memory. Tried"), NoMemory, "CUDA out of memory. Tried"),
        (SystemExit(3), KernelFailed, "cuda: SystemExit: 3"),
    ],
)
def test_an_error_comes_back(raised: BaseException, kind: type[Exception], message: str | None) -> None:
    """An error of ours with its class and arguments, anything else as the backend's failure, with its traceback."""
    with pytest.raises(kind) as caught:
        wire.opened("cuda", wire.refusal("cuda", raised))
    assert type(caught.value) is kind and str(caught.value) == (message or str(raised))
    assert caught.value.__notes__[0].startswith("in the candidate's process:\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"3",
        json.dumps({"kind": "SystemExit", "said": ["3"], "text": ""}).encode(),
        json.dumps({"kind": "BackendUnavailable", "said": ["too few"], "text": ""}).encode(),
        json.dumps({"kind": "InputError", "said": 3, "text": ""}).encode(),
        pickle.dumps(Pickled()),
    ],
)
def test_what_is_no_answer_is_the_candidates_failure(data: bytes, tmp_path, monkeypatch) -> None:
    """It is told as such, and nothing in it is run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KernelFailed, match=r"^cuda: its process gave an answer that is none$"):
        wire.opened("cuda", data)
    assert list(tmp_path.iterdir()) == []
