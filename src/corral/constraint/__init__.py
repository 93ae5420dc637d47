"""What an answer must match: formats, tools and thinking budgets as the engine's grammars. `inference/` calls it.

checks, compiling                      what a client may ask for: one door each for formats, tools, whole grammars
schema, keywords, references, objects  JSON schemas, read into shapes
patterns, charsets, formats, numbers   regular expressions of strings and numbers
shapes, meeting, finishing             values of a schema: joined, closed, possible
jsonrules, lark, gbnf, engineschema    the texts of grammars
gbnfcheck, trial, compiler             whether the engine will take them
fields                                 all of it as members of the engine's requests
"""
