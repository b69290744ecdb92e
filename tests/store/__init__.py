"""The adapter to B2, its retries and its secrets, over real sockets."""
