"""Small files of PyTorch's answers, so that parity is checked where PyTorch is not installed."""
