"""What is written and not yet in B2: drafts, spool, uploader."""
