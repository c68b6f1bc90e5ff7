from django.core.cache.backends.locmem import LocMemCache

closed = []


class Counted(LocMemCache):
    def close(self, **kwargs):
        closed.append(1)
