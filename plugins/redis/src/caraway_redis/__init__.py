"""Redis and Valkey for Caraway: broker and results, on Celery's wire."""
