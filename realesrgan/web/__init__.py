"""The web service and its page: `python -m realesrgan.web` (extra `web`)."""
