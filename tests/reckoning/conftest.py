"""The product under test, with one sandbox."""

from collections.abc import Iterator

import pytest
from reckoning.product import Product, product


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with product(tmp_path_factory.mktemp("reckoning")) as made:
        yield made
