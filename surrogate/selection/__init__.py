"""Selection of batches out of candidates: features, Gram matrices, transforms, rules."""
