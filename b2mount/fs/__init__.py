"""What each file operation means: tree, handles, attributes, policy applied."""
