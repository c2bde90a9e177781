"""How the cells run fast: one package a target, the same file and function names in each."""
