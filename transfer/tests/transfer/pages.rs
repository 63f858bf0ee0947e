//! Pages that travel before the dump: what arrives is the dump, and nothing travels twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use mose_transfer::{DumpSignal, PAGE, Place, ReadPages, Sender, TransferError, TransportKind, dump_signal};

use crate::support::{Pair, noise};

/// A service's memory.
type Memory = BTreeMap<Place, Vec<u8>>;

fn memory(pages: u64, seed: u64) -> Memory {
    let bytes = noise(pages as usize * PAGE, seed);
    bytes.chunks(PAGE).enumerate().map(|(at, page)| ((7, at as u64 * PAGE as u64), page.to_vec())).collect()
}

fn read(memory: &Memory) -> ReadPages {
    let memory = memory.clone();
    Box::new(move |take| memory.iter().try_for_each(|(place, page)| take(*place, page)))
}

async fn round(sender: &mut Sender, memory: &Memory) -> mose_transfer::RoundSent {
    sender.round(read(memory)).await.unwrap()
}

/// The memory as CRIU would write it, and a tail that is less than a page.
fn dump(pair: &Pair, memory: &Memory) -> Vec<u8> {
    let mut content: Vec<u8> = memory.values().flatten().copied().collect();
    content.extend_from_slice(b"an odd end");
    fs::write(pair.at("images/pages-1.img"), &content).unwrap();
    fs::write(pair.at("images/core-7.img"), b"registers").unwrap();
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dump_travels_as_what_the_rounds_left() {
    for kind in [TransportKind::Tcp, TransportKind::Zenoh] {
        let pair = Pair::new(kind).await;
        let (mut receiver, mut sender) = pair.start().await;
        let mut memory = memory(900, 1);
        memory.insert((7, 1 << 40), vec![0; PAGE]);
        let same = memory[&(7, 0)].clone();
        memory.insert((8, 0), same);
        let first = round(&mut sender, &memory).await;
        assert_eq!((first.pages, first.sent, first.zero), (902, 900, 1));
        // Some pages change, one becomes zero, one appears; and then the same again.
        for at in [3_u64, 4, 5, 400] {
            memory.insert((7, at * PAGE as u64), noise(PAGE, 1000 + at));
        }
        memory.insert((7, 10 * PAGE as u64), vec![0; PAGE]);
        let second = round(&mut sender, &memory).await;
        assert_eq!((second.sent, second.zero), (4, 2), "a zero page is zero each time");
        assert_eq!(round(&mut sender, &memory).await.sent, 0);
        // The dump differs from the last round in one page.
        memory.insert((7, 77 * PAGE as u64), noise(PAGE, 5));
        let content = dump(&pair, &memory);
        let pass = sender.follow_images(&pair.at("images"), DumpSignal::done()).await.unwrap();
        assert_eq!(pass.bytes, (PAGE + b"an odd end".len() + b"registers".len()) as u64);
        let sent = sender.finish().await.unwrap();
        let received = receiver.finished().await.unwrap();
        assert_eq!((sent.bytes, sent.digest), (received.bytes, received.digest));
        assert!(fs::read(pair.at("checkpoint/pages-1.img")).unwrap() == content);
        let names: Vec<_> =
            fs::read_dir(pair.at("checkpoint")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "the store leaves nothing: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_still_being_written_is_told_by_pages_too() {
    let pair = Pair::new(TransportKind::Tcp).await;
    let (mut receiver, mut sender) = pair.start().await;
    let memory = memory(2000, 2);
    round(&mut sender, &memory).await;
    let (done, signal) = dump_signal();
    let path = pair.at("images/pages-1.img");
    let content: Vec<u8> = memory.values().rev().flatten().copied().collect();
    let writer = std::thread::spawn({
        let content = content.clone();
        move || {
            let mut file = File::create(path).unwrap();
            // In pieces that end within pages.
            for piece in content.chunks(123_457) {
                file.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
            done.done();
        }
    });
    let pass = sender.follow_images(&pair.at("images"), signal).await.unwrap();
    writer.join().unwrap();
    assert_eq!(pass.bytes, 0, "the destination had every page, in another order");
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    assert!(fs::read(pair.at("checkpoint/pages-1.img")).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_cannot_be_read_ends_the_transfer_at_both_ends() {
    let pair = Pair::new(TransportKind::Tcp).await;
    let (mut receiver, mut sender) = pair.start().await;
    let failed = sender.round(Box::new(|_| Err(TransferError::DumpAbandoned))).await;
    assert!(matches!(failed, Err(TransferError::DumpAbandoned)), "{failed:?}");
    assert!(receiver.finished().await.is_err());
    assert_eq!(fs::read_dir(pair.at("checkpoint")).unwrap().count(), 0);
}
