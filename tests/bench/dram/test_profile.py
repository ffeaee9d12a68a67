"""Reading ncu's words: nothing but bytes of profiled kernels is taken for a count."""

from __future__ import annotations

import pytest

from nsa.bench.dram.profile import by_shape, last_words, parse
from nsa.errors import ProfilerFailed
from nsa.records.dram import KernelBytes

HEADER = '"ID","Process ID","Kernel Name","CC","dram__bytes_read.sum","dram__bytes_write.sum"'
UNITS = '"","","","","byte","byte"'


def kernel(name: str, read: str, written: str) -> str:
    """A line of the table."""
    return f'"0","1234","{name}","9.0","{read}","{written}"'


def test_the_table_is_found_among_other_lines() -> None:
    """Lines of the target and of ncu, above, inside and below the table, are no part of it."""
    noise = ['"a target that quotes"', "==PROF== Connected to process 1234"]
    lines = [*noise, HEADER, UNITS, kernel("f", "1,234,567,890", "0"), "==PROF== Disconnected", kernel("g", "32", "64")]
    assert parse("\n".join(lines)) == [
        KernelBytes(name="f", bytes_read=1_234_567_890, bytes_written=0),
        KernelBytes(name="g", bytes_read=32, bytes_written=64),
    ]


def test_a_name_with_commas_is_one_field() -> None:
    """A templated kernel's name, commas and all, shifts no column."""
    (found,) = parse("\n".join([HEADER, UNITS, kernel("void f<(int)4, float>(T1, T2)", "32", "64")]))
    assert found == KernelBytes(name="void f<(int)4, float>(T1, T2)", bytes_read=32, bytes_written=64)


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
    """A missing counter is no zero, and megabytes are no bytes."""
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
    """The errors of ncu, each once, with the last line of the target, or else the last line of what was said."""
    assert last_words(stdout, stderr) == expected


def kernels(*names: str) -> list[KernelBytes]:
    return [KernelBytes(name=name, bytes_read=place, bytes_written=0) for place, name in enumerate(names)]


def test_a_marker_ends_each_shape() -> None:
    """The kernels before a marker are those of one shape, in launch order; the marker is none of them."""
    a, b, _, c, _ = found = kernels("a", "b", "spin_kernel", "a", "spin_kernel")
    assert by_shape(found, 2) == [(a, b), (c,)]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "spin_kernel"], "1 of 2 shapes, kernels of each: 1, 0"),  # one shape is missing
        (["a", "spin_kernel", "b"], "1 of 2 shapes, kernels of each: 1, 1"),  # the last has no end
        (["a", "spin_kernel", "spin_kernel"], "2 of 2 shapes, kernels of each: 1, 0, 0"),  # one launched nothing
        (["a", "spin_kernel", "b", "spin_kernel", "c"], "2 of 2 shapes, kernels of each: 1, 1, 1"),
        (["a", "spin_kernel"] * 3, "3 of 2 shapes"),
    ],
)
def test_kernels_that_cannot_be_given_to_their_shapes_are_no_count(names: list[str], words: str) -> None:
    """Bytes are never recorded for another shape than the one that moved them."""
    with pytest.raises(ProfilerFailed) as caught:
        by_shape(kernels(*names), 2)
    assert words in caught.value.reason
