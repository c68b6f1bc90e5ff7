import saucer

NAME = f"cup on a {saucer.NAME}"
