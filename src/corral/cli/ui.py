"""`corral ui`: the page of the server, in the user's browser."""

from __future__ import annotations

import webbrowser

from corral.cli.context import Context

_IN_TERMINALS = frozenset({"www-browser", "links", "elinks", "lynx", "w3m"})  # they run no scripts


def open_page(context: Context) -> None:
    """Say where the page is, and open it where there is a browser for it."""
    url = f"{context.settings.host.url}/ui"
    context.console.print(url)
    if context.settings.api_keys:
        context.console.note("The server asks for a key: the page will, too, and keep it in the browser.")
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if getattr(browser, "name", "") not in _IN_TERMINALS:
        browser.open(url)
