"""One forward pass and the way back over it: arrays in, arrays out."""
