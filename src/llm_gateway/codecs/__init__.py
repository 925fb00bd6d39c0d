"""Codecs that seal what the queue stores."""
