"""The serializer keeps the contract of serializers."""

from caraway.testing.conformance import SerializerSuite


class TestShelfSerializer(SerializerSuite):
    factory = "caraway_shelf.serializer:ShelfSerializer"
