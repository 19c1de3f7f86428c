"""Images out of a trained generator, and how good they are."""
