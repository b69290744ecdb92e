"""What may still be believed: listings and blocks."""
