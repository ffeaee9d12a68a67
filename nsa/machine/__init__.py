"""What the machine is and how a job shares it: fingerprint, probe, GPUs, compilers, locks, processes."""
