"""One Triton kernel over the selected blocks, split over their tokens where few rows would leave a GPU idle."""
