"""A strict local server of the B2 native API; shares no code with the client."""
