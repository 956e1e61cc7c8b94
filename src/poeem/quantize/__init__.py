"""The index as a layer: quantizers, warm start, rotation. The only core on torch."""
