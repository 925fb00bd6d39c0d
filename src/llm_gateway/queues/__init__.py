"""Queue backends."""
