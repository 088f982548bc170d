"""Makes `factory`, which lies next to the tests, importable however pytest was started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
