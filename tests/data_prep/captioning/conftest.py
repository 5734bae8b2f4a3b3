from collections.abc import Iterator

import pytest
from avgen_data_prep.captioning.captioner import CaptionRequest
from caption_clips import make_request
from caption_server import ChatServer


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running


@pytest.fixture(scope="session")
def request_of_two_knocks() -> CaptionRequest:
    return make_request()
