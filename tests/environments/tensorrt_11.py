"""Make the bindings of TensorRT 11 importable where the libraries below them are not to be had; run by `make`.

The bindings are the real ones, with every class, method, enumeration and signature. Below them lie empty
libraries, whose factories return nothing: so `tensorrt.Builder(logger)` fails as it does without a GPU.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

_LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
# What the bindings look up at import, which is before anything can be asked of them.
_FUNCTIONS = ("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
              "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getPluginRegistry",
              "getBuilderPluginRegistry", "getNvOnnxParserVersion", "initLibNvInferPlugins")
# The package of this name comes with the libraries, and holds no more than this.
_PACKAGE = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"


def main() -> None:
    """Write libraries and package into the environment of the interpreter that runs this."""
    packages = Path(sysconfig.get_paths()["platlib"])
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("TensorRT 11's bindings need three empty libraries below them: install a C compiler")
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS)
    for name in _LIBRARIES:
        subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{name}", "-o",
                        str(packages / "tensorrt_bindings" / name)], input=source, text=True, check=True)
    package = packages / "tensorrt"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text(_PACKAGE)


if __name__ == "__main__":
    main()
