"""The HTTP server: routes, bodies, streams, errors, guards. Started by `cli` through `serve.serve`."""
