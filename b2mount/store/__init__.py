"""The seam to B2: a Protocol, and the one adapter that knows b2sdk."""
