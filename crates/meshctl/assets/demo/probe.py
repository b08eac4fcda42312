"""Says what this Python offers, as one JSON object: run by the demo to choose one."""

import importlib.util
import json
import os
import sys
import sysconfig

number = "{}.{}".format(*sys.version_info)
# Triton runs its Python models in a process that loads this library; a Python may have been built or packaged without.
library = "libpython{}.so.1.0".format(number)
folder = sysconfig.get_config_var("LIBDIR") or ""
folders = [
    folder,
    os.path.join(folder, sysconfig.get_config_var("MULTIARCH") or ""),
    os.path.join(sys.base_prefix, "lib"),
    os.path.join(sys.base_prefix, "lib64"),
]
found = [folder for folder in folders if os.path.exists(os.path.join(folder, library))]


def has(module):
    return importlib.util.find_spec(module) is not None


print(
    json.dumps(
        {
            "executable": sys.executable,
            "version": list(sys.version_info[:2]),
            "library": library,
            "library_folder": found[0] if found else None,
            "venv": has("venv") and has("ensurepip"),
            "pip": has("pip"),
        }
    )
)
