"""The page for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verify.report.made_up import failing, inconclusive, link, nodes, passing
from ws.verify.report.as_html import render
from ws.verify.report.visible import visible
from ws.verify.verdict import Cause, Check, Link, PictureNode, Report, ScenarioResult, Verdict

ANY_TEXT = st.text(st.characters(codec=None, categories=None))
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page taken apart: tags in order with their attributes, and the text of each `pre`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.evidence: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "pre":
            self.evidence.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["pre"]:
            self.evidence[-1] += data
        if "style" not in self.open:
            self.words.append(data)

    def with_tag(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(report: Report, **logs: str) -> Page:
    return Page(render(report, logs, ["config.yaml"]))


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (passing, "✓ Pass 7 of 7 checks passed; 81.3 s in all."),
        (failing, "✗ Fail 5 of 7 checks passed, 2 failed ; 81.3 s in all."),
        (inconclusive, "? Inconclusive 5 of 6 checks passed, 1 could not be observed ; 81.3 s in all."),
    ],
)
def test_the_verdict_comes_first(report: Callable[[], Report], words: str) -> None:
    assert words in page(report()).text


def test_causes_come_before_everything_else_each_once_with_its_mend() -> None:
    front, _, rest = page(failing()).text.partition("Scenarios")
    assert front.count("port 31049 (object manager) of test-ray-worker is refused") == 1
    assert "One port of a node's block is blocked" in front
    assert "Mend publish it: 172.17.0.1:31049:31049 under ports of" in front
    assert "Mend set shm_size in config.yaml" in front
    assert rest.count("port 31049 (object manager) of test-ray-worker is refused") == 2


def test_what_was_not_seen_is_named_up_front_where_nothing_failed() -> None:
    front, _, _ = page(inconclusive()).text.partition("Scenarios")
    assert "docker exec in test-ray-worker did not answer within 20 s" in front
    assert "Every node reaches every other It could not be observed. no check was made" in front


def test_what_did_not_pass_is_open_and_the_rest_is_closed() -> None:
    report = failing()
    states = ["open" in attributes for attributes in page(report).with_tag("details")]
    verdicts = [check.verdict for result in report.scenarios for check in result.checks]
    assert states == [verdict is not Verdict.PASS for verdict in verdicts]


def test_dead_links_are_named_in_words() -> None:
    text = page(failing()).text
    assert text.count("✗ dead no answer in 20 s") == 2
    assert (
        "ray-cpu → test-ray-worker: dead (connection refused at 172.17.0.1:31049); test-ray-worker → ray-cpu: 0.62 ms"
        in text
    )


def test_nothing_comes_from_elsewhere_and_nothing_is_a_script() -> None:
    html = render(failing(), {}, [])
    found = Page(html)
    assert found.with_tag("script") + found.with_tag("link") + found.with_tag("img") == []
    assert [name for _, attributes in found.tags for name in attributes if name.startswith("on")] == []
    assert "url(" not in html
    assert "@import" not in html
    assert set(re.findall(r"https?://[^\s\"<]+", html)) == {"http://www.w3.org/2000/svg"}


def test_links_within_the_page_lead_somewhere_and_logs_are_linked() -> None:
    found = page(failing(), **{"ray-cpu": "logs/ray-cpu.log"})
    targets = [str(attributes["href"]) for attributes in found.with_tag("a")]
    ids = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    assert {target[1:] for target in targets if target.startswith("#")} <= ids
    assert [target for target in targets if not target.startswith("#")] == [
        "report.json",
        "junit.xml",
        "config.yaml",
        "logs/ray-cpu.log",
    ]


def test_it_can_be_read_aloud() -> None:
    found = page(failing())
    assert found.with_tag("html") == [{"lang": "en"}]
    assert all("scope" in attributes for attributes in found.with_tag("th"))
    assert "role" in found.with_tag("svg")[0]
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(deeper - upper <= 1 for upper, deeper in pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_text_and_its_ground_differ_enough_in_light_and_dark() -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least."""
    light, dark = re.findall(r":root \{(.*?)\}", render(passing(), {}, []), re.DOTALL)
    for colours in (light, dark):
        values = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", colours))
        grounds = ["page", "card", "code", "network", "host", *(f"heat-{level}" for level in range(5))]
        pairs = [("text", ground) for ground in grounds]
        pairs += [
            (name, ground) for name in ("muted", "link", "pass", "fail", "inconclusive") for ground in ("page", "card")
        ]
        pairs += [("muted", "network"), ("muted", "host")]
        assert [pair for pair in pairs if contrast(values[pair[0]], values[pair[1]]) < 4.5] == []
        assert min(contrast("#ffffff", values[f"{verdict.value}-banner"]) for verdict in Verdict) >= 4.5


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_run_without_anything_is_a_page() -> None:
    assert "? Inconclusive No check was made" in page(Report(0.0)).text


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_any_text_survives_and_none_becomes_markup(evidence: str, words: str) -> None:
    found = page(full_of(evidence or "-", words))
    plain = page(full_of("-", "-"))
    assert found.evidence[-1] == visible(evidence or "-")
    assert [tag for tag, _ in found.tags if tag != "code"] == [tag for tag, _ in plain.tags if tag != "code"]
    assert [sorted(attributes) for tag, attributes in found.tags if tag != "code"] == [
        sorted(attributes) for tag, attributes in plain.tags if tag != "code"
    ]


def full_of(evidence: str, words: str) -> Report:
    """A run in which every text is one of the two."""
    check = Check(words, words, Verdict.FAIL, evidence, [Cause(words, words, words)])
    node = PictureNode(words, words, words, words, ("172.17.0.1:1",))
    return Report(
        0.0,
        [ScenarioResult(words, words, [check])],
        about={words: words},
        picture=[node, *nodes()],
        links=[Link(words, "ray-cpu", trouble=words), link("ray-cpu", "ray-gpu")],
    )
