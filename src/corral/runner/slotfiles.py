"""What a runner is given to write to: its own directory, and two files for slots. Blocking; used by handle.py."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import BinaryIO

from corral.runner.kvfile import make_copy_file, make_part
from corral.runner.spec import LaunchOptions

_LOG = logging.getLogger(__name__)


class SlotFiles:
    """What one runner writes to; removed when it is gone, but for what was saved."""

    def __init__(self) -> None:
        self._copy: BinaryIO | None = None

    def make(self, options: LaunchOptions) -> LaunchOptions:
        """The options with what could be made. Raises OSError when the runner's own directory could not."""
        options.dir.mkdir(0o700, parents=True)
        if options.kv_part is None or options.kv_dir is None:
            return options
        try:
            make_part(options.kv_part)
            name, self._copy = make_copy_file(options.kv_dir)
        except OSError as error:
            _LOG.warning("this runner's conversations cannot be saved: %s", error.strerror)
            return replace(options, kv_dir=None)
        return replace(options, kv_copy=name)

    def remove(self, options: LaunchOptions) -> None:
        """The runner is gone."""
        shutil.rmtree(options.dir, ignore_errors=True)
        if self._copy is not None and options.kv_dir is not None:
            (options.kv_dir / options.kv_copy).unlink(missing_ok=True)
            self._copy.close()
