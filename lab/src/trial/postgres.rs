//! PostgreSQL: pgbench with 8 clients; afterwards its books balance, hold every transaction that it was told was committed, and
//! every index and page is sound.

use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::events::{Contents, Events};
use super::site::{Site, finish};
use super::{Moment, Trial};
use crate::counter::ping::{Gap, unix_ms};
use crate::error::{Context, LabError};

const CLIENTS: &str = "8";
/// The container that pgbench runs in.
const BENCH_NAME: &str = "trial-pgbench";
/// How long pgbench may take until its clients are connected.
const PATIENCE: Duration = Duration::from_secs(120);
/// One line: the sums of the books, and how many transactions they hold.
const BOOKS: &str = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), \
    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history), \
    (SELECT count(*) FROM pgbench_history)";
/// pgbench until it is told to end, and then its log: a line for each transaction. `SIGALRM` is how it hears from its own clock
/// that its time is over.
const BENCH: &str = "cd /tmp\npgbench -h \"$0\" -U postgres -n -c \"$1\" -j 2 -T 86400 -l --log-prefix=t postgres &\n\
    trap \"kill -ALRM $!\" ALRM\nwait $!; code=$?\n\
    while kill -0 $! 2>/dev/null; do wait $!; code=$?; done\n\
    [ $code -eq 0 ] && cat t.*";
/// How long pgbench may take to end: its clients finish the transactions that they are in.
const ENDING: Duration = Duration::from_secs(120);
/// Debian keeps most of PostgreSQL's programs here.
const AMCHECK: &str = "/usr/lib/postgresql/17/bin/pg_amcheck";

pub(super) struct Postgres<'a> {
    site: Site<'a>,
    /// How long pgbench runs at least.
    time: Duration,
    bench: Option<Bench>,
    committed: u64,
}

/// pgbench under way.
struct Bench {
    /// What it prints, once it has ended.
    said: Receiver<Result<String, LabError>>,
    /// When it was seen to commit.
    from: Instant,
    from_unix_ms: u64,
}

impl<'a> Postgres<'a> {
    /// With a pgbench that runs as long as its service is moved, and for `time` at least.
    pub(super) fn new(site: Site<'a>, time: Duration) -> Self {
        Self { site, time, bench: None, committed: 0 }
    }

    fn address(&self) -> String {
        self.site.endpoint().ip().to_string()
    }

    /// A query's answer, asked in the container itself.
    fn ask(&self, host: &str, query: &str) -> Result<String, LabError> {
        let psql = ["psql", "-h", "/tmp", "-U", "postgres", "-X", "-A", "-t", "-F", " ", "-c", query];
        self.site.inside(host, "asking PostgreSQL", &psql).map(|said| said.trim().to_owned())
    }
}

/// pgbench committed nothing.
fn broken_off(said: Result<String, LabError>) -> LabError {
    let why = said.map_or_else(|error| error.to_string(), |_| "it committed nothing".to_owned());
    LabError::Trial { what: "starting pgbench".to_owned(), why }
}

fn ending(why: &str) -> LabError {
    LabError::Trial { what: "ending pgbench".to_owned(), why: why.to_owned() }
}

impl Trial for Postgres<'_> {
    fn prepare(&mut self, _host: &str) -> Result<(), LabError> {
        let address = self.address();
        let init = ["pgbench", "-h", &address, "-U", "postgres", "-i", "-q", "-s", "1", "postgres"];
        let child = self
            .site
            .client(BENCH_NAME, &init)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start pgbench")?;
        finish("pgbench -i", child).map(drop)
    }

    fn begin(&mut self) -> Result<(), LabError> {
        let address = self.address();
        let child = self
            .site
            .client(BENCH_NAME, &["sh", "-c", BENCH, &address, CLIENTS])?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start pgbench")?;
        let (ended, said) = mpsc::channel();
        std::thread::spawn(move || ended.send(finish("pgbench", child)));
        let begun = Instant::now();
        // It is under way when transactions are being committed.
        while begun.elapsed() < PATIENCE {
            let committed = self.ask("edge-a", "SELECT count(*) FROM pgbench_history")?;
            if committed.parse::<u64>().is_ok_and(|count| count > 8) {
                self.bench = Some(Bench { said, from: Instant::now(), from_unix_ms: unix_ms() });
                return Ok(());
            }
            match said.recv_timeout(Duration::from_millis(200)) {
                Err(RecvTimeoutError::Timeout) => {}
                early => return Err(broken_off(early.unwrap_or_else(|_| Ok(String::new())))),
            }
        }
        self.site.signal_client(BENCH_NAME, "KILL")?;
        Err(broken_off(said.recv_timeout(ENDING).unwrap_or_else(|_| Ok(String::new()))))
    }

    /// Tells pgbench that its time is over, once it had the least that it is to have.
    fn end(&mut self) -> Result<Events, LabError> {
        let Some(Bench { said, from, from_unix_ms }) = self.bench.take() else {
            return Ok(Events::default());
        };
        let mut ended = said.recv_timeout(self.time.saturating_sub(from.elapsed()));
        for (signal, time) in [("ALRM", ENDING), ("KILL", ENDING)] {
            if matches!(ended, Err(RecvTimeoutError::Timeout)) {
                self.site.signal_client(BENCH_NAME, signal)?;
                ended = said.recv_timeout(time);
            }
        }
        let said = ended.unwrap_or_else(|error| Err(ending(&error.to_string())))?;
        let mut events = read(&said);
        events.from_unix_ms = from_unix_ms;
        self.committed = events.answered.len() as u64;
        Ok(events)
    }

    fn compare(&mut self, host: &str, _moment: Moment) -> Result<Contents, LabError> {
        let mut contents = Contents::of("transactions");
        let books = self.ask(host, BOOKS)?;
        let (sums, count) = books.rsplit_once(' ').unwrap_or_default();
        let sums: Vec<&str> = sums.split(' ').collect();
        let balanced = sums.len() == 4 && sums.iter().all(|sum| *sum == sums[0]);
        contents.compare(balanced, || format!("the books do not balance: {books}"));
        let count: u64 = count.parse().unwrap_or_default();
        contents.expected += self.committed;
        contents.good += self.committed.min(count);
        if count != self.committed {
            contents
                .faults
                .push(format!("{} transactions were committed, the books hold {count}", self.committed));
        }
        let check =
            [AMCHECK, "-h", "/tmp", "-U", "postgres", "--install-missing", "--heapallindexed", "postgres"];
        let checked = self.site.inside(host, "checking tables and indexes", &check);
        contents.compare(checked.is_ok(), || format!("pg_amcheck: {checked:?}"));
        Ok(contents)
    }
}

/// Reads what pgbench printed and logged: `client number microseconds script seconds microseconds` for each transaction.
fn read(said: &str) -> Events {
    let mut events = Events::default();
    for line in said.lines() {
        if let Some(count) = line.strip_prefix("number of failed transactions: ") {
            let count: u64 = count.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(1);
            (0..count).for_each(|_| events.failure("a transaction failed"));
        } else if let Some((took_us, ended_us)) = transaction(line) {
            events.answered.push(ended_us / 1000);
            events.to_unix_ms = events.to_unix_ms.max(ended_us / 1000);
            events.silences.push(Gap {
                at_unix_ms: (ended_us - took_us.min(ended_us)) / 1000,
                ms: took_us as f64 / 1e3,
            });
        } else if line.contains("aborted") || line.contains("error:") {
            events.failure(line);
        }
    }
    events
}

/// How long a transaction took and when it ended, in µs; since 1970.
fn transaction(line: &str) -> Option<(u64, u64)> {
    let words: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[_, _, took_us, _, seconds, us, ..] = words.as_slice() else { return None };
    Some((took_us, seconds * 1_000_000 + us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbenchs_log_is_read_transaction_by_transaction() {
        let said = "pgbench (17.0)\nnumber of transactions actually processed: 2\nnumber of failed transactions: 1 (0.100%)\n\
                    0 199 2241 0 1175850568 995598\n3 200 1500000 0 1175850570 995598\nclient 3 aborted in command 4\n";
        let events = read(said);
        assert_eq!(events.answered, [1_175_850_568_995, 1_175_850_570_995]);
        assert_eq!((events.failed.len(), events.to_unix_ms), (2, 1_175_850_570_995));
        assert!((events.silence_between(1_175_850_569_600, 1_175_850_569_700) - 1500.0).abs() < 1e-6);
    }
}
