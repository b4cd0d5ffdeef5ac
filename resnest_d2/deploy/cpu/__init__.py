"""Faster operations on CPUs: Winograd convolution, multi-threaded RoIAlign, memory allocation."""
