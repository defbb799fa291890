"""``python -m recorder`` is the console script ``recorder``."""

from recorder.cli import main

raise SystemExit(main())
