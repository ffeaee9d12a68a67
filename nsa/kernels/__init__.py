"""Selected-attention backends: the contract they share, the registry that loads them, one folder for each."""
