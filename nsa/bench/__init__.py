"""What runs on the machine under test: the environment, the arms, their timing and the kernel check."""
