import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from task_app import create_app

app = create_app()
celery = app.extensions["celery"]
