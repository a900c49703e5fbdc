"""Nothing that is loaded can run code: no pickle, and compiled models only by the loader that verifies them."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for root in ("ros2_ws/src/resip/resip", "training/resip_training", "launch")
    for path in (REPOSITORY / root).rglob("*.py")
)
TREES = {str(path.relative_to(REPOSITORY)): ast.parse(path.read_text()) for path in SOURCES}

#: Modules that bring objects, and so code, back from bytes.
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
#: Names the error of torch's restricted reader.
NAMES_PICKLES_ERROR = {"training/resip_training/models/resnet.py"}
#: The loader that verifies the manifest, the GPU's half of it, and the controllers that a Polymetis server is sent.
LOADS_PROGRAMS = {
    "ros2_ws/src/resip/resip/policy/artefact.py",
    "ros2_ws/src/resip/resip/policy/cuda.py",
    "ros2_ws/src/resip/resip/polymetis/archives.py",
}


def calls(tree):
    """Calls by their dotted name, such as ``torch.jit.load``."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def imported(tree):
    """Top-level names of the modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def test_nothing_imports_pickle_or_its_kin():
    assert {file for file, tree in TREES.items() if FORBIDDEN & set(imported(tree))} == NAMES_PICKLES_ERROR
    for file in NAMES_PICKLES_ERROR:
        used = {ast.unparse(node) for node in ast.walk(TREES[file]) if isinstance(node, ast.Attribute)}
        assert {name for name in used if name.startswith("pickle.")} == {"pickle.UnpicklingError"}


@pytest.mark.parametrize(
    ("function", "argument", "wanted"), [("torch.load", "weights_only", True), ("np.load", "allow_pickle", False)]
)
def test_loaders_that_could_unpickle_are_told_not_to(function, argument, wanted):
    default = {"torch.load": None, "np.load": False}[function]  # torch's depends on its version
    found = 0
    for file, tree in TREES.items():
        for name, call in calls(tree):
            if name == function:
                given = {
                    keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == argument
                }
                assert given.get(argument, default) is wanted, f"{file}:{call.lineno}"
                found += 1
    assert found, "the calls that this test is about have another name now"


def test_compiled_models_are_loaded_in_one_place():
    loaders = {"torch.jit.load", "torch.export.load", "torch.package.PackageImporter"}
    assert {file for file, tree in TREES.items() if loaders & {name for name, _ in calls(tree)}} == LOADS_PROGRAMS
