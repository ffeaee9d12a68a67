"""Reading ncu's words: nothing but bytes of profiled kernels is taken for a count."""

from __future__ import annotations

import pytest

from nsa.bench.dram.profile import last_words, parse
from nsa.errors import ProfilerFailed

HEADER = '"ID","Process ID","Kernel Name","CC","dram__bytes_read.sum","dram__bytes_write.sum"'
UNITS = '"","","","","byte","byte"'


def kernel(name: str, read: str, written: str) -> str:
    """A line of the table."""
    return f'"0","1234","{name}","9.0","{read}","{written}"'


def test_the_table_is_found_among_other_lines() -> None:
    """Breaks if a line of the target or of ncu, above or below the table, is taken for a part of it."""
    noise = ['"a target that quotes"', "==PROF== Connected to process 1234"]
    lines = [*noise, HEADER, UNITS, kernel("f", "1,234,567,890", "0"), "==PROF== Disconnected", kernel("g", "32", "64")]
    assert parse("\n".join(lines)) == [
        {"name": "f", "bytes_read": 1_234_567_890, "bytes_written": 0},
        {"name": "g", "bytes_read": 32, "bytes_written": 64},
    ]


def test_a_name_with_commas_is_one_field() -> None:
    """Breaks if a templated kernel shifts the columns."""
    (found,) = parse("\n".join([HEADER, UNITS, kernel("void f<(int)4, float>(T1, T2)", "32", "64")]))
    assert found == {"name": "void f<(int)4, float>(T1, T2)", "bytes_read": 32, "bytes_written": 64}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([HEADER, UNITS, kernel("f", "n/a", "0")], "'n/a' for dram__bytes_read.sum"),
        ([HEADER, UNITS, kernel("f", "1", "")], "'' for dram__bytes_write.sum"),
        ([HEADER, UNITS.replace("byte", "Mbyte", 1), kernel("f", "1.5", "0")], "dram__bytes_read.sum in 'Mbyte'"),
        ([HEADER.replace("bytes_write", "x"), UNITS, kernel("f", "1", "0")], "lacks dram__bytes_write.sum"),
        ([HEADER, UNITS], "profiled no kernel"),
        (["==WARNING== No kernels were profiled."], "no kernel: ==WARNING== No kernels were profiled."),
        ([], "profiled no kernel: it said nothing"),
    ],
)
def test_what_is_no_count_of_bytes_is_refused(lines: list[str], reason: str) -> None:
    """Breaks if a missing counter passes as zero, or megabytes as bytes."""
    with pytest.raises(ProfilerFailed) as caught:
        parse("\n".join(lines))
    assert reason in caught.value.reason
    assert "dram.ncu to skip" in caught.value.fix


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        ("==PROF== a\n==ERROR== b\n==ERROR== b\n==PROF== c\n", "", "b"),
        ("==ERROR== b\n", "Traceback\nOSError: d\n\n", "b; OSError: d"),
        ("", "==ERROR== b\n", "b"),
        ("a\nb\n\n", "", "b"),
        ("", "", ""),
    ],
)
def test_the_last_words_are_the_reason(stdout: str, stderr: str, expected: str) -> None:
    """Breaks if a failure is recorded with a line that does not explain it."""
    assert last_words(stdout, stderr) == expected
