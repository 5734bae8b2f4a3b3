"""How the loss of training falls with its operations, over networks of several sizes."""
