"""Selected-attention backends: the contract they share, the registry that names them, one folder for each."""
