"""A client that takes a platform through a whole trading day in a minute: ``manage.py demo``."""
