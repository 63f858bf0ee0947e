//! Redis: clients write keys in order and read them back, and count; afterwards every key that was acknowledged is there, and
//! the append-only file is sound.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Failure, Member, Rhythm, connect, text_of};
use super::events::{Contents, Events};
use super::site::Site;
use super::{Moment, Trial};
use crate::error::LabError;

/// How long Redis may take to read its file after a start.
const LOADING: Duration = Duration::from_secs(20);

const CLIENTS: u32 = 8;
/// Requests per second of each.
const RATE: u32 = 100;
/// Bytes of a value.
const VALUE: usize = 1024;
/// Keys that are read at once when all are compared.
const BATCH: u64 = 200;
/// No answer of Redis to our requests is longer.
const MAX_ANSWER: usize = 16 << 20;

pub(super) struct Redis<'a> {
    site: Site<'a>,
    crowd: Option<Crowd<u64>>,
    /// How many keys each client was told were kept.
    kept: Vec<u64>,
}

impl<'a> Redis<'a> {
    pub(super) fn new(site: Site<'a>) -> Self {
        Self { site, crowd: None, kept: Vec::new() }
    }
}

impl Trial for Redis<'_> {
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

    fn compare(&mut self, host: &str, moment: Moment) -> Result<Contents, LabError> {
        let mut contents = Contents::of("keys");
        let (endpoint, kept) = (self.site.endpoint(), &self.kept);
        let compared = self.site.among_clients(|| {
            let mut redis = Connection::new(connect(endpoint)?);
            let compared = loaded(&mut redis).and_then(|()| compare_all(&mut redis, kept, &mut contents));
            compared.map_err(|failure| LabError::Trial {
                what: "reading all keys".to_owned(),
                why: format!("{failure:?}"),
            })
        })?;
        compared?;
        if moment == Moment::Running {
            let manifest = "/data/appendonlydir/appendonly.aof.manifest";
            let check =
                self.site.inside(host, "checking the append-only file", &["redis-check-aof", manifest]);
            let sound = matches!(&check, Ok(said) if said.contains("All AOF files and manifest are valid"));
            contents.compare(sound, || format!("redis-check-aof: {check:?}"));
        }
        Ok(contents)
    }
}

fn key(client: u32, number: u64) -> String {
    format!("client-{client}:{number}")
}

/// Writes a key, reads the one before it, counts; as many keys as were acknowledged.
fn write_and_read(member: &mut Member) -> u64 {
    let Ok(stream) = member.stream.try_clone() else { return 0 };
    let mut redis = Connection::new(stream);
    let client = member.number;
    let mut rhythm = Rhythm::per_second(RATE);
    let mut kept = 0;
    while member.goes_on() {
        let key_now = key(client, kept);
        let value = text_of(&key_now, kept, VALUE);
        let sent = Instant::now();
        if !member.judge(sent, redis.expect(&["SET", &key_now, &value], &Answer::Status("OK".into()))) {
            break;
        }
        kept += 1;
        rhythm.wait();
        let sent = Instant::now();
        let counted = redis.expect(&["INCR", &key(client, u64::MAX)], &Answer::Number(kept as i64));
        if !member.judge(sent, counted) {
            break;
        }
        rhythm.wait();
        let read = key(client, kept / 2);
        let expected = Answer::Text(text_of(&read, kept / 2, VALUE));
        let sent = Instant::now();
        if kept / 2 < kept && !member.judge(sent, redis.expect(&["GET", &read], &expected)) {
            break;
        }
        rhythm.wait();
    }
    kept
}

/// Waits until Redis has read its file: for a moment after its start it answers nothing else.
fn loaded(redis: &mut Connection) -> Result<(), Failure> {
    let deadline = Instant::now() + LOADING;
    loop {
        match redis.ask(&["PING"]) {
            Err(Failure::Wrong(said)) if said.contains("LOADING") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            answered => return answered.map(drop),
        }
    }
}

fn compare_all(redis: &mut Connection, kept: &[u64], contents: &mut Contents) -> Result<(), Failure> {
    for (client, &count) in kept.iter().enumerate() {
        let client = client as u32;
        for first in (0..count).step_by(BATCH as usize) {
            let numbers: Vec<u64> = (first..count.min(first + BATCH)).collect();
            let keys: Vec<String> = numbers.iter().map(|&number| key(client, number)).collect();
            let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
            let Answer::Many(values) = redis.ask(&words)? else {
                return Err(Failure::Wrong("MGET was not answered with a list".to_owned()));
            };
            for (at, &number) in numbers.iter().enumerate() {
                let good = values.get(at) == Some(&Answer::Text(text_of(&keys[at], number, VALUE)));
                contents.compare(good, || format!("{} is not what was written", keys[at]));
            }
        }
        let counted = redis.ask(&["GET", &key(client, u64::MAX)])?;
        contents.compare(counted == Answer::Text(count.to_string()), || {
            format!("client {client} counted to {count}, the service says {counted:?}")
        });
    }
    Ok(())
}

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Status(String),
    Number(i64),
    Text(String),
    Nothing,
    Many(Vec<Answer>),
}

/// A connection that speaks Redis's protocol (RESP 2), one request at a time.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    fn ask(&mut self, words: &[&str]) -> Result<Answer, Failure> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        answer(&mut self.stream)
    }

    fn expect(&mut self, words: &[&str], expected: &Answer) -> Result<(), Failure> {
        let answer = self.ask(words)?;
        if answer == *expected {
            return Ok(());
        }
        let begin: String = format!("{answer:?}").chars().take(80).collect();
        Err(Failure::Wrong(format!("{} {} was answered with {begin}", words[0], words[1])))
    }
}

/// Reads one answer.
fn answer(stream: &mut impl BufRead) -> Result<Answer, Failure> {
    let mut line = String::new();
    if stream.take(64 << 10).read_line(&mut line)? == 0 {
        return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    let odd = || Failure::Wrong(format!("an answer that is none: {}", line.trim_end()));
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(odd)?;
    match kind {
        "+" => Ok(Answer::Status(rest.to_owned())),
        "-" => Err(Failure::Wrong(format!("Redis says: {rest}"))),
        ":" => rest.parse().map(Answer::Number).map_err(|_| odd()),
        "$" if rest == "-1" => Ok(Answer::Nothing),
        "$" => {
            let length: usize = rest.parse().ok().filter(|length| *length <= MAX_ANSWER).ok_or_else(odd)?;
            let mut text = vec![0; length + 2];
            stream.read_exact(&mut text)?;
            text.truncate(length);
            String::from_utf8(text).map(Answer::Text).map_err(|_| odd())
        }
        "*" => {
            let count: u64 = rest.parse().ok().filter(|count| *count <= BATCH).ok_or_else(odd)?;
            (0..count).map(|_| answer(stream)).collect::<Result<_, _>>().map(Answer::Many)
        }
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_and_nonsense_is_refused() {
        let read = |bytes: &[u8]| answer(&mut io::BufReader::new(bytes));
        assert_eq!(read(b"+OK\r\n").unwrap(), Answer::Status("OK".into()));
        assert_eq!(read(b":-7\r\n").unwrap(), Answer::Number(-7));
        let many = read(b"*2\r\n$3\r\na\r\n\r\n$-1\r\n").unwrap();
        assert_eq!(many, Answer::Many(vec![Answer::Text("a\r\n".into()), Answer::Nothing]));
        for nonsense in [&b"\r\n"[..], b"$99999999999\r\n", b"*100000\r\n", b"?x\r\n", b":x\r\n"] {
            assert!(matches!(read(nonsense), Err(Failure::Wrong(_))), "{nonsense:?}");
        }
        assert!(matches!(read(b"-ERR no\r\n"), Err(Failure::Wrong(words)) if words.contains("ERR no")));
        assert!(matches!(read(b""), Err(Failure::Broken(_))));
        assert!(matches!(read(b"$5\r\nab"), Err(Failure::Broken(_))));
    }
}
