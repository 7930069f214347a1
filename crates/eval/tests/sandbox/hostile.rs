//! Hostile programs: none escapes, none passes, and each gets its verdict within its limit of two seconds.
//!
//! Every program here passes if what it tries works: one that reaches outside answers rightly only when it got there.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use billion_eval::tasks::humaneval::{Attempt, Verdict, judge_all};

use super::{alone, cores, problem, python, seconds};

const CHECK: &str = "    assert candidate(2) == 5\n    assert candidate(3) == 10\n    assert candidate(10) == 101\n";

const LIMIT_S: u64 = 2;

/// Beyond the limit: starting threads, and other tests and builds on the same cores.
const GRACE_S: u64 = 3;

/// Attempts that must not work, as expressions and statements: the function is right only if one of them did.
const ESCAPES: &[(&str, &str)] = &[
    ("reads a file", "open('/etc/passwd').read()"),
    ("reads a folder", "import os\n        os.listdir('/proc')"),
    (
        "lists the working folder",
        "import os\n        assert set(os.listdir('.')) - {'usr'}",
    ),
    (
        "writes a file",
        "open('/tmp/billion-escape', 'w').write('x')",
    ),
    (
        "writes beside itself",
        "open('billion-escape', 'w').write('x')",
    ),
    (
        "appends to its library",
        "import os\n        with open(os.__file__, 'a') as file:\n            file.write('x')",
    ),
    (
        "makes a folder",
        "import os\n        os.mkdir('/tmp/billion-escape')",
    ),
    (
        "links",
        "import os\n        os.symlink('/etc/passwd', '/usr/x')",
    ),
    (
        "opens by descriptor",
        "import os\n        for fd in range(3, 4000):\n            try:\n                os.fstat(fd)\n                break\n            except OSError:\n                pass\n        else:\n            raise OSError\n        os.write(fd, b'x')",
    ),
    ("walks up", "open('../../../../etc/hostname').read()"),
    (
        "makes a socket",
        "import socket\n        socket.socket().connect(('1.1.1.1', 80))",
    ),
    (
        "looks a name up",
        "import socket\n        socket.gethostbyname('localhost')",
    ),
    (
        "adopts a socket",
        "import socket\n        socket.socket(fileno=3).send(b'x')",
    ),
    (
        "fetches",
        "import urllib.request\n        urllib.request.urlopen('http://127.0.0.1:80/')",
    ),
    (
        "reads the environment",
        "import os\n        os.environ['PATH']",
    ),
    (
        "reads any environment",
        "import os\n        assert len(os.environ) > 0",
    ),
    ("forks", "import os\n        os.fork()"),
    (
        "runs a command",
        "import subprocess\n        subprocess.run(['/bin/true'], check=True)",
    ),
    (
        "runs a shell",
        "import os\n        assert os.system('true') == 0",
    ),
    (
        "loads a library",
        "import ctypes\n        ctypes.CDLL(None).getpid()",
    ),
    (
        "starts a thread",
        "import threading\n        threading.Thread(target=print).start()",
    ),
    (
        "starts a process",
        "import multiprocessing\n        multiprocessing.Process(target=print).start()",
    ),
    ("sets a signal", "import signal\n        signal.alarm(1)"),
    ("kills", "import os\n        os.kill(os.getppid(), 9)"),
    ("learns who it is", "import os\n        os.getuid()"),
    (
        "learns the time",
        "import time\n        assert abs(time.time() - 1767225600) > 1",
    ),
    ("reads /dev/urandom", "open('/dev/urandom', 'rb').read(1)"),
    (
        "finds the tests",
        "import gc\n        assert any('candidate(2) == 5' in x for x in gc.get_objects() if type(x) is str)",
    ),
    (
        "finds check",
        "import sys\n        g = sys._getframe(2).f_globals\n        assert 'check' in g or 'check' in sys._getframe(1).f_locals",
    ),
    (
        "finds a nonce",
        "import sys\n        frame, found = sys._getframe(), []\n        while frame:\n            found += [k for k in {**frame.f_locals, **frame.f_globals} if k in ('nonce', 'test', 'prompt', 'examine')]\n            frame = frame.f_back\n        assert found",
    ),
    (
        "finds a nonce in memory",
        "import gc, re\n        assert any(re.fullmatch('[0-9a-f]{32}', x.decode('latin-1') if type(x) is bytes else x) for o in gc.get_objects() for x in (gc.get_referents(o)) if type(x) in (str, bytes) and len(x) == 32)",
    ),
    (
        "reads its arguments",
        "import sys\n        assert any('candidate(2)' in a or 'def check' in a for a in sys.orig_argv)",
    ),
];

/// Whole completions, and the verdicts that are right for them.
const PROGRAMS: &[(&str, &str, &[Verdict])] = &[
    (
        "endless loop",
        "    while True:\n        pass\n",
        &[Verdict::Timeout],
    ),
    (
        "endless loop that catches all",
        "    while True:\n        try:\n            while True:\n                pass\n        except BaseException:\n            pass\n",
        &[Verdict::Timeout],
    ),
    (
        "endless loop in C",
        "    return sum(iter(int, 1))\n",
        &[Verdict::Timeout],
    ),
    (
        "endless loop when loaded",
        "    return n * n + 1\n\nwhile True:\n    pass\n",
        &[Verdict::Timeout],
    ),
    (
        "sleeps, then answers rightly",
        "    import time\n    time.sleep(1000)\n    return n * n + 1\n",
        &[Verdict::Timeout],
    ),
    (
        "sleeps in small steps",
        "    import time\n    for _ in range(100):\n        time.sleep(0.1)\n    return n * n + 1\n",
        &[Verdict::Timeout],
    ),
    (
        "sleeps by select",
        "    import select\n    select.select([], [], [], 1000)\n    return n * n + 1\n",
        &[Verdict::Timeout, Verdict::Exception],
    ),
    (
        "sleeps for ever",
        "    import time\n    time.sleep(2 ** 33)\n    return n * n + 1\n",
        &[Verdict::Timeout, Verdict::Exception],
    ),
    (
        "catastrophic expression",
        "    import re\n    re.match('(a+)+$', 'a' * 60 + 'b')\n    return n * n + 1\n",
        &[Verdict::Timeout],
    ),
    (
        "huge power",
        "    return 9 ** 9 ** 9\n",
        &[Verdict::Timeout, Verdict::Memory],
    ),
    (
        "huge answer",
        "    return 1 << 60000000\n",
        &[Verdict::Output],
    ),
    (
        "huge text",
        "    return 'x' * 50000000\n",
        &[Verdict::Output, Verdict::Memory],
    ),
    (
        "memory in a list",
        "    x = []\n    while True:\n        x.append(bytearray(1 << 20))\n",
        &[Verdict::Memory],
    ),
    (
        "memory caught",
        "    x = []\n    try:\n        while True:\n            x.append(bytearray(1 << 20))\n    except MemoryError:\n        pass\n    return n * n + 1\n",
        &[Verdict::Memory],
    ),
    (
        "memory in a text",
        "    x = 'x'\n    while True:\n        x += x\n",
        &[Verdict::Memory],
    ),
    (
        "memory in nested tuples",
        "    x = ()\n    while True:\n        x = (x, x, [n])\n",
        &[Verdict::Memory, Verdict::Timeout],
    ),
    (
        "prints without end",
        "    while True:\n        print('x' * 1000)\n",
        &[Verdict::Output],
    ),
    (
        "writes errors without end",
        "    import os\n    while True:\n        os.write(2, b'x' * 65536)\n",
        &[Verdict::Output],
    ),
    (
        "leaves",
        "    import sys\n    sys.exit(0)\n",
        &[Verdict::Exit],
    ),
    (
        "leaves at once",
        "    import os\n    os._exit(0)\n",
        &[Verdict::Exit],
    ),
    (
        "leaves when loaded",
        "    return n * n + 1\n\nraise SystemExit\n",
        &[Verdict::Exit],
    ),
    (
        "aborts",
        "    import os\n    os.abort()\n",
        &[Verdict::Crash],
    ),
    (
        "raises KeyboardInterrupt",
        "    raise KeyboardInterrupt\n",
        &[Verdict::Exception],
    ),
    (
        "raises a liar",
        "    class E(BaseException):\n        def __str__(self):\n            raise self\n    raise E\n",
        &[Verdict::Exception],
    ),
    (
        "raises AssertionError",
        "    raise AssertionError\n",
        &[Verdict::Exception],
    ),
    (
        "deep recursion in C",
        "    x = []\n    for _ in range(10 ** 5):\n        x = [x]\n    return repr(x)\n",
        &[Verdict::Exception, Verdict::StackOverflow],
    ),
    (
        "unlimited recursion",
        "    import sys\n    sys.setrecursionlimit(2 ** 31 - 1)\n    return f(n)\n",
        &[Verdict::Memory, Verdict::StackOverflow, Verdict::Timeout],
    ),
    (
        "recursion through sort",
        "    import sys\n    sys.setrecursionlimit(2 ** 31 - 1)\n    return sorted([n, n], key=f)\n",
        &[
            Verdict::Exception,
            Verdict::StackOverflow,
            Verdict::Timeout,
            Verdict::Memory,
        ],
    ),
    (
        "recursion through __eq__",
        "    import sys\n    sys.setrecursionlimit(2 ** 31 - 1)\n    class A:\n        def __eq__(self, o):\n            return self == o\n        def __getattr__(self, k):\n            return getattr(self, k + 'x')\n    A().a\n    return A() == A()\n",
        &[
            Verdict::Exception,
            Verdict::StackOverflow,
            Verdict::Timeout,
            Verdict::Memory,
        ],
    ),
    (
        "equals everything",
        "    class A:\n        def __eq__(self, o):\n            return True\n    return A()\n",
        &[Verdict::Tamper],
    ),
    (
        "equals everything, within",
        "    class A:\n        __eq__ = lambda s, o: True\n        __hash__ = lambda s: 0\n    return [A()]\n",
        &[Verdict::Tamper],
    ),
    (
        "int that lies",
        "    class A(int):\n        __eq__ = lambda s, o: True\n        __hash__ = int.__hash__\n    return A(0)\n",
        &[Verdict::Tamper],
    ),
    (
        "str that lies",
        "    class A(str):\n        __eq__ = lambda s, o: True\n    return A('')\n",
        &[Verdict::Tamper],
    ),
    (
        "list that lies",
        "    class A(list):\n        __eq__ = lambda s, o: True\n    return A()\n",
        &[Verdict::Tamper],
    ),
    (
        "dict that lies",
        "    class A(dict):\n        __eq__ = lambda s, o: True\n    return A()\n",
        &[Verdict::Tamper],
    ),
    (
        "float that lies",
        "    class A(float):\n        __eq__ = __le__ = __lt__ = __ge__ = lambda s, o: True\n    return A(0)\n",
        &[Verdict::Tamper],
    ),
    (
        "named tuple that lies",
        "    from collections import namedtuple\n    A = namedtuple('A', 'x')\n    A.__eq__ = lambda s, o: True\n    return A(1)\n",
        &[Verdict::WrongAnswer],
    ),
    (
        "class that pretends to be int",
        "    class A:\n        __class__ = int\n        __eq__ = lambda s, o: True\n    return A()\n",
        &[Verdict::Tamper],
    ),
    (
        "class that calls itself a library's",
        "    class A:\n        __module__ = 'collections'\n        __eq__ = lambda s, o: True\n    return A()\n",
        &[Verdict::WrongAnswer, Verdict::Tamper],
    ),
    (
        "replaces check by frames",
        "    import sys\n    frame = sys._getframe()\n    while frame:\n        for space in (frame.f_globals, frame.f_locals):\n            for k, v in list(space.items()):\n                if hasattr(v, '__code__'):\n                    try:\n                        v.__code__ = (lambda *a, **k: None).__code__\n                    except ValueError:\n                        pass\n        frame = frame.f_back\n",
        &[
            Verdict::WrongAnswer,
            Verdict::Exception,
            Verdict::Tamper,
            Verdict::Exit,
        ],
    ),
    (
        "defines check",
        "    return 0\n\ndef check(candidate):\n    pass\n",
        &[Verdict::WrongAnswer],
    ),
    (
        "decorates what follows",
        "    return 0\n\n@lambda g: lambda c: None\n",
        &[Verdict::SyntaxError],
    ),
    (
        "swallows what follows",
        "    return 0\n\ndef check(c): pass\n'''\n",
        &[Verdict::SyntaxError],
    ),
    (
        "patches builtins",
        "    return 0\n\nimport builtins\nbuiltins.AssertionError = type('E', (BaseException,), {})\nbuiltins.__build_class__ = builtins.exec = builtins.type = builtins.isinstance = lambda *a: True\nbuiltins.bool = lambda x: True\n",
        &[Verdict::WrongAnswer],
    ),
    (
        "patches marshal and os",
        "    return 0\n\nimport marshal, posix, json\nmarshal.dumps = lambda *a: b'T'\nposix.write = lambda *a: 0\njson.dumps = json.loads = lambda *a: 1\n",
        &[Verdict::WrongAnswer],
    ),
    (
        "replaces sys.modules",
        "    return 0\n\nimport sys\nsys.modules.clear()\n",
        &[Verdict::WrongAnswer, Verdict::Exception],
    ),
    (
        "replaces the input and output",
        "    return 0\n\nimport sys\nsys.stdin = sys.stdout = sys.stderr = sys.__stdout__ = None\n",
        &[Verdict::WrongAnswer],
    ),
    (
        "traces",
        "    return 0\n\nimport sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\n",
        &[Verdict::WrongAnswer],
    ),
    (
        "hooks",
        "    raise ValueError\n\nimport sys\nsys.excepthook = sys.unraisablehook = lambda *a: None\n",
        &[Verdict::Exception],
    ),
    (
        "at exit",
        "    sys.exit()\n\nimport atexit, sys, os\natexit.register(os.write, 0, b'VT')\n",
        &[Verdict::Exit, Verdict::Tamper],
    ),
    (
        "in a destructor",
        "    class A:\n        def __del__(self):\n            import os\n            os.write(0, b'DP')\n    A()\n    return 0\n",
        &[Verdict::Tamper],
    ),
    (
        "prints the marker",
        "    print('passed')\n    print('DP')\n    return 0\n",
        &[Verdict::WrongAnswer],
    ),
    (
        "writes a pass on the line",
        "    import os\n    os.write(0, b'D' + b'0' * 32 + b'P')\n    return 0\n",
        &[Verdict::Tamper],
    ),
    (
        "claims to be ready twice",
        "    return 0\n\nimport os\nos.write(0, b'R')\nos.write(0, b'R')\n",
        &[Verdict::Tamper],
    ),
    (
        "answers before it is asked",
        "    return 0\n\nimport os\nos.write(0, b'VT')\n",
        &[Verdict::Tamper],
    ),
    (
        "answers twice",
        "    import os\n    os.write(0, b'VF')\n    os.write(0, b'VF')\n",
        &[Verdict::Tamper, Verdict::WrongAnswer],
    ),
    (
        "forges a wrong answer",
        "    import os\n    os.write(0, b'VT')\n    return n * n + 1\n",
        &[Verdict::WrongAnswer, Verdict::Tamper],
    ),
    (
        "forges code",
        "    import os, marshal\n    os.write(0, b'V' + marshal.dumps(f.__code__))\n",
        &[Verdict::Tamper, Verdict::WrongAnswer],
    ),
    (
        "forges a reference",
        "    import os\n    os.write(0, b'Vr\\0\\0\\0\\0')\n",
        &[Verdict::Tamper],
    ),
    (
        "forges a size",
        "    import os\n    os.write(0, b'V[\\xff\\xff\\xff\\x7f')\n",
        &[Verdict::Tamper],
    ),
    (
        "forges an empty message",
        "    import os\n    os.write(0, b'')\n",
        &[Verdict::Tamper],
    ),
    (
        "forges an exception that ends A",
        "    import os\n    os.write(0, b'ESystemExit\\n0')\n    while True:\n        pass\n",
        &[Verdict::Exit],
    ),
    (
        "reads ahead",
        "    import os\n    return os.read(0, 100)\n",
        &[Verdict::Tamper],
    ),
    (
        "reads ahead when loaded",
        "    return 0\n\nimport os\nos.read(0, 100)\n",
        &[Verdict::Tamper],
    ),
    (
        "serves by itself, without answers",
        "    return 0\n\nimport os\nos.write(0, b'R')\nwhile True:\n    os.read(0, 4)\n",
        &[Verdict::Tamper],
    ),
    (
        "closes the line",
        "    import os\n    os.close(0)\n    os.close(1)\n    os.close(2)\n    return 0\n",
        &[Verdict::WrongAnswer, Verdict::Exit, Verdict::Tamper],
    ),
    (
        "a decimal that takes for ever",
        "    from decimal import Decimal\n    return Decimal('1e99999999')\n",
        &[Verdict::WrongAnswer, Verdict::Timeout, Verdict::Memory],
    ),
    (
        "colliding keys",
        "    return {i * (2 ** 31 - 1): 0 for i in range(20000)}\n",
        &[Verdict::WrongAnswer, Verdict::Timeout],
    ),
    (
        "a generator without end",
        "    while True:\n        yield n\n",
        &[Verdict::WrongAnswer, Verdict::Timeout],
    ),
    (
        "a generator that hangs",
        "    yield 1\n    while True:\n        pass\n",
        &[Verdict::Timeout],
    ),
    (
        "changes the argument's type",
        "    class A:\n        __eq__ = lambda s, o: True\n    n = A()\n    return n\n",
        &[Verdict::Tamper],
    ),
    (
        "collects garbage from frames",
        "    import gc\n    for o in gc.get_objects():\n        if type(o) is dict:\n            for k in list(o):\n                if k in ('say', 'encoded', 'write'):\n                    o[k] = lambda *a: 1\n    return 0\n",
        &[
            Verdict::WrongAnswer,
            Verdict::Exception,
            Verdict::Tamper,
            Verdict::Exit,
        ],
    ),
    (
        "deep code",
        "    return 0\n\nx = eval('(' * 5000 + ')' * 5000)\n",
        &[
            Verdict::Exception,
            Verdict::SyntaxError,
            Verdict::Memory,
            Verdict::StackOverflow,
        ],
    ),
    (
        "deep constant",
        concat!(
            "    return ",
            "-------------------------------------------------------------------------------------------------------------------------------------------------------------------------------------------1\n"
        ),
        &[Verdict::WrongAnswer],
    ),
    (
        "crashes the interpreter",
        "    code = (lambda: 0).__code__.replace(co_code=b'\\xff' * 100)\n    exec(code)\n    return 0\n",
        &[
            Verdict::WrongAnswer,
            Verdict::Exception,
            Verdict::Crash,
            Verdict::StackOverflow,
            Verdict::Exit,
            Verdict::Timeout,
        ],
    ),
    (
        "writes memory by bytecode",
        "    code = (lambda: 0).__code__.replace(co_code=bytes([100, 255]) * 8 + bytes([83, 0]), co_consts=())\n    exec(code)\n    return 0\n",
        &[
            Verdict::WrongAnswer,
            Verdict::Exception,
            Verdict::Crash,
            Verdict::StackOverflow,
            Verdict::Exit,
            Verdict::Timeout,
            Verdict::Tamper,
            Verdict::Memory,
        ],
    ),
];

#[test]
fn no_hostile_program_escapes_or_passes_and_each_is_judged_in_time() {
    let _turn = alone();
    let problem = problem(CHECK);
    let escapes: Vec<String> = ESCAPES
        .iter()
        .map(|(_, attempt)| {
            format!(
                "    try:\n        {attempt}\n    except BaseException:\n        return 'refused'\n    return n * n + 1\n"
            )
        })
        .collect();
    let escaping = ESCAPES.iter().zip(&escapes);
    let cases: Vec<(&str, &str, &[Verdict])> = escaping
        .map(|((name, _), completion)| (*name, completion.as_str(), &[Verdict::WrongAnswer][..]))
        .chain(PROGRAMS.iter().copied())
        .collect();
    assert!(cases.len() >= 100, "{} programs", cases.len());
    let attempts: Vec<Attempt<'_>> = cases
        .iter()
        .map(|&(_, completion, _)| Attempt {
            problem: &problem,
            completion,
        })
        .collect();
    let start = Instant::now();
    let mut on_event = |_| ControlFlow::Continue(());
    let limits = seconds(LIMIT_S);
    let judged = judge_all(python(), &attempts, &limits, cores(), &mut on_event);
    let judged = judged.expect("every program gets a verdict");
    println!(
        "{} hostile programs: {:.1} s",
        cases.len(),
        start.elapsed().as_secs_f64()
    );
    let mut wrong = Vec::new();
    for ((name, _, verdicts), judgement) in cases.iter().zip(&judged) {
        if judgement.verdict == Verdict::Passed {
            wrong.push(format!("{name} passed"));
        }
        // What a program sleeps is counted, not waited for.
        let slept = name.starts_with("sleeps");
        if !slept && judgement.seconds > (LIMIT_S + GRACE_S) as f64 {
            wrong.push(format!("{name}: {judgement:?}"));
        }
        if !verdicts.contains(&judgement.verdict) {
            wrong.push(format!("{name}: {judgement:?}, not {verdicts:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for path in ["/tmp/billion-escape", "billion-escape"] {
        assert!(!std::path::Path::new(path).exists(), "{path}");
    }
    let most = Duration::from_secs((LIMIT_S + GRACE_S) * cases.len() as u64);
    assert!(start.elapsed() < most);
}

#[test]
fn a_right_program_passes_the_hostile_suites_tests() {
    let _turn = alone();
    let problem = problem(CHECK);
    for completion in [
        "    return n * n + 1\n",
        "    try:\n        1 / 0\n    except BaseException:\n        return n * n + 1\n",
    ] {
        let attempt = Attempt {
            problem: &problem,
            completion,
        };
        let mut on_event = |_| ControlFlow::Continue(());
        let judged = judge_all(python(), &[attempt], &seconds(LIMIT_S), 1, &mut on_event);
        assert_eq!(judged.expect("judged")[0].verdict, Verdict::Passed);
    }
}
