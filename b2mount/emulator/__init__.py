"""A strict local server of Backblaze B2's native API: a program of its own that shares no code with the
client.
"""
