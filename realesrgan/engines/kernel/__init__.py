"""The kernel of the winograd engine: its source, what compiles it, and what loads it."""
