"""Runners on the machines of a Ray cluster; `server/serve.py` is the one caller, and only when a cluster is asked for.

| process       | what                                                                          | module     |
|---------------|-------------------------------------------------------------------------------|------------|
| the server    | a link to every agent, and handles that stand for their runners               | `launcher` |
| its Ray child | the Ray driver: which nodes there are, one agent on each; alone it loads Ray  | `driver`   |
| the agent     | on each node, a Ray actor: owns its runners and blobs, and has one listener   | `agent`    |

Ray finds machines and starts agents there. What is said afterwards goes over the agents' own connections: orders and
reports as lines of JSON (`wire`), and each call to a runner through a relay of its own to the engine's socket.
"""
