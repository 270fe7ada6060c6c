"""From candidates to a batch: Gram access, transforms, selection."""
