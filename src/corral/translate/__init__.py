"""Files of Ollama's library in layouts of its own, written anew as llama.cpp expects them.

Pure: a header in, a plan out, and `write`, which carries it out from one file to another. No store, no engine.

    layout = recognize(header)            # None: llama.cpp's own layout, nothing to do
    plan = layout.text_plan()             # what the text model's file will be, to the byte
    write(header.path, plan, target)      # a tensor at a time

`RULES_VERSION` is raised whenever a rule changes what is written.
"""

from corral.translate.layout import Layout, recognize
from corral.translate.recipes import Recipe
from corral.translate.translation import Translation
from corral.translate.writing import write

RULES_VERSION = 1

__all__ = ["RULES_VERSION", "Layout", "Recipe", "Translation", "recognize", "write"]
