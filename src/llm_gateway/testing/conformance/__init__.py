"""Conformance suites: one for each protocol that a consumer may implement. They need pytest and hypothesis.

Nothing here is imported by ``llm_gateway.testing`` itself.
"""
