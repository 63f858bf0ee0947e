//! Links that damage what they carry, break or fall silent: both ends learn of it.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use mose_transfer::{DumpSignal, TransferError, TransportKind, TransportOffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zenoh::Wait;

use crate::support::{LOCAL, Pair, noise};

/// What a link may do to the source's bytes.
#[derive(Clone, Copy)]
enum Damage {
    /// Flip a bit of this byte.
    Flip(usize),
    /// Break after so many.
    Cut(usize),
    /// Deliver no more than so many, but stay up.
    Hold(usize),
}

/// A TCP link that damages what goes to the destination; returns where to connect.
async fn damaged_link(to: SocketAddr, damage: Damage) -> SocketAddr {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (source, _) = listener.accept().await.unwrap();
        let destination = TcpStream::connect(to).await.unwrap();
        let (mut from, mut back) = source.into_split();
        let (mut replies, mut onward) = destination.into_split();
        let returning = tokio::spawn(async move { tokio::io::copy(&mut replies, &mut back).await });
        let mut passed = 0;
        let mut piece = vec![0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            match damage {
                Damage::Flip(at) if (passed..passed + count).contains(&at) => piece[at - passed] ^= 4,
                Damage::Cut(at) if passed + count > at => {
                    returning.abort();
                    return;
                }
                Damage::Hold(at) if passed + count > at => std::future::pending().await,
                _ => {}
            }
            passed += count;
            if onward.write_all(&piece[..count]).await.is_err() {
                break;
            }
        }
        drop(onward);
        let _ = returning.await;
    });
    address
}

async fn through(pair: &Pair, damage: Damage) -> (TransferError, TransferError) {
    let (mut receiver, mut offer) = pair.open().await;
    if let TransportOffer::Tcp { address, .. } = &mut offer {
        *address = damaged_link(*address, damage).await;
    }
    let mut sender = pair.try_connect(&offer).await.unwrap();
    fs::write(pair.at("images/pages-1.img"), noise(3_000_000, 1)).unwrap();
    let ended = match sender.follow_images(&pair.at("images"), DumpSignal::done()).await {
        Ok(_) => sender.finish().await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    (ended, receiver.finished().await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_and_told_to_both_ends() {
    let pair = Pair::new(TransportKind::Tcp).await;
    let (source, destination) = through(&pair, Damage::Flip(1_234_567)).await;
    assert!(matches!(destination, TransferError::Mismatch { .. }), "{destination}");
    assert!(source.to_string().contains("differs"), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_ends_both_ends() {
    let pair = Pair::new(TransportKind::Tcp).await;
    let (source, destination) = through(&pair, Damage::Cut(1_500_000)).await;
    assert!(matches!(source, TransferError::Closed { .. }), "{source}");
    // How much of what was on the way it still read depends on which of its threads sees the break first.
    assert!(matches!(destination, TransferError::Closed { bytes: 1.., .. }), "{destination}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_delivers_nothing_any_more_runs_into_the_deadline_of_both_ends() {
    let mut pair = Pair::new(TransportKind::Tcp).await;
    pair.limits.stall = Duration::from_millis(300);
    let (source, destination) = through(&pair, Damage::Hold(1_500_000)).await;
    assert!(matches!(source, TransferError::Stalled { .. } | TransferError::Remote { .. }), "{source}");
    assert!(
        matches!(
            destination,
            TransferError::Stalled { bytes: 1_000_000.., .. } | TransferError::Closed { .. }
        ),
        "{destination}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_closed_and_do_not_keep_the_source_out() {
    let pair = Pair::new(TransportKind::Tcp).await;
    let (mut receiver, offer) = pair.open().await;
    let TransportOffer::Tcp { address, .. } = &offer else { panic!() };
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut loud = TcpStream::connect(address).await.unwrap();
    loud.write_all(&[b'x'; 4096]).await.unwrap();
    let mut rest = Vec::new();
    // Closed by the destination, with or without a reset.
    let _ = loud.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    pair.try_connect(&offer).await.unwrap().finish().await.unwrap();
    receiver.finished().await.unwrap();
}

/// Two keys instead of one: what comes on the first is passed to the second, unless `damage` wants otherwise.
fn relay(
    session: &zenoh::Session,
    from: String,
    to: String,
    mut damage: impl FnMut(&mut Vec<u8>) -> bool + Send + Sync + 'static,
) -> zenoh::pubsub::Subscriber<()> {
    let onward = session
        .declare_publisher(to)
        .congestion_control(zenoh::qos::CongestionControl::Block)
        .wait()
        .unwrap();
    session
        .declare_subscriber(from)
        .callback_mut(move |sample| {
            let mut bytes = sample.payload().to_bytes().to_vec();
            if damage(&mut bytes) {
                onward.put(bytes).wait().unwrap();
            }
        })
        .wait()
        .unwrap()
}

async fn relayed(
    pair: &mut Pair,
    damage: impl FnMut(&mut Vec<u8>) -> bool + Send + Sync + 'static,
) -> (TransferError, TransferError) {
    let (mut receiver, mut offer) = pair.open().await;
    let destination = format!("mose/bulk/{}", pair.migration);
    pair.migration.push_str("-relayed");
    let source = format!("mose/bulk/{}", pair.migration);
    if let TransportOffer::Zenoh { prefix, .. } = &mut offer {
        prefix.clone_from(&source);
    }
    let middle = pair.sessions.as_ref().unwrap().1.clone();
    let _data = relay(&middle, format!("{source}/data"), format!("{destination}/data"), damage);
    let _acks = relay(&middle, format!("{destination}/ack"), format!("{source}/ack"), |_| true);
    let mut sender = pair.try_connect(&offer).await.unwrap();
    fs::write(pair.at("images/pages-1.img"), noise(3_000_000, 1)).unwrap();
    let ended = match sender.follow_images(&pair.at("images"), DumpSignal::done()).await {
        Ok(_) => sender.finish().await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    (ended, receiver.finished().await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_over_zenoh_is_found_and_told_to_both_ends() {
    let mut pair = Pair::new(TransportKind::Zenoh).await;
    let mut full = 0;
    let flip = move |bytes: &mut Vec<u8>| {
        full += usize::from(bytes.len() > 60_000);
        if full == 10 {
            bytes[5000] ^= 1;
            full += 1;
        }
        true
    };
    let (source, destination) = relayed(&mut pair, flip).await;
    assert!(matches!(destination, TransferError::Mismatch { .. }), "{destination}");
    assert!(source.to_string().contains("differs"), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_zenoh_loses_is_a_gap() {
    let mut pair = Pair::new(TransportKind::Zenoh).await;
    let mut full = 0;
    let lose = move |bytes: &mut Vec<u8>| {
        full += usize::from(bytes.len() > 60_000);
        full != 10
    };
    let (source, destination) = relayed(&mut pair, lose).await;
    assert!(matches!(destination, TransferError::Gap { .. }), "{destination}");
    assert!(source.to_string().contains("lost data"), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zenoh_link_that_delivers_nothing_any_more_runs_into_the_deadline() {
    let mut pair = Pair::new(TransportKind::Zenoh).await;
    pair.limits.stall = Duration::from_millis(500);
    let mut full = 0;
    let hold = move |bytes: &mut Vec<u8>| {
        full += usize::from(bytes.len() > 60_000);
        full < 10
    };
    let (source, destination) = relayed(&mut pair, hold).await;
    assert!(matches!(source, TransferError::Stalled { .. } | TransferError::Remote { .. }), "{source}");
    assert!(matches!(destination, TransferError::Stalled { bytes: 100_000.., .. }), "{destination}");
}
