"""Ask language models where a stale answer is worse than a late one."""
