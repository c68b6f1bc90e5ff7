"""The runner itself: what is right passes, what is wrong is told with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .blocks import read
from .runner import Runner

if TYPE_CHECKING:
    from pathlib import Path

RIGHT = """\
```python
number = 1
```

```sh
GREETING=hello
greet() { echo "$GREETING $1"; }
```

```python
assert number == 1
from app.tasks import celery  # the copy's handlers are on the path
```

```sh
test "$(greet you)" = "hello you"
test -f template.yaml
```

<!-- file: made/inner.py -->
```python
value = 2
```

<!-- file: made/outer.py -->
```python
from inner import value
assert value == 2
```

```sh
grep -q "value = 2" made/inner.py
```
"""
TEST = """\
```python
import pytest

@pytest.mark.parametrize("one", [1])
def test_one(one):
    assert one == 1
```
"""
QUEUE = """\
```yaml
Resources:
  Work: {Type: AWS::Lambda::Function, Properties: {Handler: a.b, Runtime: python3.13}}
  Jobs: {Type: AWS::SQS::Queue}
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Work
      EventSourceArn: !GetAtt Jobs.Arn
      BatchSize: 1
```
"""


def run(folder: Path, text: str) -> None:
    page = folder / "page.md"
    page.write_text(text)
    Runner(folder).run(read(page))


def test_what_is_right_passes(tmp_path: Path) -> None:
    run(tmp_path, RIGHT)


@pytest.mark.slow
def test_a_test_is_run_by_pytest(tmp_path: Path) -> None:
    (tmp_path / "right").mkdir()
    run(tmp_path / "right", TEST)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(AssertionError, match="assert 1 == 2"):
        run(tmp_path / "wrong", TEST.replace("== 1", "== 2"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n```sh\ntrue\nfalse\ntrue\n```\n", r"page\.md:3 ended with 1"),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", r'"page\.md", line 6'),
        ("```python\nimport warnings\nwarnings.warn('old')\n```\n", "UserWarning: old"),
        ("<!-- file: a.py -->\n```python\nraise ValueError('at import')\n```\n", "at import"),
        (QUEUE, r"page\.md:2: twolane lint finds \{'TL105'\}"),
        (f"<!-- breaks: TL101 -->\n{QUEUE}", "TL105"),
    ],
    ids=["sh", "python", "warning", "file", "template", "another-rule"],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        run(tmp_path, text)


def test_a_template_may_break_the_rule_that_it_shows(tmp_path: Path) -> None:
    run(tmp_path, f"<!-- breaks: TL105 -->\n{QUEUE}")


@pytest.mark.parametrize(("language", "text"), [("json", "{"), ("toml", "a ="), ("yaml", "a: [")])
def test_data_must_parse(tmp_path: Path, language: str, text: str) -> None:
    with pytest.raises(Exception, match=r"(?i)expect|invalid|pars"):
        run(tmp_path, f"```{language}\n{text}\n```\n")
