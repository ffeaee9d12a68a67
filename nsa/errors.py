"""The errors a user meets: one line each, saying what, which value, what was expected and how to fix it."""


class NsaError(Exception):
    """Base of every error that the command line prints as one line, without a traceback."""


class ConfigError(NsaError):
    """A wrong, unknown or contradictory setting, or an impossible shape."""


class RecordError(NsaError):
    """A CSV, Parquet or JSON record that is missing, broken, foreign or stale."""


class InputError(NsaError):
    """A tensor whose shape, dtype, device or stride is outside a contract."""


class CapacityError(NsaError):
    """A token would be written past the end of a cache that is allocated once."""


class BackendUnavailable(NsaError):
    """The requested backend cannot run here; nothing is substituted for it.

    Attributes:
        backend: the name that was asked for.
        reason: why it cannot run.
        fix: what the user can do about it.
    """

    def __init__(self, backend: str, reason: str, fix: str) -> None:
        super().__init__(backend, reason, fix)  # as they are, so that it survives the way out of a process
        self.backend, self.reason, self.fix = backend, reason, fix

    def __str__(self) -> str:
        return f"backend {self.backend!r} is unavailable: {self.reason}; {self.fix}"


class ProfilerFailed(NsaError):
    """The profiler ran and gave nothing that can be used.

    Attributes:
        reason: what it said.
        fix: what the user can do about it.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}; {fix}")
        self.reason, self.fix = reason, fix


class RequiredBuildFailed(NsaError):
    """A build that the configuration, or a flag, requires: nothing is measured without it."""


class KernelFailed(NsaError):
    """A backend that can run here failed while it ran: its cell's status, with the reason, never another's time."""

    fix = "mend the kernel (on a GPU compute-sanitizer finds where it goes wrong)"


class KernelHung(KernelFailed):
    """It did not end in the time it was given, and was killed."""

    fix = "raise timeout_s in that section of config.yaml if it is only slow, else look for the loop in the kernel"


class NoMemory(NsaError):
    """It does not fit into the device's memory."""


class Killed(NsaError):
    """A process of ours was killed from outside while it measured: nothing is recorded, and the next run does it."""


class Disturbed(NsaError):
    """Something else kept the host from measuring: nothing is recorded, and the next run measures it."""


class NoSharedMemory(NsaError):
    """One process cannot be given the memory of another here: nothing is recorded, as no backend is to blame."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the judge's memory cannot be seen by the candidate's process ({why}); expected CUDA IPC (on a CPU shared "
            "memory, /dev/shm): run outside of this container or sandbox"
        )
