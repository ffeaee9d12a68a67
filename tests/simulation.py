"""Simulated runs, in which the truth is known.

A run is simulated as nsa.bench.decode.replicate makes it: processes, in each 4 blocks, in each every arm once at a
random place. A process has an effect that all its arms share and one on each arm; times drift within it; the
repetitions have heavy tails. The sizes are those of a GPU and worse (an H200's IQR over median was 0.24 %, its
processes 0.1 % apart).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

BLOCKS = 4


@dataclass(frozen=True)
class Machine:
    """How a machine disturbs times; all of it relative."""

    shared: float = 0.01  # standard deviation between processes, of all arms of one alike
    own: float = 0.01  # standard deviation between processes, of each arm by itself
    slope: float = 0.01  # standard deviation of the linear drift over a process
    walk: float = 0.001  # standard deviation of a random walk's step from one turn to the next
    iqr: float = 0.003  # of the repetitions, whose noise is Student's t with 3 degrees of freedom
    outliers: float = 0.005  # of the repetitions, which take up to twice as long
    trend: float = 0.0  # what the last place of a block takes more than the first
    second_mode: float = 0.0  # what every other block takes more


def simulate(
    seed: int,
    runs: int,
    processes: int,
    arms_ms: Mapping[str, float],
    machine: Machine,
    iters: int = 16,
    kinds: tuple[bool, ...] = (False,),
) -> pd.DataFrame:
    """Repetitions of many runs; process p of run r has the number r * processes + p, and kinds are steps that emit."""
    rng = np.random.default_rng(seed)
    items = [(arm, emits, ms * (1.02 if emits else 1)) for arm, ms in arms_ms.items() for emits in kinds]
    count, width = runs * processes, len(items)
    order = rng.random((count, BLOCKS, width)).argsort(axis=2)  # [process, block, item], the item's place
    turn = order + width * np.arange(BLOCKS)[:, None]  # when, in the process
    walk = machine.walk * rng.standard_normal((count, BLOCKS * width)).cumsum(axis=1)
    drift = machine.slope * rng.standard_normal((count, 1, 1)) * (turn / (BLOCKS * width) - 0.5)
    drift += np.take_along_axis(walk, turn.reshape(count, -1), axis=1).reshape(turn.shape)
    drift += machine.trend * order / (width - 1) + machine.second_mode * (np.arange(BLOCKS)[:, None] % 2)
    effect = machine.shared * rng.standard_normal((count, 1)) + machine.own * rng.standard_normal((count, width))
    level = np.array([ms for *_, ms in items]) * np.exp(effect[:, None, :] + drift)  # [process, block, item]
    noise = machine.iqr / 1.53 * rng.standard_t(3, (*turn.shape, iters // BLOCKS))  # 1.53 is the IQR of this t
    noise += (rng.random(noise.shape) < machine.outliers) * rng.random(noise.shape)
    process, block, item, _ = np.indices(noise.shape, sparse=True)
    columns = {
        "process": process,
        "block": block,
        "order": order[..., None],
        "arm": np.array([arm for arm, *_ in items], dtype=object)[item],
        "emits": np.array([emits for _, emits, _ in items])[item],
        "value_ns": np.rint(1e6 * level[..., None] * (1 + noise)).astype(np.int64),
    }
    return pd.DataFrame({name: np.broadcast_to(values, noise.shape).ravel() for name, values in columns.items()})


def each_run(frame: pd.DataFrame, runs: int) -> Iterator[pd.DataFrame]:
    """The rows of each run, which lie one after the other."""
    length = len(frame) // runs
    return (frame.iloc[start : start + length] for start in range(0, len(frame), length))
