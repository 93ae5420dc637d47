"""What an answer must match: formats, tools and thinking budgets as the engine's grammars. Pure; `inference/` calls it.

checks, schema   what a client may ask for
lark, gbnf       the texts of grammars
fields           all of it as members of the engine's requests
"""
