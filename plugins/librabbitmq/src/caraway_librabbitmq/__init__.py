"""URLs and settings of librabbitmq, on the transport of caraway-amqp."""
