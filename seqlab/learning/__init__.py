"""Networks in training: how far they learn, and what their gradients do meanwhile."""
