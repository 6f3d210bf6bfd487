"""The small arena: methods compared on a slice of CIFAR-10 at an equal budget."""
