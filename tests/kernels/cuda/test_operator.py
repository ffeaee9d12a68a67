"""The extension: built for every architecture without a GPU, its operator's schema, and on a GPU the whole contract."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import torch

from nsa.bench.method.accuracy import fault, oracle, worst_row_error
from nsa.bench.method.inputs import Call, ragged_case
from nsa.errors import InputError
from nsa.kernels.contract import HEAD_DIMS
from nsa.kernels.cuda import operator
from nsa.kernels.cuda.build import EXTENSION
from nsa.kernels.extension import build as stage
from nsa.kernels.extension.manifest import Manifest
from nsa.machine import nvcc
from nsa.records.shapes import CheckShape

pytestmark = pytest.mark.skipif(nvcc.find(os.environ) is None, reason="no nvcc on this machine")
SHAPES = int(os.environ.get("NSA_TEST_SHAPES", "2000"))  # fewer under compute-sanitizer, which is slow
LIMIT = {"float16": 2e-3, "bfloat16": 1.5e-2}  # worst-row relative error; packed SDPA's own is about half


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The extension built for this machine's GPUs, or without one for every architecture that the compiler knows."""
    archs = os.environ.get("NSA_TEST_ARCHS")
    return stage.build(
        EXTENSION, "require", tmp_path_factory.mktemp("build") / "cuda.json", archs=archs.split(",") if archs else None
    )


@pytest.fixture(scope="module")
def loaded(manifest: Manifest) -> None:
    """The operator, loaded."""
    assert manifest.status == "built", manifest.log
    operator.load(manifest.built)


def test_it_builds_for_every_architecture_without_a_gpu(manifest: Manifest) -> None:
    """It compiles for every architecture without a warning, and no kernel with D = Dv of 64 or 128 spills."""
    assert manifest.status == "built", manifest.log
    if not stage.native_archs():
        assert set(manifest.archs) >= {"80", "89", "90a"}
    assert {kernel.arch for kernel in manifest.kernels} == {f"sm_{arch}" for arch in manifest.archs}
    assert manifest.warnings == ()
    for kernel in manifest.kernels:
        if "Li64ELi64E" in kernel.kernel or "Li128ELi128E" in kernel.kernel:
            assert kernel.spill_bytes == 0, kernel


def test_the_schema_and_the_fake_implementation(loaded: None) -> None:
    """The operator has its schema, and gives an output of the right shape for tensors without data."""
    schema = str(torch.ops.nsa.select_attention.default._schema)
    assert schema.startswith(
        "nsa::select_attention(Tensor q, Tensor k, Tensor v, Tensor block_indices, Tensor seq_lens"
    )
    with torch.device("meta"):
        q, kv = torch.empty(2, 3, 4, 64), torch.empty(2, 3, 99, 64)
        o = torch.ops.nsa.select_attention(q, kv, kv[..., :32], torch.empty(2, 3, 5), torch.empty(2), 64)
    assert o.shape == (2, 3, 4, 32)


def test_bad_calls_are_refused_before_the_kernel() -> None:
    """A call that the kernel was not built for raises an InputError that names the argument."""
    call = list(ragged_case(CheckShape(8, 4, 64, 64, 4, 64, 256, 4, "bfloat16"), 0, torch.device("cpu")))
    with pytest.raises(InputError, match="got float32, expected float16 or bfloat16"):
        operator.select_attention(*[t.float() if t.is_floating_point() else t for t in call[:5]], 64)
    with pytest.raises(InputError, match="block_size: got 48"):
        operator.select_attention(*call[:5], 48)
    narrow = [t[..., :40] if t.is_floating_point() else t for t in call[:5]]
    with pytest.raises(InputError, match="D, Dv: got 40 and 40"):
        operator.select_attention(*narrow, 64)
    odd = torch.randn(2, 4, 256, 68, dtype=torch.bfloat16)[..., :64]
    with pytest.raises(
        InputError, match=r"k: got strides .* expected a contiguous last dimension, the others multiples"
    ):
        operator.select_attention(call[0], odd, *call[2:5], 64)


def drawn(seed: int) -> tuple[CheckShape, Call]:
    """A random shape of the whole contract, on the GPU: ragged, padded, poisoned, every third with strided caches."""
    draw = random.Random(seed)
    groups, block = draw.choice([1, 2, 4]), draw.choice([16, 32, 64, 128])
    shape = CheckShape(
        rows=groups * draw.randint(1, 24),
        heads_per_group=draw.randint(1, 16),
        head_dim=draw.choice(HEAD_DIMS),
        value_dim=draw.choice(HEAD_DIMS),
        sel_count=draw.randint(1, 64),
        sel_block=block,
        context=draw.randint(1, 2048),
        groups=groups,
        dtype=draw.choice(["float16", "bfloat16"]),
    )
    call = ragged_case(shape, seed, torch.device("cuda"))
    if seed % 3 == 0:  # as slices of a wider cache, tokens before groups, at a capacity that no block divides
        cut = shape.context
        k, v = (torch.cat((t, t), -1).transpose(1, 2).contiguous().transpose(1, 2) for t in (call.k, call.v))
        call = call._replace(k=k[:, :, :cut, : shape.head_dim], v=v[:, :, :cut, : shape.value_dim])
    return shape, call


@pytest.mark.gpu
def test_two_thousand_random_shapes_equal_the_oracle(loaded: None) -> None:
    """The operator equals the oracle on random shapes of the whole contract; the seed of a failure names it."""
    failures = []
    for seed in range(SHAPES):
        shape, call = drawn(seed)
        output = operator.select_attention(*call)
        found = fault(output, call)
        error = worst_row_error(output, oracle(call)) if found is None else float("nan")
        if found is not None or not error <= LIMIT[shape.dtype]:
            failures.append((seed, shape, found, error))
    assert failures == []


@pytest.mark.gpu
def test_replays_are_bitwise_equal(loaded: None) -> None:
    """Replays of a captured call give the eager call's bits: splits are combined in a fixed order."""
    for seed in range(0, 60, 3):
        _, call = drawn(seed)
        graph = torch.cuda.CUDAGraph()
        eager = operator.select_attention(*call)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            output = operator.select_attention(*call)
        for _ in range(5):
            output.fill_(torch.nan)
            graph.replay()
            assert torch.equal(output.view(torch.uint8), eager.view(torch.uint8)), seed


@pytest.mark.gpu
@pytest.mark.skipif("NSA_TEST_ARCHS" in os.environ, reason="this is the run with other code that it starts")
def test_the_code_for_gpus_without_clusters_is_right() -> None:
    """The code for GPUs without clusters (8.x), assembled by the driver here, passes the same tests.

    They run in a process of their own, because the operator can be registered once.
    """
    environ = os.environ | {"NSA_TEST_ARCHS": "80+PTX", "NSA_TEST_SHAPES": "500"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-k", "random_shapes or bitwise", __file__]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "2 passed" in run.stdout, run.stdout[-2000:]


@pytest.mark.gpu
def test_opcheck(loaded: None) -> None:
    """Schema, fake implementation and kernel agree."""
    _, call = drawn(1)
    torch.library.opcheck(
        torch.ops.nsa.select_attention.default, tuple(call), test_utils=("test_schema", "test_faketensor")
    )
