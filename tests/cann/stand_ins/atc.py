"""A stand-in for ``atc``: notes how it was called, then behaves as $STAND_IN_ATC says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
Path(os.environ["STAND_IN_RECORD"]).write_text(
    json.dumps({"argv": sys.argv, "cwd": os.getcwd(), "pid": os.getpid()})
)
does = os.environ.get("STAND_IN_ATC", "succeed")
print("ATC start working now, please wait for a moment...", flush=True)
if does == "hang":
    # A compiler of the compiler, which outlives it unless the whole group is ended.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ["STAND_IN_RECORD"] + ".child").write_text(str(child.pid))
    if os.environ.get("STAND_IN_DEAF"):
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
elif does == "fail":
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    print(os.environ["STAND_IN_SAYS"])
    sys.exit(255)
elif does == "crash":
    os.abort()
elif does == "flood":
    sys.stdout.write("x" * 50_000_000)
    for i in range(20_000):
        print(f"line {i}")
    sys.exit(1)
elif does == "detach":
    # A child in a session of its own keeps the pipe open after the compiler has ended.
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], start_new_session=True)
if does in ("succeed", "detach"):
    Path(arguments["output"] + ".om").write_bytes(Path(arguments["model"]).read_bytes())
    Path("fusion_result.json").write_text("[]")
    print("ATC run success, welcome to the next use.")
