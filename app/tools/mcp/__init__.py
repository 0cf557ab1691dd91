"""Tools of MCP servers. One process a machine, the relay, talks to them; every worker talks to the relay.

So a server is started and connected once, however many workers there are, and the library, which takes 57 MB, is loaded once.
"""
