"""The one suite that every implementation of the seam to B2 passes."""
