"""The state of a GPU's front end, brought to the same one before anything is timed.

A CUDA context launches small kernels slowly until the GPU has switched to another context and back since the first one
made its last stream. On one H100 a train of 40 small launches took 62.0 µs before such a switch and 47.7 after it, at
the same clocks, for as long as the process lived. Replicates that run beside each other would be in either state by
chance, so each makes the GPU switch at the start of its turn.
"""

from __future__ import annotations

import ctypes

import torch

from nsa.errors import NoMemory

BYTES = 1 << 20  # that the second context sets: any work will do
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
PERSISTING_L2_CACHE_SIZE = 6  # CU_LIMIT_PERSISTING_L2_CACHE_SIZE


class SecondContext:
    """A second context of this process on the same device.

    Raises:
        NoMemory: the device has no room for it.
        RuntimeError: the driver refused, with its number for the reason.
    """

    def __init__(self, device: torch.device) -> None:
        torch.cuda.synchronize(device)  # the first context exists from here
        self._driver = ctypes.CDLL("libcuda.so.1")
        ordinal, number = torch.cuda.current_device() if device.index is None else device.index, ctypes.c_int()
        self._first, self._second, self._memory = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
        self._call("cuCtxGetCurrent", ctypes.byref(self._first))
        self._call("cuDeviceGet", ctypes.byref(number), ordinal)
        self._call("cuCtxCreate_v2", ctypes.byref(self._second), 0, number)
        self._call("cuMemAlloc_v2", ctypes.byref(self._memory), ctypes.c_size_t(BYTES))
        self._call("cuCtxSetCurrent", self._first)

    def switch(self) -> None:
        """Make the device switch to this context and back; the current one stays current.

        Lines of the L2 that somebody has made persist are given up, and none may persist: no flush would empty them.
        """
        self._call("cuCtxSetLimit", PERSISTING_L2_CACHE_SIZE, ctypes.c_size_t(0))
        self._call("cuCtxResetPersistingL2Cache")
        self._call("cuCtxSetCurrent", self._second)
        try:
            self._call("cuMemsetD8_v2", self._memory, ctypes.c_ubyte(0), ctypes.c_size_t(BYTES))
            self._call("cuCtxSynchronize")
        finally:
            self._call("cuCtxSetCurrent", self._first)

    def _call(self, name: str, *arguments: object) -> None:
        error: int = getattr(self._driver, name)(*arguments)
        if error == OUT_OF_MEMORY:
            raise NoMemory(f"{name}: CUDA out of memory")
        if error:
            raise RuntimeError(f"{name} failed with CUDA driver error {error}")
