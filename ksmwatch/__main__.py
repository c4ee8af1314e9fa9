"""``python -m ksmwatch``."""

import sys

from ksmwatch.cli import main

sys.exit(main())
