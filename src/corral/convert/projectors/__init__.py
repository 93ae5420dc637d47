"""The eyes of the families that have some, a module a kind of encoder. Families name theirs."""
