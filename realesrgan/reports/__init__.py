"""Reports of runs: `reporter.Reporter` collects events and writes them as JSON or as a page."""
