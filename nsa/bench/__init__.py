"""What runs on the machine under test: the runner, the method, and a folder for each stage that measures."""
