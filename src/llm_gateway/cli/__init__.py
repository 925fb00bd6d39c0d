"""The command ``llm-gateway``: workers, and what an operator does with the queue."""
