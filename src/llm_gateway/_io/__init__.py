"""The one file that talks HTTP."""
