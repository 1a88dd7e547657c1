"""ffmpeg and ffprobe: nothing outside this package starts them."""
