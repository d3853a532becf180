from pathlib import Path

import pytest

from serving import config_file
from serving.config_file import All, Latest, ModelSettings, Specific
from serving.errors import ModelConfigError

MODEL = 'name: "m" base_path: "/m"'
TYPE, PLATFORM = "ModelServerConfig::model_type", "ModelServerConfig::model_platform"


def parsed(fields):
    return config_file.parse(f"model_config_list {{ config {{ {fields} }} }}")


def test_settings_travel_as_text():
    settings = [
        ModelSettings("latest", Path("/a"), Latest(2)),
        ModelSettings("all", Path("/b"), All(), {"stable": 1}),
        ModelSettings("specific", Path("/c"), Specific(frozenset({1, 3}))),
    ]

    assert config_file.parse(config_file.to_text(settings)) == settings
    assert config_file.parse(config_file.to_text([])) == []


@pytest.mark.parametrize("platform", ['model_platform: "tensorflow"', "model_type: TENSORFLOW"])
def test_the_platform_is_said_in_one_of_two_ways(platform):
    assert parsed(f"{MODEL} {platform}") == [ModelSettings("m", Path("/m"))]


@pytest.mark.parametrize(
    ("platform", "text"),
    [
        ("", f"Illegal setting neither {TYPE} (deprecated) nor {PLATFORM}."),
        (
            'model_platform: "tensorflow" model_type: TENSORFLOW',
            f"Illegal setting both {TYPE} (deprecated) and {PLATFORM}.",
        ),
        ("model_type: OTHER", "ModelServerConfig::model_type choice 2 not supported."),
        ('model_platform: "other"', "model m is of platform 'other'; this server has 'tensorflow'"),
    ],
)
def test_other_platforms_are_refused(platform, text):
    with pytest.raises(ModelConfigError) as caught:
        parsed(f"{MODEL} {platform}")

    assert str(caught.value) == text
