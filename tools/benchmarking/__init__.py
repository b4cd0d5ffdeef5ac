"""What tools/benchmark.py measures (one module a kind), how, and its report."""
