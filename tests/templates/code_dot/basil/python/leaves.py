LEAVES = "basil"
