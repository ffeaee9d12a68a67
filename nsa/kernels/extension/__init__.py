"""Extensions of CUDA C++: how a backend's own are built, described, examined and found."""
