from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.discovery import find_classes, find_objects, import_room
from core.errors import DiscoveryError, RouteError, SettingError
from core.router import Router

Package = Callable[[dict[str, str]], str]

ROUTER = """
from core.router import Router
async def handler(): ...
router = Router()
router.on("{}", handler)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Makes a package of a new name from the files given."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"app_{uuid.uuid4().hex}"

    def make(files: dict[str, str]) -> str:
        for path, text in {"__init__.py": "", **files}.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return name

    yield make
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[module]


def find_routers(package: str) -> list[Router]:
    return find_objects(package, "routers", "router", Router)


def _patterns(package: str) -> list[str]:
    return [route.pattern.text for router in find_routers(package) for route in router.routes]


def test_routers_are_found_in_sub_packages_too_with_or_without_init(package: Package) -> None:
    name = package(
        {
            "routers/__init__.py": ROUTER.format("top"),
            "routers/a.py": ROUTER.format("a"),
            "routers/deep/__init__.py": "",
            "routers/deep/b.py": ROUTER.format("b"),
            "routers/bare/c.py": ROUTER.format("c"),
            "routers/__pycache__/d.py": "raise AssertionError",
            "routers/.hidden/e.py": "raise AssertionError",
        }
    )
    assert _patterns(name) == ["top", "a", "c", "b"]


def test_a_room_may_be_a_single_file_or_lack_an_init(package: Package) -> None:
    assert _patterns(package({"routers.py": ROUTER.format("single")})) == ["single"]


def test_a_room_may_lack_an_init(package: Package) -> None:
    assert _patterns(package({"routers/a.py": ROUTER.format("a")})) == ["a"]


def test_a_router_that_others_import_is_found_once(package: Package) -> None:
    name = package({"routers/a.py": ROUTER.format("a")})
    package({"routers/b.py": f"from {name}.routers.a import router", "routers/c.py": "router = None"})
    assert _patterns(name) == ["a"]


def test_a_room_that_does_not_exist_is_empty(package: Package) -> None:
    assert find_routers(package({})) == []


@pytest.mark.parametrize("name", ["no_such_package", "no_such.package", "core.clock.nothing", "../app", "a b", ""])
def test_a_package_that_does_not_exist_names_the_setting_and_the_remedy(name: str) -> None:
    with pytest.raises(SettingError) as refused:
        find_routers(name)
    assert f"APP_PACKAGE={name!r}" in str(refused.value)
    assert str(Path.cwd()) in str(refused.value)


def test_classes_are_those_defined_in_the_room(package: Package) -> None:
    name = package(
        {
            "jobs/a.py": "from types import SimpleNamespace\n"
            "class A(SimpleNamespace): ...\nAlias = A\nclass Other: ...",
        }
    )
    package({"jobs/b.py": f"from {name}.jobs.a import A\nclass B(A): ..."})
    assert [each.__name__ for each in find_classes(name, "jobs", SimpleNamespace)] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\nimport no_such_library", 2, "ModuleNotFoundError: No module named 'no_such_library'"),
        ("from core.router import Rooter", 1, "ImportError: cannot import name 'Rooter'"),
        ("\n\nvalue = (", 3, "SyntaxError"),
        ("def load():\n    import json\n    json.loads('{')\nload()", 3, "JSONDecodeError"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("from core.job import Job\n\nclass A(Job):\n    execution = 'thread'", 3, "'auto' and 'process'. "),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(
    package: Package, text: str, line: int, said: str
) -> None:
    name = package({"routers/broken.py": text})
    with pytest.raises(DiscoveryError) as refused:
        find_routers(name)
    assert f"{name}/routers/broken.py:{line}: " in str(refused.value)
    assert said in str(refused.value)
    assert refused.value.__cause__ is not None


def test_a_broken_package_is_not_taken_for_a_missing_one(package: Package) -> None:
    name = package({"__init__.py": "import no_such_library", "routers/a.py": ""})
    with pytest.raises(DiscoveryError, match=r"__init__.py:1: ModuleNotFoundError"):
        find_routers(name)


def test_a_refused_route_is_told_as_it_is(package: Package) -> None:
    name = package({"routers/a.py": ROUTER.format("{device-id}")})
    with pytest.raises(RouteError, match=r"routers/a.py:5: pattern '{device-id}'"):
        find_routers(name)


def test_a_room_is_imported_in_the_order_of_its_files(package: Package) -> None:
    name = package({"models/b.py": "", "models/a.py": "", "models/__init__.py": ""})
    modules = [module.__name__ for module in import_room(name, "models")]
    assert modules == [f"{name}.models", f"{name}.models.a", f"{name}.models.b"]


def test_a_router_under_another_name_is_told_of(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    name = package(
        {"routers/doors.py": ROUTER.format("a").replace("router =", "routes =").replace("router.on", "routes.on")}
    )
    assert find_routers(name) == []
    assert "doors.py is not used: its Router is called 'routes'; call it 'router'" in caplog.text
