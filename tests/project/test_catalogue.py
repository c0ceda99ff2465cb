from __future__ import annotations

import pytest

from recipes.project import catalogue


def test_every_word_has_to_be_there() -> None:
    assert [entry.name for entry in catalogue.search(("DEMO",))] == ["demo"]
    assert not list(catalogue.search(("demo", "fedora")))
    assert {entry.name for entry in catalogue.search(())} == set(catalogue.images())


def test_an_image_comes_with_the_files_that_it_names() -> None:
    ((path, source),) = catalogue.files("demo").items()
    assert path == "demo/demo.qcow2"
    assert source.is_file()
    assert catalogue.files("debian-12") == {}
    with pytest.raises(KeyError):
        catalogue.block("no-such-image")


def test_the_head_explains_the_keys() -> None:
    head = catalogue.head()
    assert head.startswith("# [images.NAME]")
    assert all(line.startswith("#") for line in head.split("\n"))
    assert "checksums" in head


def test_the_schema_is_the_one_of_images_toml() -> None:
    assert catalogue.schema().is_file()
    assert catalogue.schema().name == catalogue.SCHEMA
