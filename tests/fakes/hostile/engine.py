"""An external engine that attacks; started through a script with a shebang line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from attacks import attack  # type: ignore[import-not-found]

attack(json.loads(os.environ["HOSTILE"]))
