"""Works of an ordinary user: a child process becomes the user, does the work, and asks its parent for what only root can do.

No account is made and no configuration is changed: the user is one that every Debian has, whom nothing belongs to.
"""
import json, os, pwd, signal, socket, traceback

from mounts import Fail

USER = pwd.getpwnam(os.environ.get("PLYWOOD_BENCH_USER", "nobody"))


def give(*paths):
    """makes files and directories, with all that is in them, the user's"""
    for path in paths:
        os.chown(path, USER.pw_uid, USER.pw_gid, follow_symlinks=False)
        for at, dirs, files in os.walk(path):
            for name in dirs + files:
                os.chown(f"{at}/{name}", USER.pw_uid, USER.pw_gid, follow_symlinks=False)


def as_user(env, work, result):
    """runs work() as the user; returns what result() says then, and a Fail if the work failed in any way"""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        child(env, theirs, work, result)
    theirs.close()
    asked = ours.makefile("r")
    try:
        while True:
            line = asked.readline()
            if not line:
                raise Fail("the user's process ended")
            what, argument = json.loads(line)
            if what == "drop":
                env.drop()
                answer = None
            elif what == "fresh":
                answer = env.fresh(argument)
                give(answer)
            else:
                failed, said = argument
                return said, Fail(failed) if failed else None
            ours.sendall(json.dumps(answer).encode() + b"\n")
    finally:
        ours.close()
        for kill in (os.killpg, os.kill):  # its children as well, once it leads a group
            try:
                kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.waitpid(pid, 0)


def child(env, theirs, work, result):
    """the user's side; never returns"""
    failed = None
    try:
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.setgroups([])
        os.setresgid(*[USER.pw_gid] * 3)
        os.setresuid(*[USER.pw_uid] * 3)
        os.environ.update(HOME="/nonexistent", USER=USER.pw_name, LOGNAME=USER.pw_name)
        answers = theirs.makefile("r")

        def ask(what, argument=None):
            theirs.sendall(json.dumps([what, argument]).encode() + b"\n")
            return json.loads(answers.readline())

        env.drop = lambda: ask("drop")
        env.fresh = lambda root=None: ask("fresh", root)
        work()
    except BaseException as ex:
        failed = str(ex) if isinstance(ex, Fail) else traceback.format_exception_only(ex)[-1].strip()
    try:
        theirs.sendall(json.dumps(["end", [failed, result()]]).encode() + b"\n")
        signal.pause()  # until the parent has read it
    finally:
        os._exit(0)
