"""How the selected and the window branch are launched, from sizes at capacity and the device; never from lengths."""

from __future__ import annotations

from typing import NamedTuple

from nsa.kernels.tiles import padded

MAX_SPLITS = 64  # of a branch of a row: a combination holds them all at once
STEP_BYTES = 32 << 10  # of K and V that a program takes in a step, at most


class Call(NamedTuple):
    """What a plan depends on."""

    rows: int  # B·G
    head_dim: int  # D
    value_dim: int  # Dv
    itemsize: int  # bytes of a number
    window: int  # tokens of the window, at most; 0: the branch is off
    selected: int  # tokens of the selected blocks, at most; 0: the branch is off
    processors: int  # streaming multiprocessors of the device


class Shape(NamedTuple):
    """Of a launch: tokens of a step, warps of a program, stages of its loads, programs for a multiprocessor."""

    tokens: int
    warps: int
    stages: int
    programs: int


class Plan(NamedTuple):
    """A program of `warps` warps takes `chunk` steps of `tokens` tokens; a row has so many programs for each branch."""

    tokens: int
    warps: int
    stages: int
    chunk: int
    win_splits: int
    sel_splits: int


NEAR = Shape(64, 4, 2, 3)  # docs/step_log.md has what was tried


def plan(call: Call, shape: Shape = NEAR) -> Plan:
    """Steps that fit a multiprocessor, and as many a program as still give each multiprocessor its programs."""
    token_bytes = (padded(call.head_dim) + padded(call.value_dim)) * call.itemsize
    tokens = shape.tokens
    while tokens > 16 and tokens * token_bytes > STEP_BYTES:
        tokens //= 2
    window, selected = -(-call.window // tokens), -(-call.selected // tokens)  # steps
    wanted = -(-(window + selected) * call.rows // (call.processors * shape.programs))
    chunk = max(1, wanted, -(-max(window, selected) // MAX_SPLITS))
    return Plan(tokens, shape.warps, shape.stages, chunk, -(-window // chunk), -(-selected // chunk))
