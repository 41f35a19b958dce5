"""Run scripts one after another in this process and print what each of them printed, as JSON by file.

One process for each framework, since importing it takes longer than the scripts do.
"""

import contextlib
import io
import json
import runpy
import sys
import traceback


def main(files: list[str]) -> None:
    printed = {}
    for file in files:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                runpy.run_path(file)
            except BaseException:  # what it printed is judged, whatever became of it
                print(traceback.format_exc())
        printed[file] = out.getvalue()
    json.dump(printed, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
