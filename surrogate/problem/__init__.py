"""What is to be learned: parameters and priors, targets and what they answer, datasets."""
