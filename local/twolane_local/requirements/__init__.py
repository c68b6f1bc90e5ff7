"""What a function's code needs beside itself: an interpreter, and what its requirements name."""
