//! The source's work on pages: rounds while the service runs, and the page files of the dump afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::{Engine, Sending};
use crate::error::TransferError;
use crate::frame::{MAX_META, Record};
use crate::pages::known::{Known, Placed};
use crate::pages::{MAX_REUSE, PAGE, Place, RoundSent};
use crate::runs::{RUN, Run};

/// Pages read at once out of a page file of the dump.
const PIECE: usize = 64 * PAGE;

/// What the source knows of the destination's store, and pages that are gathered for one record.
pub(crate) struct Rounds {
    pub(crate) known: Known,
    /// Pages for slots that follow each other, from `first` on.
    batch: Vec<u8>,
    first: u32,
}

/// Takes one page of the running service.
pub type TakePage<'a> = dyn FnMut(Place, &[u8]) -> Result<(), TransferError> + 'a;

/// Reads the pages of a round, one after another; ends early where taking one fails.
pub type ReadPages = Box<dyn FnOnce(&mut TakePage<'_>) -> Result<(), TransferError> + Send>;

impl Rounds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { known: Known::new(seed), batch: Vec::new(), first: 0 }
    }

    /// Sends what the destination does not have of the pages that `read` yields; returns once it has them.
    pub(crate) fn round(engine: &mut Engine, read: ReadPages) -> Result<RoundSent, TransferError> {
        let began = Instant::now();
        let (mut sent, before) = (RoundSent::default(), engine.bytes());
        read(&mut |place, page| {
            sent.pages += 1;
            match engine.rounds.known.place(place, page) {
                Placed::Known => {}
                Placed::Zero => sent.zero += 1,
                Placed::Send(slot) => {
                    sent.sent += 1;
                    Self::gather(engine, slot, page)?;
                }
            }
            if sent.pages.is_multiple_of(1024) { engine.tick() } else { Ok(()) }
        })?;
        Self::send_batch(engine)?;
        engine.flush()?;
        engine.drain()?;
        sent.bytes = engine.bytes() - before;
        sent.elapsed = began.elapsed();
        Ok(sent)
    }

    fn gather(engine: &mut Engine, slot: u32, page: &[u8]) -> Result<(), TransferError> {
        let rounds = &engine.rounds;
        let next = u64::from(rounds.first) + (rounds.batch.len() / PAGE) as u64;
        let full = rounds.batch.len() + PAGE > engine.chunk();
        if !rounds.batch.is_empty() && (u64::from(slot) != next || full) {
            Self::send_batch(engine)?;
        }
        let rounds = &mut engine.rounds;
        if rounds.batch.is_empty() {
            rounds.first = slot;
        }
        rounds.batch.extend_from_slice(page);
        Ok(())
    }

    fn send_batch(engine: &mut Engine) -> Result<(), TransferError> {
        if engine.rounds.batch.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut engine.rounds.batch);
        if engine.room() < batch.len() {
            engine.flush()?;
        }
        engine.push(&Record::Pages { first: engine.rounds.first, bytes: &batch })?;
        engine.count(batch.len())?;
        batch.clear();
        engine.rounds.batch = batch;
        Ok(())
    }

    /// Sends a page file from where it stands up to `until`, or to its end if that comes first: known pages as runs,
    /// the others themselves. Unless the file is `complete`, half a page at its end is left for later.
    pub(crate) fn content(
        engine: &mut Engine,
        sending: &mut Sending,
        file: &File,
        until: u64,
        complete: bool,
    ) -> Result<(), TransferError> {
        let until = if complete { until } else { until - until % PAGE as u64 };
        let mut buffer = vec![0; PIECE];
        let mut runs = Reused::default();
        while sending.hasher.bytes() < until {
            let offset = sending.hasher.bytes();
            let most = usize::try_from(until - offset).unwrap_or(PIECE).min(PIECE);
            let count = read_up_to(file, &mut buffer[..most], offset)
                .map_err(|e| TransferError::io("read", sending.path.as_path(), e))?;
            let whole = if complete { count } else { count - count % PAGE };
            if whole == 0 {
                break;
            }
            // Literal pages that follow each other go as one piece of content.
            let mut literal = 0..0;
            for (at, page) in buffer[..whole].chunks(PAGE).enumerate() {
                let digest = engine.rounds.known.digest(page);
                let slot = (page.len() == PAGE).then(|| engine.rounds.known.slot(digest)).flatten();
                match slot {
                    Some(slot) => {
                        send_literal(
                            engine,
                            sending,
                            &buffer[literal.clone()],
                            offset + literal.start as u64,
                        )?;
                        literal = 0..0;
                        runs.add(engine, sending, slot, offset + (at * PAGE) as u64)?;
                    }
                    None => {
                        runs.send(engine, sending)?;
                        if literal.is_empty() {
                            literal.start = at * PAGE;
                        }
                        literal.end = at * PAGE + page.len();
                    }
                }
                sending.hasher.piece(digest, page.len());
            }
            send_literal(engine, sending, &buffer[literal.clone()], offset + literal.start as u64)?;
        }
        runs.send(engine, sending)
    }
}

/// Runs that are gathered for one record.
#[derive(Default)]
struct Reused {
    offset: u64,
    run: Option<Run>,
    encoded: Vec<u8>,
    pages: u64,
}

impl Reused {
    fn add(
        &mut self,
        engine: &mut Engine,
        sending: &Sending,
        slot: u32,
        offset: u64,
    ) -> Result<(), TransferError> {
        if self.pages >= MAX_REUSE || self.encoded.len() + 2 * RUN + 64 > MAX_META {
            self.send(engine, sending)?;
        }
        if self.pages == 0 {
            self.offset = offset;
        }
        self.pages += 1;
        match &mut self.run {
            Some(run) if run.continues_with(slot) => run.count += 1,
            run => {
                if let Some(done) = run.replace(Run { first: slot, count: 1 }) {
                    done.encode(&mut self.encoded);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, engine: &mut Engine, sending: &Sending) -> Result<(), TransferError> {
        let Some(last) = self.run.take() else { return Ok(()) };
        last.encode(&mut self.encoded);
        engine.push(&Record::Reuse { id: sending.id, offset: self.offset, runs: &self.encoded })?;
        self.encoded.clear();
        self.pages = 0;
        // The destination is to copy while the next pages are looked at.
        engine.flush()
    }
}

fn send_literal(
    engine: &mut Engine,
    sending: &Sending,
    mut bytes: &[u8],
    mut offset: u64,
) -> Result<(), TransferError> {
    while !bytes.is_empty() {
        if engine.room() < PAGE {
            engine.flush()?;
        }
        let room = engine.room();
        // Pieces begin on a page, so that the destination can digest them page by page.
        let (head, tail) = bytes.split_at(bytes.len().min(room - room % PAGE));
        engine.push_content(sending.id, offset, head)?;
        offset += head.len() as u64;
        bytes = tail;
    }
    Ok(())
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
