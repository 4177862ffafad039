import time
from tests.supervisor.faults.test_idle import *
TR = """
import tracemalloc, gc
tracemalloc.start(12)
snaps=[]
def dump(*_):
    gc.collect()
    snaps.append(tracemalloc.take_snapshot())
    if len(snaps)>1:
        flt=[tracemalloc.Filter(False,tracemalloc.__file__)]
        d=snaps[-1].filter_traces(flt).compare_to(snaps[-2].filter_traces(flt),'traceback')
        with open(os.path.join(os.environ["PERCORE_HOME"],"diff"),"w") as f:
            for s in sorted(d,key=lambda s:-s.count_diff)[:8]:
                f.write(f"{s.count_diff} {s.size_diff}\\n"+"\\n".join(s.traceback.format()[-8:])+"\\n")
    open(os.path.join(os.environ["PERCORE_HOME"],"done%d"%len(snaps)),"w").close()
signal.signal(signal.SIGRTMIN, dump)
"""
@pytest.mark.parametrize("what", ["restarts", "reloads"])
def test_grow(supervisor, what):
    (supervisor.folder / "quick.py").write_text(
        "import os, socket\nsock = socket.socket()\nsock.bind(('0.0.0.0', int(os.environ['PORT'])))\nsock.listen()\n"
        "while True: sock.accept()[0].close()\n"
    )
    app = supervisor.api(script="quick.py", interpreter="python3", interpreter_args=["-I", "-S"], instances=1, min_uptime=0.0, listen_timeout=3.0)
    daemon = start_daemon(supervisor, TR)
    supervisor.apply(app if what == "reloads" else supervisor.singleton(args=["exec sleep 1000"], min_uptime=0.0))
    n=150 if what=="restarts" else 40
    for r in range(2):
        ask(supervisor, n, op=what[:-1], selector="all"); time.sleep(8)
        os.kill(daemon.pid, signal.SIGRTMIN); wait_for((supervisor.home/f"done{r+1}").exists,"x",60)
    print((supervisor.home/"diff").read_text())
