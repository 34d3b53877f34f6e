"""Side by side with Postfix: `python -m benchmarks.run`, see `make bench`."""
