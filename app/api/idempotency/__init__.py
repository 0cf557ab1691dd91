"""Idempotency keys on every POST: a request is run once, whoever asks how often.

`request` reads the key and the request, `execution` runs it apart from its connection and keeps what it answers, `executions`
are all of a process with their leases and the look-out for dead owners, `replay` answers from the store, and `middleware`
puts them before the routes.
"""
