"""The verbs of the b2mount command: words in, words out."""
