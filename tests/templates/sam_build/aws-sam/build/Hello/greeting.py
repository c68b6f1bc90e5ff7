TEXT = "from the build"
