//! SQLite: clients have rows written and read back; afterwards the database is sound by its own check, and every row that was
//! acknowledged is there. A second process reads it all the while.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::crowd::{Crowd, Failure, Member, Rhythm, connect, text_of};
use super::events::{Contents, Events};
use super::site::Site;
use super::{Moment, Trial};
use crate::error::LabError;

const CLIENTS: u32 = 4;
/// Requests per second of each.
const RATE: u32 = 50;
/// Bytes of a row's text.
const TEXT: usize = 400;
/// No line of the ledger is longer.
const MAX_LINE: u64 = 64 << 10;

pub(super) struct Sqlite<'a> {
    site: Site<'a>,
    crowd: Option<Crowd<u64>>,
    /// How many rows each client was told were kept.
    kept: Vec<u64>,
}

impl<'a> Sqlite<'a> {
    pub(super) fn new(site: Site<'a>) -> Self {
        Self { site, crowd: None, kept: Vec::new() }
    }
}

impl Trial for Sqlite<'_> {
    fn begin(&mut self) -> Result<(), LabError> {
        self.crowd = Some(Crowd::start(&self.site, CLIENTS, write_and_read)?);
        Ok(())
    }

    fn end(&mut self) -> Result<Events, LabError> {
        let Some(crowd) = self.crowd.take() else { return Ok(Events::default()) };
        let (events, kept) = crowd.stop()?;
        self.kept = kept;
        Ok(events)
    }

    fn compare(&mut self, host: &str, _moment: Moment) -> Result<Contents, LabError> {
        let mut contents = Contents::of("rows");
        let endpoint = self.site.endpoint();
        let reader = self.site.among_clients(|| {
            let mut stream = BufReader::new(connect(endpoint)?);
            Ok::<_, LabError>(ask(&mut stream, "reader"))
        })??;
        contents.compare(matches!(&reader, Ok(said) if said == "ok reader"), || {
            format!("the reader: {reader:?}")
        });
        let ledger = ["python3", "/usr/lib/ledger.py", "dump", "/data/ledger.db"];
        let dump = self.site.inside(host, "reading the ledger", &ledger)?;
        compare_dump(&dump, &self.kept, &mut contents);
        Ok(contents)
    }
}

fn owner(client: u32) -> String {
    format!("client-{client}")
}

/// Has a row written and an earlier one read; as many rows as were acknowledged.
fn write_and_read(member: &mut Member) -> u64 {
    let Ok(stream) = member.stream.try_clone() else { return 0 };
    let mut stream = BufReader::new(stream);
    let owner = owner(member.number);
    let mut rhythm = Rhythm::per_second(RATE);
    let mut kept = 0;
    while member.goes_on() {
        let put = format!("put {owner} {kept} {}", text_of(&owner, kept, TEXT));
        let sent = Instant::now();
        if !member.judge(sent, expect(&mut stream, &put, &format!("ok {kept}"))) {
            break;
        }
        kept += 1;
        rhythm.wait();
        let (number, sent) = (kept / 2, Instant::now());
        if number < kept {
            let expected = format!("row {}", text_of(&owner, number, TEXT));
            if !member.judge(sent, expect(&mut stream, &format!("get {owner} {number}"), &expected)) {
                break;
            }
        }
        rhythm.wait();
    }
    kept
}

fn compare_dump(dump: &str, kept: &[u64], contents: &mut Contents) {
    let mut lines = dump.lines();
    let integrity = lines.next().unwrap_or_default();
    contents.compare(integrity == "integrity ok", || format!("SQLite's integrity check: {integrity}"));
    let mut rows: Vec<&str> = lines.collect();
    rows.sort_unstable();
    for (client, &count) in kept.iter().enumerate() {
        let owner = owner(client as u32);
        for number in 0..count {
            let row = format!("{owner} {number} {}", text_of(&owner, number, TEXT));
            contents.compare(rows.binary_search(&row.as_str()).is_ok(), || {
                format!("row {number} of {owner} is not what was written")
            });
        }
    }
}

fn ask(stream: &mut BufReader<TcpStream>, line: &str) -> Result<String, Failure> {
    stream.get_mut().write_all(format!("{line}\n").as_bytes())?;
    let mut said = String::new();
    if stream.take(MAX_LINE).read_line(&mut said)? == 0 {
        return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(said.trim_end().to_owned())
}

fn expect(stream: &mut BufReader<TcpStream>, line: &str, expected: &str) -> Result<(), Failure> {
    let said = ask(stream, line)?;
    if said == expected {
        return Ok(());
    }
    let short = |text: &str| text.chars().take(60).collect::<String>();
    Err(Failure::Wrong(format!("`{}` was answered with `{}`", short(line), short(&said))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missing_changed_or_not_sound_is_found() {
        let row = |number: u64| format!("client-0 {number} {}\n", text_of("client-0", number, TEXT));
        let compared = |dump: &str| {
            let mut contents = Contents::of("rows");
            compare_dump(dump, &[2], &mut contents);
            contents
        };
        let good = format!("integrity ok\n{}{}", row(0), row(1));
        assert!(compared(&good).whole());
        assert_eq!(compared(&good).expected, 3);
        assert!(!compared(&good.replace("integrity ok", "integrity row 3 missing from index")).whole());
        assert!(!compared(&format!("integrity ok\n{}", row(0))).whole());
        assert!(!compared(&format!("integrity ok\n{}{}x", row(0), row(1).trim_end())).whole());
    }
}
