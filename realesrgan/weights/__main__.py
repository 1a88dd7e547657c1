"""`python -m realesrgan.weights` lists the models and where their weights would come from, or downloads them."""
import sys

from .loading import main

if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
