"""How anything is timed, judged and counted: shared by every timed stage."""
