"""Helpers that several test files import: clips, pictures, networks, servers, stand-ins."""
