"""The extension: built without a GPU, its operator's schema, and on a GPU the whole contract."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from built import built
from torch._subclasses.fake_tensor import FakeTensorMode

from nsa.bench.method.accuracy import fault, oracle, worst_row_error
from nsa.bench.method.inputs import Call, ragged_case
from nsa.errors import InputError
from nsa.kernels.cuda import operator
from nsa.kernels.cuda.build import EXTENSION
from nsa.kernels.extension import build as stage
from nsa.kernels.extension.manifest import Manifest
from nsa.kernels.limits import HEAD_DIMS
from nsa.kernels.sdpa.packed import gather
from nsa.machine import nvcc
from nsa.records.shapes import CheckShape

pytestmark = pytest.mark.skipif(nvcc.find(os.environ) is None, reason="no nvcc on this machine")
SHAPES = int(os.environ.get("NSA_TEST_SHAPES", "2000"))  # fewer under compute-sanitizer, which is slow
SMALL = CheckShape(4, 4, 64, 64, 4, 16, 80, 2, "bfloat16")
CPU = torch.device("cpu")
WIDTH = "instantiate_dv64.cu"  # of these files the one that is compiled without a GPU
LIMIT = {"float16": 2e-3, "bfloat16": 1.5e-2}  # worst-row relative error; packed SDPA's own is about half


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Manifest:
    """The extension built for NSA_TEST_ARCHS, else for this machine's GPUs; else few of its instances, see few.cu.

    Those are built with and without clusters. A GPU's own build is of every instance.
    """
    extension, archs = EXTENSION, os.environ["NSA_TEST_ARCHS"].split(",") if "NSA_TEST_ARCHS" in os.environ else None
    if archs is None and not stage.native_archs():
        extension, archs = stage.Extension("cuda", tmp_path_factory.mktemp("csrc")), ["80", "90a"]
        whole = (path for path in EXTENSION.csrc.iterdir() if not path.match("instantiate_*") or path.name == WIDTH)
        for path in (*whole, Path(__file__).with_name("few.cu")):
            shutil.copy(path, extension.csrc)
    return built(extension, archs, pytestconfig)


@pytest.fixture(scope="module")
def loaded(manifest: Manifest) -> None:
    """The operator, loaded."""
    assert manifest.status == "built", manifest.log
    operator.load(manifest.built)


def test_it_builds_without_a_gpu_or_a_warning(manifest: Manifest) -> None:
    """It compiles with and without clusters, and no kernel with D = Dv of 64 or 128 spills."""
    assert manifest.status == "built", manifest.log
    assert {kernel.arch for kernel in manifest.kernels} == {f"sm_{arch}" for arch in manifest.archs}
    assert manifest.warnings == ()
    for widths, instances in (("Li64ELi64E", 8), ("Li128ELi128E", 4)):  # of two types, heads to 8 and 16, and depths
        found = [kernel for kernel in manifest.kernels if widths in kernel.kernel]
        assert len(found) == instances * len(manifest.archs)
        assert [kernel for kernel in found if kernel.spill_bytes] == []


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
    with pytest.raises(InputError, match="block_indices: got n = 129 blocks a row, expected at most 128"):
        operator.select_attention(*call[:3], call[3].repeat(1, 1, 33)[..., :129], call[4], 64)
    with pytest.raises(
        InputError, match=r"block_indices: got strides \(4, 1, 8\), expected a contiguous last dimension"
    ):
        operator.select_attention(*call[:3], torch.zeros(4, 2, 4, dtype=torch.int32).permute(1, 2, 0), call[4], 64)
    with pytest.raises(InputError, match="seq_lens: got stride 2, expected contiguous lengths"):
        operator.select_attention(*call[:4], torch.zeros(4, dtype=torch.int32)[::2], 64)
    with pytest.raises(InputError, match=r"v: starts at 0x[0-9a-f]+, expected a multiple of 16 bytes"):
        whole = torch.zeros(call[2].numel() + 1, dtype=torch.bfloat16)
        operator.select_attention(*call[:2], whole[1:].view_as(call[2]), *call[3:5], 64)


@pytest.fixture
def on_cpu(loaded: None) -> Iterator[None]:
    """The operator with packed SDPA as its kernel on a CPU, which has none of its own."""
    library = torch.library.Library("nsa", "IMPL")
    library.impl("select_attention", lambda *call: gather(*call), "CPU")
    yield
    library._destroy()


def one_of_each() -> Call:
    """A call whose dimensions of size 1 have odd strides: one sequence, one group, one head, one token, one block."""
    q = torch.randn(64, dtype=torch.bfloat16).as_strided((1, 1, 1, 64), (7, 5, 3, 1))
    k, v = (torch.randn(64, dtype=torch.bfloat16).as_strided((1, 1, 1, 64), (65, 67, 69, 1)) for _ in range(2))
    indices = torch.zeros(1, dtype=torch.int32).as_strided((1, 1, 1), (3, 5, 7))
    return Call(q, k, v, indices, torch.ones(3, dtype=torch.int32)[::3], 16)


def test_a_stride_of_a_dimension_of_size_one_means_nothing(on_cpu: None) -> None:
    """The door takes any stride where there is nothing to step to."""
    call = one_of_each()
    torch.testing.assert_close(operator.select_attention(*call), call.v.float().expand(1, 1, 1, 64).bfloat16())


class Selected(torch.nn.Module):
    """A module that calls the checked door."""

    def forward(self, *call: torch.Tensor) -> torch.Tensor:
        """As SelectAttention, with blocks of 16."""
        return operator.select_attention(*call, 16)


@pytest.mark.parametrize("call", [one_of_each(), ragged_case(SMALL, 3, CPU)], ids=["one of each", "ragged"])
@pytest.mark.parametrize("strict", [False, True])
def test_the_door_exports(on_cpu: None, call: Call, strict: bool) -> None:
    """torch.export takes a module that calls the door, and the program gives the same."""
    program = torch.export.export(Selected(), tuple(call[:5]), strict=strict)
    assert torch.equal(program.module()(*call[:5]), operator.select_attention(*call))


def test_the_door_compiles_as_one_graph(on_cpu: None) -> None:
    """torch.compile takes it with fullgraph=True, with sizes that are known and with any."""
    call = ragged_case(SMALL, 3, CPU)
    expected = operator.select_attention(*call)
    for dynamic in (False, True):
        compiled = torch.compile(Selected(), fullgraph=True, backend="aot_eager", dynamic=dynamic)
        assert torch.equal(compiled(*call[:5]), expected)


def test_the_door_takes_tensors_without_data(loaded: None) -> None:
    """Of fake tensors and of those on the meta device only shapes, strides and dtypes are asked."""
    call = ragged_case(SMALL, 3, CPU)
    expected = (*call.q.shape[:3], call.v.shape[3])
    assert operator.select_attention(*(tensor.to("meta") for tensor in call[:5]), 16).shape == expected
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(tensor) for tensor in call[:5]]
        assert operator.select_attention(*fakes, 16).shape == expected


def drawn(seed: int) -> tuple[CheckShape, Call]:
    """A random shape of the whole contract, on the GPU: ragged, padded, poisoned, every third with strided caches."""
    draw = random.Random(seed)
    groups, block, many = draw.choice([1, 2, 4]), draw.choice([16, 32, 64, 128]), seed % 8 == 0
    shape = CheckShape(
        rows=groups * draw.randint(1, 4 if many else 24),
        heads_per_group=draw.randint(1, 16),
        head_dim=draw.choice(HEAD_DIMS),
        value_dim=draw.choice(HEAD_DIMS),
        sel_count=draw.randint(65, 128) if many else draw.randint(1, 64),
        sel_block=block,
        context=draw.randint(1, 130 * block if many else 2048),
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
