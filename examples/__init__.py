"""Programs that use llm_gateway. Each runs by itself."""
