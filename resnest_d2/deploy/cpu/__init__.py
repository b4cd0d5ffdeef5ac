"""Faster operations on CPUs: Winograd convolution, RoIAlign on all threads, the allocator."""
