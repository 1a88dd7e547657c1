"""Judge results: figures and findings (`checks`), pictures to look at (`comparison`)."""
