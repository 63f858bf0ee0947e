//! Packets between hosts, and an address that moves from one to another.

use mose_coat::Overlay;
use mose_coat::Route;
use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::support::{ALONE, Bed, possible};
use crate::traffic::{
    Numbers, Receiver, SERVICE, at_endpoint, client_and_service, connect, echo, median, out_of_order, sorted,
    spec, via,
};

#[tokio::test(flavor = "multi_thread")]
async fn tcp_runs_between_endpoints_over_the_tunnel() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    client_and_service(&bed).await;
    echo(&bed.hosts[1], "service").await;
    let mut stream = connect(&bed.hosts[0], "client").await;
    tokio::task::spawn_blocking(move || {
        let mut times = Vec::new();
        for n in 0..500_u64 {
            let begin = Instant::now();
            stream.write_all(&n.to_be_bytes()).unwrap();
            let mut back = [0; 8];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(u64::from_be_bytes(back), n);
            times.push(begin.elapsed());
        }
        eprintln!("FIGURE round trip p50 {:.3} ms", median(times));
        // Bulk in both directions: stalls if a checksum or a segment is left to hardware that is not there.
        let total = 32 << 20;
        let mut sender = stream.try_clone().unwrap();
        let begin = Instant::now();
        let writer = std::thread::spawn(move || {
            let block = vec![7; 64 << 10];
            for _ in 0..total / block.len() {
                sender.write_all(&block).unwrap();
            }
        });
        let mut block = vec![0; 64 << 10];
        let mut read = 0;
        while read < total {
            let n = stream.read(&mut block).unwrap();
            assert!(n > 0 && block[..n].iter().all(|byte| *byte == 7));
            read += n;
        }
        writer.join().unwrap();
        let rate = (total * 8) as f64 / begin.elapsed().as_secs_f64() / 1e6;
        eprintln!("FIGURE echo over the tunnel {rate:.0} Mb/s each way");
        assert!(rate > 5.0, "{rate} Mb/s: stalled");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_moves_between_hosts_without_loss_also_by_way_of_its_old_host() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(3).await;
    client_and_service(&bed).await;
    let (a, b, c) = (&bed.hosts[0], &bed.hosts[1], &bed.hosts[2]);
    let before = Receiver::start(b, "service").await;
    let numbers = Numbers::start(a, "client").await;
    numbers.arrive(&before).await;
    numbers.more(200).await;
    // The new host first: its guard holds whatever comes.
    c.attach(&spec("service", SERVICE), 2).await;
    c.route(SERVICE, Route::Hold, 2).await;
    let after = Receiver::start(c, "service").await;
    // The old host passes on what still comes to it: in by one tunnel, out by another.
    b.route(SERVICE, via(c), 2).await;
    let late = before.got.load(Ordering::Relaxed);
    numbers.more(200).await;
    let late = before.got.load(Ordering::Relaxed) - late;
    assert!(c.with(|o| async move { o.held(SERVICE).await }).await.0 > 100, "held by way of the old host");
    c.route(SERVICE, at_endpoint("service"), 2).await;
    numbers.more(200).await;
    a.route(SERVICE, via(c), 2).await;
    b.with(|o| async move { o.detach("service").await.unwrap() }).await;
    numbers.more(200).await;
    let sent = numbers.finish();
    let (before, after) = (before.finish(), after.finish());
    eprintln!(
        "FIGURE move: {sent} sent, {} at the old host ({late} after the change), {} at the new, {} out of order",
        before.len(),
        after.len(),
        out_of_order(&after)
    );
    let all: Vec<u64> = before.iter().chain(&after).copied().collect();
    assert_eq!(sorted(all), (0..sent).collect::<Vec<_>>());
    assert!(late <= 20, "{late} packets went to the old host after the change");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    let a = &bed.hosts[0];
    let (mut attach, mut detach) = (Vec::new(), Vec::new());
    for epoch in 0..10 {
        let begin = Instant::now();
        a.attach(&spec("service", SERVICE), epoch).await;
        attach.push(begin.elapsed());
        let begin = Instant::now();
        a.with(|o| async move { o.detach("service").await.unwrap() }).await;
        detach.push(begin.elapsed());
    }
    a.attach(&spec("service", SERVICE), 1).await;
    let times = a
        .with(|o| async move {
            let mut times = Vec::new();
            for epoch in 1..=500 {
                let route = if epoch % 2 == 0 { Route::Hold } else { at_endpoint("service") };
                let begin = Instant::now();
                o.route(SERVICE, route, epoch).await.unwrap();
                times.push(begin.elapsed());
            }
            times
        })
        .await;
    eprintln!(
        "FIGURE p50: route {:.3} ms, attach {:.1} ms, detach {:.1} ms",
        median(times),
        median(attach),
        median(detach)
    );
}
