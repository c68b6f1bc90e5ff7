"""Parts that an API of long work needs beside FastAPI: problem documents, tasks as resources."""
