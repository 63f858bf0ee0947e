//! Mosquitto: its own clients publish numbered messages with QoS 1 to subscribers that are there, and to one that is away and
//! comes back at the end; none may be missing to any of them. What is retained is kept.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::crowd::{Rhythm, text_of};
use super::events::{Contents, Events};
use super::site::{PATIENCE, Site, finish};
use super::{Moment, Trial};
use crate::counter::ping::unix_ms;
use crate::error::{Context, LabError};

const PUBLISHERS: u32 = 2;
const SUBSCRIBERS: u32 = 4;
/// Messages per second of each publisher.
const RATE: u32 = 50;
/// Bytes of a message.
const TEXT: usize = 200;
/// What is retained.
const RETAINED: u64 = 20;
/// The subscriber that is away.
const ABSENT: &str = "absent";

pub(super) struct Mosquitto<'a> {
    site: Site<'a>,
    load: Option<Load>,
    /// When each message of each publisher was given to it.
    published: Vec<Vec<u64>>,
}

struct Load {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Result<Published, LabError>>>,
    subscribers: Vec<Subscriber>,
    from_unix_ms: u64,
}

/// What became of a publisher.
struct Published {
    at_unix_ms: Vec<u64>,
    acknowledged: u64,
    connects: u64,
}

struct Subscriber {
    name: String,
    heard: Arc<AtomicU64>,
    reader: JoinHandle<Vec<Heard>>,
    child: Child,
}

/// A message as a subscriber told of it.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    at_unix_ms: f64,
    publisher: u32,
    number: u64,
    text: String,
}

impl Heard {
    /// `TIME client-P-N-…`, the time in seconds with a fraction.
    fn parse(line: &str) -> Option<Heard> {
        let (time, text) = line.split_once(' ')?;
        let mut words = text.splitn(4, '-').skip(1);
        let (publisher, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Heard { at_unix_ms: time.parse::<f64>().ok()? * 1e3, publisher, number, text: text.to_owned() })
    }

    fn is_as_sent(&self) -> bool {
        self.text == text_of(&owner(self.publisher), self.number, TEXT)
    }
}

fn subscriber_id(number: u32) -> String {
    format!("sub-{number}")
}

fn owner(publisher: u32) -> String {
    format!("client-{publisher}")
}

impl<'a> Mosquitto<'a> {
    pub(super) fn new(site: Site<'a>) -> Self {
        Self { site, load: None, published: Vec::new() }
    }

    /// One of Mosquitto's own clients, with what all have in common.
    fn program(
        &self,
        program: &str,
        id: &str,
        arguments: &[&str],
    ) -> Result<std::process::Command, LabError> {
        let address = self.site.endpoint().ip().to_string();
        let common = [program, "-h", &address, "-i", id, "-q", "1"];
        self.site.client(&format!("trial-{id}"), &[&common, arguments].concat())
    }

    fn publisher(
        &self,
        number: u32,
        stop: Arc<AtomicBool>,
    ) -> Result<JoinHandle<Result<Published, LabError>>, LabError> {
        let topic = format!("load/{number}");
        let mut command =
            self.program("mosquitto_pub", &format!("pub-{number}"), &["-d", "-l", "-t", &topic])?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start mosquitto_pub")?;
        let stdin = child.stdin.take();
        Ok(std::thread::spawn(move || {
            let reader = std::thread::spawn(move || finish("mosquitto_pub", child));
            let (mut at_unix_ms, mut rhythm) = (Vec::new(), Rhythm::per_second(RATE));
            if let Some(mut stdin) = stdin {
                while !stop.load(Relaxed) {
                    let text = text_of(&owner(number), at_unix_ms.len() as u64, TEXT);
                    if writeln!(stdin, "{text}").is_err() {
                        break; // it ended; what it said is in the error
                    }
                    at_unix_ms.push(unix_ms());
                    rhythm.wait();
                }
            }
            // With its input's end it waits for the last acknowledgement, and ends.
            let said = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let count = |what: &str| said.lines().filter(|line| line.contains(what)).count() as u64;
            Ok(Published {
                at_unix_ms,
                acknowledged: count("received PUBACK"),
                connects: count("sending CONNECT"),
            })
        }))
    }

    fn subscriber(&self, number: u32) -> Result<Subscriber, LabError> {
        let id = subscriber_id(number);
        let mut command = self.program("mosquitto_sub", &id, &["-c", "-t", "load/#", "-F", "%U %p"])?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start mosquitto_sub")?;
        let heard = Arc::new(AtomicU64::new(0));
        let (counter, stdout) = (heard.clone(), child.stdout.take());
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            for line in stdout.into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok))
            {
                all.extend(Heard::parse(&line));
                counter.store(all.len() as u64, Relaxed);
            }
            all
        });
        Ok(Subscriber { name: format!("trial-{id}"), heard, reader, child })
    }

    /// Has every subscriber subscribe and leave: from then on no message passes it by.
    fn subscribe_all(&self) -> Result<(), LabError> {
        let address = self.site.endpoint().ip().to_string();
        let ids = (0..SUBSCRIBERS).map(subscriber_id).chain([ABSENT.to_owned()]);
        let each =
            "for id in \"$@\"; do mosquitto_sub -h \"$0\" -i \"$id\" -q 1 -c -t 'load/#' -E || exit 1; done";
        let argv: Vec<String> =
            ["sh", "-c", each, &address].map(str::to_owned).into_iter().chain(ids).collect();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut command = self.site.client("trial-subscribe", &argv)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        finish("subscribing", child.doing("start mosquitto_sub")?).map(drop)
    }

    /// Who was away comes back and takes so many messages.
    fn return_of_absent(&self, count: usize) -> Result<String, LabError> {
        let count = count.to_string();
        let arguments = ["-c", "-t", "load/#", "-F", "%U %p", "-C", &count, "-W", "60"];
        let mut command = self.program("mosquitto_sub", ABSENT, &arguments)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start mosquitto_sub")?;
        finish("mosquitto_sub", child)
    }
}

impl Trial for Mosquitto<'_> {
    /// Retains messages, and has a subscriber subscribe and leave.
    fn prepare(&mut self, _host: &str) -> Result<(), LabError> {
        let mut command = self.program("mosquitto_pub", "keep", &["-r", "-l", "-t", "kept/all"])?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start mosquitto_pub")?;
        if let Some(mut stdin) = child.stdin.take() {
            // Of one topic the last one is retained.
            for number in 0..RETAINED {
                let _ = writeln!(stdin, "{}", text_of("kept-0", number, TEXT));
            }
        }
        finish("mosquitto_pub", child)?;
        self.subscribe_all()
    }

    fn begin(&mut self) -> Result<(), LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let subscribers: Vec<Subscriber> =
            (0..SUBSCRIBERS).map(|number| self.subscriber(number)).collect::<Result<_, _>>()?;
        let publishers =
            (0..PUBLISHERS).map(|number| self.publisher(number, stop.clone())).collect::<Result<_, _>>()?;
        self.load = Some(Load { stop, publishers, subscribers, from_unix_ms: 0 });
        let begun = Instant::now();
        while let Some(load) = &mut self.load {
            if load.subscribers.iter().all(|subscriber| subscriber.heard.load(Relaxed) > 0) {
                load.from_unix_ms = unix_ms();
                break;
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.end();
                return Err(LabError::Trial {
                    what: "starting the clients of mosquitto".to_owned(),
                    why: "a subscriber heard nothing".to_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Events, LabError> {
        let Some(load) = self.load.take() else { return Ok(Events::default()) };
        let mut events =
            Events { from_unix_ms: load.from_unix_ms, to_unix_ms: unix_ms(), ..Events::default() };
        load.stop.store(true, Relaxed);
        self.published.clear();
        for publisher in load.publishers {
            let published = publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let sent = published.at_unix_ms.len() as u64;
            if published.acknowledged != sent {
                events.failure(format!(
                    "{sent} messages were published, {} acknowledged",
                    published.acknowledged
                ));
            }
            if published.connects != 1 {
                events.failure(format!("a publisher connected {} times", published.connects));
            }
            self.published.push(published.at_unix_ms);
        }
        let expected: u64 = self.published.iter().map(|messages| messages.len() as u64).sum();
        let until = Instant::now() + PATIENCE;
        for subscriber in load.subscribers {
            while subscriber.heard.load(Relaxed) < expected && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            self.site.signal_client(&subscriber.name, "TERM")?;
            let said = finish(&subscriber.name, subscriber.child);
            let heard = subscriber.reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            judge(&heard, &self.published, &mut events);
            if let Err(error) = said {
                events.failure(error.to_string());
            }
        }
        Ok(events)
    }

    fn compare(&mut self, _host: &str, moment: Moment) -> Result<Contents, LabError> {
        let mut contents = Contents::of("messages kept");
        let mut command = self.program(
            "mosquitto_sub",
            "look",
            &["-t", "kept/#", "-C", "1", "-W", "20", "--retained-only"],
        )?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("start mosquitto_sub")?;
        let retained = finish("reading what is retained", child);
        let expected = text_of("kept-0", RETAINED - 1, TEXT);
        contents.compare(matches!(&retained, Ok(said) if said.trim_end() == expected), || {
            format!("what was retained: {retained:?}")
        });
        // Who was away comes back at the end, after a restart: it is owed all of it.
        if moment == Moment::Restarted {
            let count: usize = self.published.iter().map(Vec::len).sum();
            let said = self.return_of_absent(count)?;
            let heard: Vec<Heard> = said.lines().filter_map(Heard::parse).collect();
            let seen = numbers(&heard);
            for (publisher, messages) in self.published.iter().enumerate() {
                for number in 0..messages.len() as u64 {
                    contents.compare(seen.contains_key(&(publisher as u32, number)), || {
                        format!("message {number} of publisher {publisher} is missing to who was away")
                    });
                }
            }
        }
        Ok(contents)
    }
}

/// How often each message was heard as it was sent.
fn numbers(heard: &[Heard]) -> HashMap<(u32, u64), u32> {
    let mut seen = HashMap::new();
    for message in heard.iter().filter(|message| message.is_as_sent()) {
        *seen.entry((message.publisher, message.number)).or_default() += 1;
    }
    seen
}

/// Holds what a subscriber heard against what was published.
fn judge(heard: &[Heard], published: &[Vec<u64>], events: &mut Events) {
    let seen = numbers(heard);
    for message in heard {
        if message.is_as_sent() {
            events.answered.push(message.at_unix_ms as u64);
        } else {
            events.failure(format!("a message came damaged: {:?}", message.text));
        }
    }
    for ((publisher, number), times) in &seen {
        if *times > 1 {
            events.failure(format!(
                "message {number} of publisher {publisher} came {times} times on one connection"
            ));
        }
    }
    for (publisher, messages) in published.iter().enumerate() {
        for (number, at_unix_ms) in messages.iter().enumerate() {
            if !seen.contains_key(&(publisher as u32, number as u64)) {
                events.lost.push(*at_unix_ms);
            }
        }
    }
    // Messages are sent all the while, so what lies between two is silence.
    for pair in heard.windows(2) {
        let ms = pair[1].at_unix_ms - pair[0].at_unix_ms;
        if ms >= 1.0 {
            events.silences.push(crate::counter::ping::Gap { at_unix_ms: pair[0].at_unix_ms as u64, ms });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(publisher: u32, number: u64, at: f64) -> Heard {
        Heard::parse(&format!("{at} {}", text_of(&owner(publisher), number, TEXT))).unwrap()
    }

    #[test]
    fn what_a_subscriber_tells_is_read_and_judged() {
        let heard = [line(0, 0, 1.0), line(0, 1, 1.5), line(0, 1, 1.6)];
        assert_eq!((heard[1].publisher, heard[1].number, heard[1].at_unix_ms), (0, 1, 1500.0));
        let mut events = Events::default();
        judge(&heard, &[vec![900, 1400, 1700]], &mut events);
        assert_eq!((events.lost.as_slice(), events.failed.len()), (&[1700][..], 1), "{events:?}");
        assert!((events.silence_between(0, u64::MAX) - 500.0).abs() < 1e-6);
        let damaged = Heard { text: "client-0-0-x".into(), ..line(0, 0, 1.0) };
        let mut events = Events::default();
        judge(&[damaged], &[vec![900]], &mut events);
        assert_eq!((events.lost.len(), events.failed.len()), (1, 1));
    }

    #[test]
    fn lines_that_are_no_messages_are_none() {
        for line in ["", "x", "1.0 y", "z client-0-1-a", "1.0 client-a-1-b"] {
            assert_eq!(Heard::parse(line), None, "{line}");
        }
    }
}
