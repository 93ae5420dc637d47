"""Wire shapes of the three APIs (msgspec): field names, defaults, what is left out when empty. No HTTP, no work."""
