"""Selection of batches from candidates: features, Gram matrices, transforms and rules."""
