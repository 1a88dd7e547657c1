"""Reports of runs: `reporter.Reporter` listens to events and writes them as JSON or as a page."""
