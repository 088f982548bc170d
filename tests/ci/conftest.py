"""Makes what lies next to the tests importable however pytest was started, and the factory of the report's tests."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "report")]
