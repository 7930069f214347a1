//! Honest programs of every kind are judged as the tests mean it: nothing that crosses between the interpreters loses its
//! type, and each way to fail has its own verdict.

use billion_eval::tasks::humaneval::{Limits, Verdict, judge};

use super::{alone, judged, problem, python};

#[test]
fn right_answers_of_every_type_pass() {
    let _turn = alone();
    let cases: &[(&str, &str, &str)] = &[
        (
            "tuple",
            "assert candidate(3) == (1, 2.5, None)",
            "return (1, 2.5, None)",
        ),
        (
            "tuple is no list",
            "assert candidate(0) != [1, 2]",
            "return (1, 2)",
        ),
        (
            "exact types",
            "assert [type(x) for x in candidate(0)] == [bool, int, float, complex, str, bytes, set, frozenset]",
            "return [True, 1, 1.0, 1j, '', b'', set(), frozenset()]",
        ),
        ("none", "assert candidate(0) is None", "pass"),
        (
            "bool",
            "assert candidate(1) is True and candidate(0) is False",
            "return n > 0",
        ),
        (
            "float digits",
            "assert candidate(3) == 0.1 + 0.2 and str(candidate(0)) == '0.0'",
            "return 0.1 * n if n != 3 else 0.1 + 0.2",
        ),
        (
            "negative zero",
            "assert str(candidate(0)) == '-0.0'",
            "return -0.0",
        ),
        (
            "infinities and nan",
            "a, b, c = candidate(0)\n    assert a == float('inf') and b == -a and c != c",
            "return float('inf'), float('-inf'), float('nan')",
        ),
        (
            "integers of any size",
            "assert candidate(2) == -(2 ** 70000) + 1",
            "return -(n ** 70000) + 1",
        ),
        (
            "integer widths",
            "assert [candidate(k) for k in range(29, 66)] == [2 ** k - 1 for k in range(29, 66)]",
            "return 2 ** n - 1",
        ),
        (
            "unicode",
            "assert candidate('\u{e9}\u{1f600}') == '\u{1f600}\u{e9}'",
            "return n[::-1]",
        ),
        (
            "nul and lone surrogate",
            "assert candidate(0) == '\\x00' + chr(0xd800) + chr(0xdc00)",
            "return '\\x00' + chr(0xd800) + chr(0xdc00)",
        ),
        (
            "bytes",
            "assert candidate(b'\\xff\\x00') == b'\\x00\\xff'",
            "return n[::-1]",
        ),
        (
            "keys of every type",
            "assert candidate(0) == {1: 'a', (1, 2): [3], None: {4}, 2.5: b'x', frozenset({1}): 0}",
            "return {1: 'a', (1, 2): [3], None: {4}, 2.5: b'x', frozenset({1}): 0}",
        ),
        (
            "order of keys",
            "assert list(candidate(0)) == ['b', 'a']",
            "return {'b': 1, 'a': 2}",
        ),
        (
            "arguments of every type",
            "x = [(1,), {2}, {3: b'4'}, None, 1e400, True, -2 ** 80]\n    assert candidate(x) == [type(v).__name__ for v in x]",
            "return [type(v).__name__ for v in n]",
        ),
        (
            "keyword arguments",
            "assert candidate(n=4) == 4",
            "return n",
        ),
        (
            "state between calls",
            "assert candidate(1) == 1\n    assert candidate(1) == 2",
            "global seen\n    seen = globals().get('seen', 0) + n\n    return seen",
        ),
        (
            "in place",
            "x = [3, 1, 2]\n    assert candidate(x) == [1, 2, 3]",
            "n.sort()\n    return n",
        ),
        (
            "generator consumed by tests",
            "assert tuple(candidate(3)) == (0, 1, 4) and list(candidate(2)) == [0, 1]",
            "for i in range(n):\n        yield i * i",
        ),
        (
            "map and zip",
            "assert list(candidate([1])) == [(1, '1')]",
            "return zip(n, map(str, n))",
        ),
        (
            "range",
            "assert candidate(3) == range(3) and list(candidate(2)) == [0, 1]",
            "return range(n)",
        ),
        (
            "views",
            "a, b, c = map(candidate, 'kvi')\n    assert a == {1, 2} and list(b) == [3, 3] and c == {(1, 3), (2, 3)}",
            "d = {1: 3, 2: 3}\n    return {'k': d.keys, 'v': d.values, 'i': d.items}[n]()",
        ),
        (
            "counter",
            "assert candidate('aab') == {'a': 2, 'b': 1}",
            "from collections import Counter\n    return Counter(n)",
        ),
        (
            "defaultdict within",
            "assert candidate(1) == [{'a': [1]}]",
            "import collections\n    d = collections.defaultdict(list)\n    d['a'].append(n)\n    return [d]",
        ),
        (
            "ordered dictionary",
            "assert candidate(1) == {'a': 1}",
            "from collections import OrderedDict\n    return OrderedDict(a=n)",
        ),
        (
            "named tuple",
            "assert candidate(1) == (1, 2)",
            "from collections import namedtuple\n    return namedtuple('P', 'x y')(1, 2)",
        ),
        (
            "typing's named tuple",
            "assert candidate(1) == (1, 2)",
            "from typing import NamedTuple\n    class P(NamedTuple):\n        x: int\n        y: int = 2\n    return P(n)",
        ),
        (
            "fraction and decimal",
            "assert candidate(0) == 0.5 and candidate(1) == 2.5",
            "from fractions import Fraction\n    from decimal import Decimal\n    return Decimal('2.5') if n else Fraction(1, 2)",
        ),
        (
            "library",
            "assert candidate('a1b22') == ['1', '22']",
            "import re, math, itertools, functools, heapq, bisect, string, random, datetime, json, hashlib, copy\n    return re.findall(r'\\d+', n)",
        ),
        (
            "expected exception",
            "try:\n        candidate(0)\n    except ZeroDivisionError as e:\n        assert 'by zero' in str(e)\n    else:\n        assert False",
            "return 1 // n",
        ),
        (
            "an exception of its own",
            "try:\n        candidate(0)\n    except Exception as e:\n        assert 'Odd' in str(e) and '7' in str(e)\n    else:\n        assert False",
            "class Odd(ValueError): pass\n    raise Odd(7)",
        ),
        (
            "printing",
            "assert candidate(3) == 3",
            "print('checking', n)\n    return n",
        ),
        (
            "recursion",
            "assert candidate(900) == 900",
            "return 0 if n == 0 else 1 + f(n - 1)",
        ),
        (
            "deeper recursion",
            "assert candidate(5000) == 5000",
            "import sys\n    sys.setrecursionlimit(10 ** 5)\n    return 0 if n == 0 else 1 + f(n - 1)",
        ),
        (
            "a short sleep",
            "assert candidate(1) == 1",
            "import time\n    t = time.monotonic()\n    time.sleep(0.5)\n    assert time.monotonic() - t >= 0.5\n    return n",
        ),
        (
            "wall clock stands still",
            "assert candidate(1) == 1",
            "import time\n    return int(time.time() == time.time()) and int(time.gmtime().tm_year == 2026)",
        ),
        (
            "dataclass",
            "assert candidate(1) == 1",
            "from dataclasses import dataclass\n    @dataclass\n    class P:\n        x: int\n    return P(n).x",
        ),
        (
            "another function called f",
            "assert candidate(1) == 2",
            "return 1\n\ndef f(n):\n    return n + 1",
        ),
        (
            "a line goes on at the end",
            "assert candidate(1) == 2",
            "return n + 1\n\nx = 1 \\",
        ),
        (
            "nested to depth 100",
            "x = []\n    for _ in range(100):\n        x = [x]\n    assert candidate(100) == x",
            "x = []\n    for _ in range(n):\n        x = [x]\n    return x",
        ),
        (
            "a million numbers",
            "assert candidate(500000) == list(range(500000))",
            "return list(range(n))",
        ),
        (
            "main guard",
            "assert candidate(1) == 1",
            "return 1\n\nif __name__ == '__main__':\n    raise SystemExit",
        ),
    ];
    for (name, check, body) in cases {
        let found = judged(&format!("    {check}\n"), &format!("    {body}\n"));
        assert_eq!(found.verdict, Verdict::Passed, "{name}: {found:?}");
    }
}

#[test]
fn every_way_to_fail_has_its_verdict_and_says_why() {
    let _turn = alone();
    let check = "    assert candidate(1) == 2\n    assert candidate(2) == 3\n";
    let cases: &[(&str, Verdict, &str)] = &[
        (
            "    return 2\n",
            Verdict::WrongAnswer,
            "assert candidate(2) == 3 (the last call returned 2)",
        ),
        ("    return '2'\n", Verdict::WrongAnswer, "returned '2'"),
        ("    return range(n)\n", Verdict::WrongAnswer, "range(0, 1)"),
        (
            "    return f\n",
            Verdict::WrongAnswer,
            "function, which is no plain value",
        ),
        ("    return ...\n", Verdict::WrongAnswer, "Ellipsis"),
        (
            "    x = []\n    x.append(x)\n    return x\n",
            Verdict::WrongAnswer,
            "nested too deep",
        ),
        (
            "    import itertools\n    return itertools.count()\n",
            Verdict::WrongAnswer,
            "iterator of 1000000",
        ),
        (
            "    import collections\n    return collections.deque([n])\n",
            Verdict::WrongAnswer,
            "deque",
        ),
        (
            "    return n.x\n",
            Verdict::Exception,
            "AttributeError: 'int' object has no attribute 'x'",
        ),
        (
            "    raise ValueError('\\x1b[2J\\n\\u00e9')\n",
            Verdict::Exception,
            "ValueError: [2J \u{e9}",
        ),
        ("    raise KeyError\n", Verdict::Exception, "KeyError"),
        (
            "    assert n < 0, 'odd'\n",
            Verdict::Exception,
            "AssertionError: odd",
        ),
        ("    return f(n)\n", Verdict::Exception, "RecursionError"),
        ("    return input()\n", Verdict::Exception, "EOFError"),
        (
            "    return 1\n\n1 / 0\n",
            Verdict::Exception,
            "ZeroDivisionError",
        ),
        (
            "    return 1\n\ndel f\n",
            Verdict::Exception,
            "NameError: name 'f' is not defined",
        ),
        (
            "    return 1 +\n",
            Verdict::SyntaxError,
            "line 3: invalid syntax",
        ),
        ("  return 1\n", Verdict::SyntaxError, "line 3: unindent"),
        (
            "    return '\n",
            Verdict::SyntaxError,
            "unterminated string",
        ),
        (
            "    \"\"\" left open\n",
            Verdict::SyntaxError,
            "unterminated triple-quoted",
        ),
        ("    return 1\0\n", Verdict::SyntaxError, "null bytes"),
        ("    return bytearray(10 ** 9)\n", Verdict::Memory, ""),
        ("    return [0] * 10 ** 9\n", Verdict::Memory, "MemoryError"),
        (
            "    return [0] * 10 ** 12\n",
            Verdict::Exception,
            "OverflowError",
        ),
        ("    exit(0)\n", Verdict::Exception, "exit"),
        ("    raise SystemExit(3)\n", Verdict::Exit, "SystemExit: 3"),
    ];
    for (completion, verdict, says) in cases {
        let found = judged(check, completion);
        assert_eq!(found.verdict, *verdict, "{completion:?}: {found:?}");
        assert!(found.detail.contains(says), "{completion:?}: {found:?}");
    }
    let tight = Limits {
        host_calls: 10_000,
        ..Limits::default()
    };
    let endless = "    import time\n    while True:\n        time.monotonic()\n";
    let found = judge(python(), &problem(check), endless, &tight).expect("a verdict");
    assert_eq!(found.verdict, Verdict::HostCalls, "{found:?}");
}

#[test]
fn verdicts_have_names_and_words_and_can_be_reproduced() {
    let _turn = alone();
    let mut names = std::collections::BTreeSet::new();
    for verdict in Verdict::ALL {
        let name = serde_json::to_string(&verdict).expect("a name");
        assert!(names.insert(name) && names.insert(verdict.words().to_owned()));
    }
    assert!(names.contains("\"wrong_answer\"") && names.contains("wrong answer"));
    // Random numbers and the order of sets are the same every time.
    let body = "    import random\n    return random.random(), list({'a', 'b', 'c', 'd', 'e'})\n";
    let first = judged("    assert candidate(1) == 0\n", body);
    assert!(first.detail.contains("returned (0."), "{first:?}");
    assert_eq!(
        judged("    assert candidate(1) == 0\n", body).detail,
        first.detail
    );
}
