//! Starting and commanding the process that the tests look at.

#![expect(dead_code, reason = "no test file uses all of it")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The program that gets descriptors.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_mose-write-protect");

/// A process that does what it is told; ended when dropped.
pub(crate) struct Puppet {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Puppet {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mose-pages-puppet"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut puppet = Self { child, input, output };
        assert_eq!(puppet.tell("pid"), puppet.pid().to_string());
        puppet
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives a command and does not wait for the answer.
    pub(crate) fn order(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// The answer to an earlier command.
    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn tell(&mut self, command: &str) -> String {
        self.order(command);
        self.answer()
    }

    pub(crate) fn number(&mut self, command: &str) -> u64 {
        let answer = self.tell(command);
        answer.parse().unwrap_or_else(|_| panic!("`{command}` gave `{answer}`"))
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The numbers in an answer; other words are left out.
pub(crate) fn fields(answer: &str) -> Vec<i64> {
    answer.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
