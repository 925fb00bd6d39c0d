"""Public doubles, conformance suites and the simulated provider."""
