"""What training a model takes: operations, memory of a GPU, hours and money, from shapes and dated data sheets."""
