"""RabbitMQ for Caraway: broker, and results over reply queues, on Celery's wire."""
