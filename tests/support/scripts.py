"""Job scripts in a real bash, with small scripts in place of the programs that they call."""

from support.processes import run_python

_EXEC = "import os, sys; os.execvp('bash', ['bash', *sys.argv[1:]])"
# Ends with the next word of the file `codes`. At "asked" it asks its parent to stop, as a scheduler does, and is told.
PROGRAM = """#!/bin/bash
trap 'echo saved; exit 75' TERM
echo "program $*"
code=$(head -n 1 codes)
sed -i 1d codes
if [ "$code" = asked ]; then
  kill -TERM $PPID
  for _ in {1..100}; do /bin/sleep 0.1; done
fi
exit $code
"""
NOTHING = "#!/bin/bash\n"


def run_script(text, folder, programs, codes=(), environ=None):
    """Runs a script in a folder; returns its `Ended`.

    Args:
        text: the script.
        folder: its working folder.
        programs: name → text of a program.
        codes: what `PROGRAM` ends with, one run after another.
        environ: environment variables.
    """
    found = folder / "programs"
    found.mkdir()
    for name, source in programs.items():
        (found / name).write_text(source)
        (found / name).chmod(0o755)
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    script = folder / "script.sh"
    script.write_text(text)
    variables = {"PATH": f"{found}:/usr/bin:/bin", **(environ or {})}
    return run_python("-c", _EXEC, script, environ=variables, folder=folder, deadline_seconds=30)
