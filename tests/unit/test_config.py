"""A bad configuration: file, line, path, and what would be right."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gateway.config import Config, read, validate
from gateway.policies import build_routes
from gateway.source import ConfigError, parse
from routers.registry import Registry

GOOD = """
models:
  - name: small
    backends: [http://127.0.0.1:8001/v1]
    price: {input: 0.05, output: 0.10}
routes:
  - name: auto
    models: [small]
"""

CASES = [
    ("models: []", "t.yaml:1: models: list should have at least 1 item after validation, not 0"),
    ("", "models: is required"),
    ("models: [", "not valid YAML"),
    ("models: &a [*a]", "an alias leads back to itself"),
    (GOOD + "rutes: 1\n", "t.yaml:9: rutes: unknown key, did you mean 'routes'?"),
    (GOOD.replace("price", "prize"), "t.yaml:5: models[0].prize: unknown key, did you mean 'price'?"),
    (GOOD.replace("models: [small]", "models: [smal]"), "t.yaml:8: routes[0].models[0]: no model named 'smal', did you mean 'small'?"),
    (GOOD.replace("http://127.0.0.1:8001/v1", "ftp://x"), "t.yaml:4: models[0].backends: 'ftp://x' is not a URL like http://host:8000/v1"),
    (GOOD.replace("name: auto", "name: small"), "t.yaml:7: routes[0].name: 'small' is already the name of a model"),
    (GOOD + "    default: large\n", "t.yaml:9: routes[0].default: 'large' is not among the route's models"),
    (GOOD + "    name: twice\n", "routes[0].name: is given twice"),
    (GOOD.replace("input: 0.05", "input: -1"), "t.yaml:5: models[0].price.input: input should be greater than or equal to 0"),
    (GOOD + "    policy: {scorers: [{type: knnn}]}\n", "t.yaml:9: routes[0].policy.scorers[0].type: no scorer named 'knnn'"),
    (GOOD + "    policy: {scorers: [{type: cost, wieght: 2}]}\n", "t.yaml:9: routes[0].policy.scorers[0].wieght: unknown parameter"),
    (GOOD + "    policy: {picker: {type: bets}}\n", "t.yaml:9: routes[0].policy.picker.type: no picker named 'bets', did you mean 'best'?"),
    (
        GOOD + "    policy: {scorers: [{type: rules, rules: [{when: {pattern: '('}, prefer: {small: 1}}]}]}\n",
        "routes[0].policy.scorers[0].rules[0].when.pattern: is no regular expression",
    ),
    (GOOD.replace("0.05", "'${NOT_SET}'"), "t.yaml:5: models[0].price.input: the environment variable NOT_SET is not set"),
    (GOOD + "auth: {}\n", "t.yaml:9: auth: needs `keys` or `jwt`"),
    (GOOD + "auth: {jwt: {jwks_url: 'x', issuer: i, audience: a}}\n", "t.yaml:9: auth.jwt.jwks_url: is not a URL like https://"),
    (GOOD + "redis: {url: 'http://:canary@x'}\n", "t.yaml:9: redis.url: a Redis URL starts with one of redis://"),
    (GOOD + "ledger: {redis: true}\n", "t.yaml:9: ledger.redis: needs a `redis` section"),
]


def load(text: str, environment: dict[str, str] | None = None) -> Config:
    source = parse(text, "t.yaml", environment or {})
    config = validate(source)
    build_routes(config, Registry(), source)
    return config


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[expected[:60] for _, expected in CASES])
def test_what_is_wrong_and_where(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert expected in "\n".join(caught.value.lines())


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(GOOD.replace("price", "prize") + "rutes: 1\n")
    assert len(caught.value.problems) == 2


def test_variables_come_from_the_environment() -> None:
    text = GOOD.replace("http://127.0.0.1:8001/v1", "'http://${HOST:-localhost}:8001/v1'").replace("0.05", "'${PRICE}'")
    text = text.replace("    price", "    api_key: ${KEY}\n    price")
    config = load(text, {"PRICE": "0.5", "KEY": "123"})
    assert config.models[0].backends == ["http://localhost:8001/v1"]
    assert config.models[0].price is not None
    assert config.models[0].price.input == 0.5
    assert config.models[0].api_key is not None
    assert "123" not in repr(config)


def test_variables_come_from_files_that_the_environment_names(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("  s3cret \n\n", encoding="utf-8")
    text = GOOD.replace("    price", "    api_key: ${KEY}\n    price")
    for environment, expected in (
        ({"KEY_FILE": str(secret)}, "  s3cret \n"),
        ({"KEY_FILE": str(secret), "KEY": "mine"}, "mine"),
        ({"KEY_FILE": str(secret), "KEY": ""}, "  s3cret \n"),
    ):
        key = validate(parse(text, "t.yaml", environment)).models[0].api_key
        assert key is not None
        assert key.get_secret_value() == expected
    secret.write_text("", encoding="utf-8")
    defaulted = validate(parse(text.replace("${KEY}", "${KEY:-none}"), "t.yaml", {"KEY_FILE": str(secret)})).models[0].api_key
    assert defaulted is not None
    assert defaulted.get_secret_value() == "none"
    secret.write_bytes(b"\xff s3cret")
    for path, why in ((secret, "is not UTF-8 (byte 0)"), (tmp_path / "nobody", "cannot be read: No such file or directory")):
        with pytest.raises(ConfigError) as caught:
            parse(text, "t.yaml", {"KEY_FILE": str(path)})
        assert caught.value.lines() == [f"t.yaml:5: models[0].api_key: KEY_FILE names {path}, which {why}"]


def test_the_hash_follows_what_the_file_says() -> None:
    assert load(GOOD).hash == load(GOOD).hash
    assert load(GOOD).hash != load(GOOD.replace("0.05", "0.06")).hash
    keyed = GOOD.replace("    price", "    api_key: ${KEY}\n    price")
    assert load(keyed, {"KEY": "a"}).hash != load(keyed, {"KEY": "b"}).hash


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "absent.yaml", {})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / "binary.yaml", {})
    good = tmp_path / "good.yaml"
    good.write_text(textwrap.dedent(GOOD))
    assert read(good, {}).routes[0].models == ["small"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "x.yaml:1: not valid YAML"),
        ("models:\n  - name: a\n b: c", "x.yaml:3: not valid YAML"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply, or an alias leads back to itself"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(text, "x.yaml", {})
