//! A checkpoint folder that is sent while it is written.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use mose_transfer::{Root, TransferError, TransportKind, dump_signal};

use crate::support::{Pair, noise, on_both_transports};

async fn a_page_file_is_sent_while_it_grows(kind: TransportKind) {
    let pair = Pair::new(kind).await;
    let (mut receiver, mut sender) = pair.start().await;
    let (notifier, signal) = dump_signal();
    let images = pair.at("images");
    let following = tokio::spawn(async move {
        let pass = sender.follow_images(&images, signal).await;
        (sender, pass)
    });
    let content = noise(3 << 20, 5);
    let pages = fs::File::create(pair.at("images/pages-1.img")).unwrap();
    fs::write(pair.at("images/core-1.img"), "not before the end").unwrap();
    for (at, piece) in content.chunks(1 << 20).enumerate() {
        pages.write_all_at(piece, (at << 20) as u64).unwrap();
        // Arrives without the dump being done.
        let until = ((at + 1) << 20) as u64;
        while receiver.progress().images < until {
            tokio::task::yield_now().await;
        }
        assert!(!pair.at("checkpoint/core-1.img").exists());
    }
    pages.write_all_at(b"tail", content.len() as u64).unwrap();
    notifier.done();
    let (sender, pass) = following.await.unwrap();
    assert_eq!(pass.unwrap().bytes, content.len() as u64 + 4 + 18, "nothing was sent twice");
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    assert_eq!(
        fs::read(pair.at("checkpoint/pages-1.img")).unwrap(),
        fs::read(pair.at("images/pages-1.img")).unwrap()
    );
}

async fn a_followed_file_that_is_rewritten_or_shrinks_or_vanishes_is_sent_right(kind: TransportKind) {
    let pair = Pair::new(kind).await;
    let (mut receiver, mut sender) = pair.start().await;
    let (notifier, signal) = dump_signal();
    let images = pair.at("images");
    for name in ["pages-1.img", "pages-2.img", "pages-3.img", "pages-4.img"] {
        fs::write(images.join(name), noise(100_000, 6)).unwrap();
    }
    let folder = images.clone();
    let following = tokio::spawn(async move {
        let pass = sender.follow_images(&folder, signal).await;
        (sender, pass)
    });
    while receiver.progress().images < 400_000 {
        tokio::task::yield_now().await;
    }
    fs::OpenOptions::new().write(true).open(images.join("pages-1.img")).unwrap().set_len(10).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(images.join("pages-2.img"))
        .unwrap()
        .write_all_at(b"rewritten", 5)
        .unwrap();
    fs::remove_file(images.join("pages-3.img")).unwrap();
    fs::write(images.join("other"), noise(100_000, 9)).unwrap();
    fs::rename(images.join("other"), images.join("pages-4.img")).unwrap();
    notifier.done();
    let (sender, pass) = following.await.unwrap();
    pass.unwrap();
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    for name in ["pages-1.img", "pages-2.img", "pages-4.img"] {
        assert_eq!(fs::read(pair.at("checkpoint").join(name)).unwrap(), fs::read(images.join(name)).unwrap());
    }
    assert!(!pair.at("checkpoint/pages-3.img").exists());
}

async fn a_page_file_of_an_earlier_dump_is_not_taken_for_this_ones(kind: TransportKind) {
    let pair = Pair::new(kind).await;
    let (mut receiver, mut sender) = pair.start().await;
    let images = pair.at("images");
    let hour = Duration::from_secs(3600);
    let stale = images.join("pages-1.img");
    fs::write(&stale, noise(3 << 20, 5)).unwrap();
    fs::File::open(&stale).unwrap().set_modified(SystemTime::now() - hour).unwrap();
    let (notifier, signal) = dump_signal();
    let folder = images.clone();
    let following = tokio::spawn(async move {
        let pass = sender.follow_images(&folder, signal).await;
        (sender, pass)
    });
    // Once the other one arrives, the folder has been looked at.
    fs::write(images.join("pages-2.img"), noise(100_000, 6)).unwrap();
    while receiver.progress().images < 100_000 {
        tokio::task::yield_now().await;
    }
    // As CRIU opens it: the same inode, and in the end no shorter than it was.
    let content = noise(4 << 20, 7);
    fs::write(&stale, &content).unwrap();
    notifier.done();
    let (sender, pass) = following.await.unwrap();
    assert_eq!(pass.unwrap().bytes, content.len() as u64 + 100_000);
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    assert_eq!(fs::read(pair.at("checkpoint/pages-1.img")).unwrap(), content);
}

async fn a_tree_goes_as_soon_as_the_dump_is_done_and_its_files_may_change_then(kind: TransportKind) {
    let pair = Pair::new(kind).await;
    let file = pair.at("upper/journal");
    fs::write(&file, "before").unwrap();
    let (mut receiver, mut sender) = pair.start().await;
    let root = Root::whole(&pair.at("upper"));
    sender.precopy_tree(0, root.clone()).await.unwrap();
    let (notifier, signal) = dump_signal();
    let (images, (read, tree_is_read)) = (pair.at("images"), tokio::sync::oneshot::channel());
    let following = tokio::spawn(async move {
        let pass = sender.follow_images_and_tree(&images, signal, (0, root), read).await;
        (sender, pass)
    });
    let content = noise(5 << 20, 5);
    fs::write(pair.at("images/pages-1.img"), &content).unwrap();
    while receiver.progress().images < 5 << 20 {
        tokio::task::yield_now().await;
    }
    fs::write(pair.at("images/core-1.img"), "the rest").unwrap();
    fs::write(&file, "as it was dumped").unwrap();
    notifier.done();
    let tree = tree_is_read.await.unwrap();
    assert_eq!(tree.bytes, 16);
    fs::remove_file(&file).unwrap();
    let (sender, pass) = following.await.unwrap();
    assert_eq!(pass.unwrap().bytes, content.len() as u64 + 8, "the images alone");
    sender.finish().await.unwrap();
    receiver.finished().await.unwrap();
    assert_eq!(fs::read_to_string(pair.at("there/journal")).unwrap(), "as it was dumped");
    assert_eq!(fs::read(pair.at("checkpoint/pages-1.img")).unwrap(), content);
}

async fn an_abandoned_dump_ends_the_transfer_on_both_sides(kind: TransportKind) {
    let pair = Pair::new(kind).await;
    let (mut receiver, mut sender) = pair.start().await;
    let (notifier, signal) = dump_signal();
    drop(notifier);
    let ended = sender.follow_images(&pair.at("images"), signal).await;
    assert!(matches!(ended, Err(TransferError::DumpAbandoned)), "{ended:?}");
    receiver.finished().await.unwrap_err();
}

on_both_transports!(
    a_page_file_is_sent_while_it_grows,
    a_followed_file_that_is_rewritten_or_shrinks_or_vanishes_is_sent_right,
    a_page_file_of_an_earlier_dump_is_not_taken_for_this_ones,
    a_tree_goes_as_soon_as_the_dump_is_done_and_its_files_may_change_then,
    an_abandoned_dump_ends_the_transfer_on_both_sides,
);
