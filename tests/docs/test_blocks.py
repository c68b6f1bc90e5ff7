"""How blocks and their markers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .blocks import read

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """\
# A page

```python
x = 1
```

<!-- emulator -->
<!-- not run: wants an account -->
```sh
aws s3 ls
```

<!-- file: a.py -->

```text
it is not directly before the fence
```

1. A list

   ```yaml
   a:
     b: 1
   ```
"""


def test_blocks_with_their_lines_and_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    python, shell, text, yaml = read(page)
    assert (python.language, python.text, python.where) == ("python", "x = 1\n", "page.md:4")
    assert python.markers == {}
    assert shell.markers == {"emulator": "", "not run": "wants an account"}
    assert text.markers == {}
    assert yaml.text == "a:\n  b: 1\n"


def test_a_block_without_an_end_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nls\n")
    with pytest.raises(AssertionError, match=r"page\.md:1: the block has no end"):
        read(page)
