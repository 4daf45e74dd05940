//! What the host does meanwhile: a shell script in a process group and a directory of its own.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::group::Group;

/// Two loops of the shell: nothing is new after the start.
const LOOPS: &str = "while :; do :; done & while :; do :; done & wait\n";

/// A C program, and a Python program where there is Python.
const PAIR: &str = "\
cc -O2 -g pair.c -o pair -lm && ./pair &
command -v python3 >/dev/null && python3 pair.py &
wait
";
const PAIR_C: &str = "\
#include <math.h>
__attribute__((noinline)) static double waves(int n) { double s = 0; for (int i = 0; i < n; i++) s += sin(i) * i; return s; }
__attribute__((noinline)) static double roots(int n) { double s = 0; for (int i = 0; i < n; i++) s += sqrt(i + s); return s; }
__attribute__((noinline)) static double turn(int n) { return waves(n) + roots(2 * n); }
int main(void) { volatile double s = 0; for (;;) s += turn(20000); }
";
const PAIR_PY: &str = "\
import json, re
def squares(n): return sum(i * i for i in range(n))
def written(n): return len(json.dumps([{'a': i, 'b': str(i)} for i in range(n)]))
def matched(): return len(re.findall(r'[a-z]+[0-9]', 'abc1 def2 ' * 2000))
while True: squares(20000), written(3000), matched()
";

/// Programs that nobody has seen before: each is compiled, works for 0.2 s of CPU time, and is thrown
/// away, no more than three of them a second. With the compiler's parts that is about twenty processes.
const CHURN: &str = "\
i=0
while :; do
  i=$((i + 1))
  sleep 0.33 &
  cat >p$i.c <<END
#include <stdio.h>
#include <time.h>
__attribute__((noinline)) static double work$i(long n) { double s = 0; for (long i = 0; i < n; i++) s += i * (double)$i / 3; return s; }
int main(void) { double s = 0; while (clock() < CLOCKS_PER_SEC / 5) s += work$i(100000); printf(\"%f\\n\", s); }
END
  cc -O1 -g p$i.c -o p$i && ./p$i >/dev/null
  rm -f p$i p$i.c
  wait
done
";

/// The kinds of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Loops,
    Pair,
    Churn,
    /// As [`Kind::Churn`], with waiting threads and page faults beside CPU time.
    Events,
    /// As [`Kind::Pair`]; the profiles go over the network, through a durable queue.
    Delivery,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Loops, Self::Pair, Self::Churn, Self::Events, Self::Delivery];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loops => "loops",
            Self::Pair => "pair",
            Self::Churn => "churn",
            Self::Events => "events",
            Self::Delivery => "delivery",
        }
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What is sampled.
    pub(crate) fn events(self) -> &'static str {
        match self {
            Self::Events => "[cpu, off_cpu, page_faults]",
            _ => "[cpu]",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Loops => LOOPS,
            Self::Pair | Self::Delivery => PAIR,
            Self::Churn | Self::Events => CHURN,
        }
    }

    /// What it needs and this machine does not have.
    pub(crate) fn lacks(self) -> Option<&'static str> {
        let needs: &[&str] = match self {
            Self::Loops => &[],
            Self::Pair | Self::Delivery => &["cc", "python3"],
            Self::Churn | Self::Events => &["cc"],
        };
        needs.iter().copied().find(|program| !is_there(program))
    }
}

fn is_there(program: &str) -> bool {
    let mut ask = Command::new(program);
    ask.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

/// A running load.
pub(crate) struct Load {
    group: Group,
    /// Where it works; removed after it.
    _home: TempDir,
}

impl Load {
    /// Starts one that ends by itself after so many seconds.
    pub(crate) fn start(kind: Kind, seconds: u64) -> Self {
        let home = tempfile::Builder::new().prefix("profpipe-soak-load-").tempdir().unwrap();
        fs::write(home.path().join("pair.c"), PAIR_C).unwrap();
        fs::write(home.path().join("pair.py"), PAIR_PY).unwrap();
        let command = ["sh", "-c", kind.script()];
        let group = Group::start(&command, home.path(), Stdio::null(), seconds);
        Self { group, _home: home }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.group.is_running()
    }
}
