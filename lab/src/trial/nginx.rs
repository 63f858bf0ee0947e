//! nginx: 20 clients fetch a file, each at a pace, so that the server stands with full send buffers and every copy is under way
//! during all moves; each copy's checksum is compared.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::crowd::{Crowd, Failure, Member, connect};
use super::events::{Contents, Events};
use super::site::{Site, finish};
use super::{Moment, Trial};
use crate::error::{Context, LabError};

const CLIENTS: u32 = 20;
/// Where the file is in the container.
const FILE: &str = "/srv/file";
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;
/// How often a client that waits looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);
/// Longer than any trial.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// No header of nginx's is longer.
const MAX_HEADER: u64 = 16 << 10;

pub(super) struct Nginx<'a> {
    site: Site<'a>,
    size: u64,
    /// How long a client takes for the first 63 % of its copy.
    takes: Duration,
    checksum: u128,
    crowd: Option<Crowd<()>>,
    copies: u64,
}

impl<'a> Nginx<'a> {
    /// A file of so many bytes, and how long a client takes for the first 63 % of its copy.
    pub(super) fn new(site: Site<'a>, size: u64, takes: Duration) -> Self {
        Self { site, size, takes, checksum: 0, crowd: None, copies: 0 }
    }
}

impl Trial for Nginx<'_> {
    /// Makes the file in the service's volume.
    fn prepare(&mut self, host: &str) -> Result<(), LabError> {
        let mut write =
            self.site.inside_command(host, &["--interactive"], &["sh", "-c", &format!("cat > {FILE}")])?;
        write.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = write.spawn().doing("start podman exec")?;
        let mut hash = Xxh3::new();
        if let Some(mut stdin) = child.stdin.take() {
            for (begin, length) in
                (0..self.size).step_by(CHUNK).map(|at| (at, (self.size - at).min(CHUNK as u64)))
            {
                let chunk = &chunk_at(begin)[..length as usize];
                hash.update(chunk);
                stdin.write_all(chunk).doing("write nginx's file")?;
            }
        }
        self.checksum = hash.digest128();
        finish("making nginx's file", child).map(drop)
    }

    fn begin(&mut self) -> Result<(), LabError> {
        let (size, takes, checksum) = (self.size, self.takes, self.checksum);
        let fetch = move |member: &mut Member| fetch_at_a_pace(member, size, takes, checksum);
        self.crowd = Some(Crowd::start(&self.site, CLIENTS, fetch)?);
        Ok(())
    }

    fn end(&mut self) -> Result<Events, LabError> {
        let Some(crowd) = self.crowd.take() else { return Ok(Events::default()) };
        let (events, _) = crowd.stop()?;
        self.copies = events.answered.len() as u64;
        Ok(events)
    }

    /// One more copy, and those that came under way: their checksums were compared as they came.
    fn compare(&mut self, _host: &str, _moment: Moment) -> Result<Contents, LabError> {
        let mut contents = Contents::of("copies of the file");
        for _ in 0..self.copies {
            contents.compare(true, String::new);
        }
        let (endpoint, size, checksum) = (self.site.endpoint(), self.size, self.checksum);
        let fetched = self.site.among_clients(|| {
            let mut stream = BufReader::new(connect(endpoint)?);
            Ok::<_, LabError>(fetch(&mut stream, size, checksum, &mut |_, _| {}))
        })??;
        contents.compare(fetched.is_ok(), || format!("{fetched:?}"));
        Ok(contents)
    }
}

/// The chunk of the file at this place.
fn chunk_at(begin: u64) -> Vec<u8> {
    let mut state = xxh3_64(&begin.to_le_bytes()) | 1;
    let mut chunk = Vec::with_capacity(CHUNK);
    while chunk.len() < CHUNK {
        // xorshift64: quick, and no two chunks are alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.extend_from_slice(&state.to_le_bytes());
    }
    chunk
}

/// Fetches the file, the slower the less of it is left, so that the copy is under way until it is to end; the rest then comes as
/// fast as it can.
fn fetch_at_a_pace(member: &mut Member, size: u64, takes: Duration, checksum: u128) {
    let Ok(stream) = member.stream.try_clone() else { return };
    let mut stream = BufReader::with_capacity(CHUNK, stream);
    let begun = Instant::now();
    let mut at_pace = |read: u64, silence: Duration| {
        member.under_way();
        member.events.silence(silence);
        let due = begun + due(read, size, takes);
        while read < size && member.goes_on() && Instant::now() < due {
            std::thread::sleep(GLANCE.min(due - Instant::now()));
        }
    };
    let fetched = fetch(&mut stream, size, checksum, &mut at_pace);
    // The time since the request is no silence: bytes came all the while, and silences among them were noted.
    member.judge(Instant::now(), fetched);
}

/// When so much is to have been read. What is left falls off as a charge does, in `takes` to 37 %; the last of it is not due for
/// long.
fn due(read: u64, size: u64, takes: Duration) -> Duration {
    let left = 1.0 - read as f64 / size as f64;
    if left < 0.02 { LONG } else { takes.mul_f64(-left.ln()).min(LONG) }
}

/// Fetches the file once. `progress` is told how much has come, and how long it was waited for.
fn fetch(
    stream: &mut BufReader<TcpStream>,
    size: u64,
    checksum: u128,
    progress: &mut dyn FnMut(u64, Duration),
) -> Result<(), Failure> {
    stream.get_mut().write_all(b"GET /file HTTP/1.1\r\nHost: trial\r\n\r\n")?;
    let asked = Instant::now();
    let length = header(stream)?;
    progress(0, asked.elapsed());
    if length != size {
        return Err(Failure::Wrong(format!("the file is said to have {length} bytes, not {size}")));
    }
    let (mut hash, mut read, mut buffer) = (Xxh3::new(), 0, vec![0; CHUNK]);
    while read < size {
        let wanted = (size - read).min(CHUNK as u64) as usize;
        let waiting = Instant::now();
        let got = stream.read(&mut buffer[..wanted])?;
        if got == 0 {
            return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        hash.update(&buffer[..got]);
        read += got as u64;
        progress(read, waiting.elapsed());
    }
    if hash.digest128() == checksum {
        Ok(())
    } else {
        Err(Failure::Wrong("a copy of the file has another checksum".to_owned()))
    }
}

/// Reads an answer's header; the length of what follows.
fn header(stream: &mut impl BufRead) -> Result<u64, Failure> {
    let (mut stream, mut length, mut first) = (stream.take(MAX_HEADER), None, true);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let line = line.trim_end();
        if first && !line.starts_with("HTTP/1.1 200 ") {
            return Err(Failure::Wrong(format!("nginx answered `{line}`")));
        }
        first = false;
        if line.is_empty() {
            return length.ok_or_else(|| Failure::Wrong("nginx told no length".to_owned()));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_the_length_or_is_refused() {
        let read = |text: &str| header(&mut io::BufReader::new(text.as_bytes()));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nrest").unwrap(), 7);
        assert!(
            matches!(read("HTTP/1.1 404 Not Found\r\n\r\n"), Err(Failure::Wrong(said)) if said.contains("404"))
        );
        assert!(matches!(read("HTTP/1.1 200 OK\r\n\r\n"), Err(Failure::Wrong(_))));
        assert!(matches!(read("HTTP/1.1 200 OK\r\n"), Err(Failure::Broken(_))));
    }

    #[test]
    fn a_copy_is_read_ever_slower_and_not_to_its_end() {
        let due = |share: u64| due(share, 100, Duration::from_secs(10));
        assert_eq!(due(0), Duration::ZERO);
        assert!(due(63) < Duration::from_secs(10) && due(64) > Duration::from_secs(10));
        assert_eq!((due(99), due(100)), (LONG, LONG));
    }

    #[test]
    fn no_two_chunks_of_the_file_are_alike() {
        assert_eq!(chunk_at(0).len(), CHUNK);
        assert_ne!(chunk_at(0), chunk_at(CHUNK as u64));
    }
}
