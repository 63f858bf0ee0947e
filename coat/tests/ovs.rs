//! The overlay on a real Open vSwitch, with real packets. Needs root and Open vSwitch; skipped, and said so, where they are
//! missing, unless `MOSE_REQUIRE_LAB=1`.

#![expect(clippy::unwrap_used, reason = "a test ends where its surroundings fail")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mose_coat::{
    Change, CoatError, Datapath, EndpointSpec, HoldLimits, Overlay, OvsConfig, OvsOverlay, Route,
    gap::{GapProbe, Outage},
};
use support::{ALONE, Bed, Host, possible};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);
const PORT: u16 = 7000;

fn spec(name: &str, address: Ipv4Addr) -> EndpointSpec {
    EndpointSpec::new(name, ipnet::Ipv4Net::new(address, 24).unwrap())
}

fn at_endpoint(name: &str) -> Route {
    Route::Endpoint(name.to_owned())
}

fn via(host: &Host) -> Route {
    Route::Tunnel(host.name.clone())
}

/// A client on the first host, a service on the second, the others knowing the way.
async fn client_and_service(bed: &Bed) {
    let (a, b) = (&bed.hosts[0], &bed.hosts[1]);
    a.attach(&spec("client", CLIENT), 1).await;
    b.attach(&spec("service", SERVICE), 1).await;
    for host in &bed.hosts {
        let to_client = if host.name == a.name { at_endpoint("client") } else { via(a) };
        let to_service = if host.name == b.name { at_endpoint("service") } else { via(b) };
        host.route(CLIENT, to_client, 1).await;
        host.route(SERVICE, to_service, 1).await;
    }
}

/// Answers every TCP byte with the same.
async fn echo(host: &Host, endpoint: &str) {
    let listener = host.place.inside(endpoint, || TcpListener::bind(("0.0.0.0", PORT)).unwrap()).await;
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

async fn connect(host: &Host, endpoint: &str) -> TcpStream {
    let to = SocketAddr::from((SERVICE, PORT));
    let stream = host
        .place
        .inside(endpoint, move || TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap())
        .await;
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends numbers over UDP, one a millisecond.
struct Numbers {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Numbers {
    async fn start(host: &Host, endpoint: &str) -> Self {
        let socket = host.place.inside(endpoint, || UdpSocket::bind("0.0.0.0:0").unwrap()).await;
        socket.connect((SERVICE, PORT)).unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = counter.load(Ordering::Relaxed);
                socket.send(&number.to_be_bytes()).unwrap();
                counter.store(number + 1, Ordering::Relaxed);
                // Slowly at first: the kernel keeps about a hundred packets while it asks for a MAC.
                std::thread::sleep(Duration::from_millis(if number < 20 { 20 } else { 1 }));
            }
        });
        Self { stop, sent, thread }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until they arrive: until the endpoints know each other's MAC and the devices are up.
    async fn arrive(&self, receiver: &Receiver) {
        let begin = Instant::now();
        while receiver.got.load(Ordering::Relaxed) == 0 {
            assert!(begin.elapsed() < Duration::from_secs(5), "nothing arrives");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        eprintln!("FIGURE first packet after {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    }

    /// Waits until so many more have been sent.
    async fn more(&self, count: u64) {
        let until = self.sent() + count;
        while self.sent() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Receives numbers over UDP, in the order of arrival.
struct Receiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
    got: Arc<AtomicU64>,
}

impl Receiver {
    async fn start(host: &Host, endpoint: &str) -> Self {
        let socket = host.place.inside(endpoint, || UdpSocket::bind(("0.0.0.0", PORT)).unwrap()).await;
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (stop, got) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&got));
        let thread = std::thread::spawn(move || {
            let mut numbers = Vec::new();
            let mut buffer = [0; 8];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(8) => {
                        numbers.push(u64::from_be_bytes(buffer));
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    // Only when all is quiet.
                    Err(_) if stopped.load(Ordering::Relaxed) => return numbers,
                    _ => {}
                }
            }
        });
        Self { stop, thread, got }
    }

    fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn out_of_order(numbers: &[u64]) -> usize {
    numbers.windows(2).filter(|pair| pair[1] < pair[0]).count()
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

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
async fn a_hold_loses_nothing_and_releases_in_order() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    client_and_service(&bed).await;
    let b = &bed.hosts[1];
    let receiver = Receiver::start(b, "service").await;
    let numbers = Numbers::start(&bed.hosts[0], "client").await;
    numbers.arrive(&receiver).await;
    for epoch in 2..12 {
        numbers.more(100).await;
        assert!(matches!(b.route(SERVICE, Route::Hold, epoch).await, Change::Applied { .. }));
        numbers.more(150).await;
        let (packets, bytes) = b.with(|o| async move { o.held(SERVICE).await }).await;
        assert!(packets >= 140 && bytes > packets * 40, "{packets} packets, {bytes} bytes held");
        let change = b.route(SERVICE, at_endpoint("service"), epoch).await;
        let Change::Applied { released, overflowed: 0 } = change else { panic!("{change:?}") };
        assert!(released >= packets);
        assert_eq!(b.with(|o| async move { o.held(SERVICE).await }).await, (0, 0));
    }
    numbers.more(100).await;
    let sent = numbers.finish();
    let received = receiver.finish();
    let swaps = out_of_order(&received);
    eprintln!("FIGURE ten holds: {sent} sent, {} received, {swaps} out of order", received.len());
    assert_eq!(sorted(received), (0..sent).collect::<Vec<_>>());
    // A packet under way to this process while the flow changes may be overtaken by the next: one per change at this rate.
    assert!(swaps <= 10, "{swaps} out of order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_tcp_segment_costs_the_hold_and_no_retransmission_timeout() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    client_and_service(&bed).await;
    let (a, b) = (&bed.hosts[0], &bed.hosts[1]);
    echo(b, "service").await;
    let mut stream = connect(a, "client").await;
    let link = a.with(|o| async move { o.endpoints().await.unwrap().remove(0).host_link }).await;
    for (epoch, hold) in [(2, 120_u64), (3, 350), (4, 900)] {
        let device = link.clone();
        let probe = a.place.block(move || GapProbe::start(&device, SERVICE).unwrap()).await;
        let (stop, mut talker) = (Arc::new(AtomicBool::new(false)), stream.try_clone().unwrap());
        let stopped = Arc::clone(&stop);
        let talk = std::thread::spawn(move || {
            let (mut count, mut longest) = (0_u64, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                talker.write_all(&count.to_be_bytes()).unwrap();
                let mut back = [0; 8];
                talker.read_exact(&mut back).unwrap();
                assert_eq!(u64::from_be_bytes(back), count);
                longest = longest.max(begin.elapsed());
                count += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            (count, longest)
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        b.route(SERVICE, Route::Hold, epoch).await;
        let begin = Instant::now();
        tokio::time::sleep(Duration::from_millis(hold)).await;
        b.route(SERVICE, at_endpoint("service"), epoch).await;
        let held = begin.elapsed();
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.store(true, Ordering::Relaxed);
        let (rounds, longest) = talk.join().unwrap();
        let report = a.place.block(move || probe.stop(Outage::default())).await;
        let gap = report.longest_payload_silence.unwrap();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        eprintln!(
            "FIGURE hold {:.1} ms: client's longest round {:.1} ms, gap on its device {:.1} ms",
            ms(held),
            ms(longest),
            ms(gap)
        );
        assert_eq!((report.resets, report.syn_acks, report.missed), (0, 0, 0));
        assert!(report.payload_packets >= rounds);
        let (least, most) = (held.saturating_sub(Duration::from_millis(5)), held + Duration::from_millis(60));
        assert!((least..most).contains(&longest), "longest round {longest:?}, hold {held:?}");
        assert!(gap < most, "gap {gap:?}, hold {held:?}");
        // In a longer hold the service, which is not frozen here, repeats its own last segment after 200 ms.
        assert!(gap > least || hold > 200, "gap {gap:?}, hold {held:?}");
    }
    stream.write_all(b"x").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_transfer_goes_on_through_holds() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    client_and_service(&bed).await;
    let b = &bed.hosts[1];
    echo(b, "service").await;
    let mut stream = connect(&bed.hosts[0], "client").await;
    let (stop, mut sender) = (Arc::new(AtomicBool::new(false)), stream.try_clone().unwrap());
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let block = vec![7; 64 << 10];
        let mut sent = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            sender.write_all(&block).unwrap();
            sent += block.len() as u64;
        }
        sender.shutdown(std::net::Shutdown::Write).unwrap();
        sent
    });
    let reader = std::thread::spawn(move || {
        let mut block = vec![0; 64 << 10];
        let (mut read, mut longest, mut last) = (0_u64, Duration::ZERO, Instant::now());
        loop {
            let n = stream.read(&mut block).unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if n == 0 {
                return (read, longest);
            }
            read += n as u64;
        }
    });
    let mut most = 0;
    for epoch in 2..7 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        b.route(SERVICE, Route::Hold, epoch).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let change = b.route(SERVICE, at_endpoint("service"), epoch).await;
        let Change::Applied { released, overflowed: 0 } = change else { panic!("{change:?}") };
        most = most.max(released);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let sent = writer.join().unwrap();
    let (read, longest) = reader.join().unwrap();
    eprintln!("FIGURE bulk through holds of 100 ms: up to {most} segments held, longest pause {longest:.1?}");
    assert_eq!(read, sent);
    assert!(longest < Duration::from_millis(400), "{longest:?}: a retransmission timeout was paid");
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
async fn a_restart_reads_everything_back_and_a_stale_epoch_is_refused() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let mut bed = Bed::new(2).await;
    client_and_service(&bed).await;
    bed.hosts[1].route(SERVICE, Route::Hold, 5).await;
    bed.hosts[1].route(SERVICE, at_endpoint("service"), 6).await;
    let other = Ipv4Addr::new(10, 77, 0, 30);
    bed.hosts[1].route(other, Route::Hold, 3).await;
    let state = |o: Arc<OvsOverlay>| async move { (o.endpoints().await.unwrap(), o.routes().await.unwrap()) };
    let before = bed.hosts[1].with(state).await;
    assert_eq!((before.0.len(), before.1.len()), (1, 3));
    bed.hosts[1].stop_overlay().await;
    let config = bed.hosts[1].config();
    bed.hosts[1].start_overlay(config).await;
    assert_eq!(bed.hosts[1].with(state).await, before);

    let b = &bed.hosts[1];
    assert_eq!(b.route(SERVICE, Route::Hold, 5).await, Change::Stale { current: 6 });
    assert_eq!(b.route(SERVICE, at_endpoint("service"), 6).await, Change::Unchanged);
    assert_eq!(b.route(CLIENT, via(&bed.hosts[0]), 1).await, Change::Unchanged, "tunnels are known again");
    assert_eq!(b.with(state).await, before);
    let attached = b.attach(&spec("service", SERVICE), 1).await;
    assert_eq!(attached, before.0[0]);
    let wrong = spec("service", Ipv4Addr::new(10, 77, 0, 21));
    let error = b.with(|o| async move { o.attach(&wrong, 9).await.unwrap_err() }).await;
    assert!(matches!(error, CoatError::OtherSpec { .. }), "{error}");
    let error = b.with(|o| async move { o.route(other, at_endpoint("none"), 9).await.unwrap_err() }).await;
    assert!(error.to_string().contains("attach the endpoint first"), "{error}");
    // And packets still pass.
    echo(b, "service").await;
    let mut stream = connect(&bed.hosts[0], "client").await;
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_leaves_nothing_and_spares_what_is_not_ours() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    let a = &bed.hosts[0];
    let links = || {
        let run =
            a.place.block(|| std::process::Command::new("ip").args(["-o", "link"]).output().unwrap().stdout);
        async { String::from_utf8(run.await).unwrap() }
    };
    let count = |text: &str| text.lines().count();
    let before = links().await;
    let endpoint = a.attach(&spec("service", SERVICE), 1).await;
    a.route(SERVICE, at_endpoint("service"), 1).await;
    assert_eq!(count(&links().await), count(&before) + 1);
    assert!(endpoint.host_link.len() <= 15);
    a.with(|o| async move { o.detach("service").await.unwrap() }).await;
    a.with(|o| async move { o.detach("service").await.unwrap() }).await;
    assert_eq!(count(&links().await), count(&before));
    assert!(!a.place.block(move || endpoint.netns.exists()).await);
    a.with(|o| async move {
        assert!(o.endpoints().await.unwrap().is_empty());
        assert!(o.routes().await.unwrap().is_empty(), "no route to an endpoint that is gone");
    })
    .await;
    // A namespace of somebody else's.
    a.place
        .block(|| {
            for arguments in
                [&["netns", "add", "theirs"][..], &["-n", "theirs", "link", "add", "d0", "type", "veth"]]
            {
                assert!(std::process::Command::new("ip").args(arguments).status().unwrap().success());
            }
        })
        .await;
    let taken = spec("theirs", SERVICE);
    let error = a.with(|o| async move { o.attach(&taken, 1).await.unwrap_err() }).await;
    assert!(matches!(error, CoatError::ForeignNamespace { .. }), "{error}");
    a.with(|o| async move { o.detach("theirs").await.unwrap() }).await;
    assert!(a.place.block(|| std::path::Path::new("/run/netns/theirs").exists()).await);
    // Tunnels go as well.
    let before = links().await;
    a.with(|o| async move { o.remove_tunnel("b").await.unwrap() }).await;
    assert_eq!(count(&links().await), count(&before) - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exceeds_the_hold_is_counted() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let mut bed = Bed::new(2).await;
    bed.hosts[1].stop_overlay().await;
    let config = OvsConfig { hold: HoldLimits { packets: 50, bytes: 1 << 20 }, ..bed.hosts[1].config() };
    bed.hosts[1].start_overlay(config).await;
    client_and_service(&bed).await;
    let b = &bed.hosts[1];
    let receiver = Receiver::start(b, "service").await;
    let numbers = Numbers::start(&bed.hosts[0], "client").await;
    numbers.arrive(&receiver).await;
    numbers.more(50).await;
    b.route(SERVICE, Route::Hold, 2).await;
    numbers.more(200).await;
    let sent = numbers.finish();
    // The last ones are on their way through the switch.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let change = b.route(SERVICE, at_endpoint("service"), 3).await;
    let Change::Applied { released: 50, overflowed } = change else { panic!("{change:?}") };
    let received = receiver.finish();
    assert_eq!(received.len() as u64 + overflowed, sent);
    assert_eq!(received, (0..sent - overflowed).collect::<Vec<_>>(), "the first were kept, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_is_away_is_named_and_its_flows_are_put_back() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let mut bed = Bed::without_overlay(2).await;
    let config = bed.hosts[0].config();
    let error = bed.hosts[0].place.run(OvsOverlay::start(config)).await.err().unwrap().to_string();
    assert!(error.contains("db.sock") && error.contains("is ovsdb-server running?"), "{error}");
    bed.hosts[0].start_ovsdb().await;
    let config = OvsConfig { port_deadline: Duration::from_millis(300), ..bed.hosts[0].config() };
    let error = bed.hosts[0].place.run(OvsOverlay::start(config)).await.err().unwrap().to_string();
    assert!(error.contains("br-mose.mgmt") && error.contains("is ovs-vswitchd running?"), "{error}");
    drop(bed);

    let mut bed = Bed::new(2).await;
    client_and_service(&bed).await;
    echo(&bed.hosts[1], "service").await;
    let mut stream = connect(&bed.hosts[0], "client").await;
    let healthy = bed.hosts[1].with(|o| async move { o.health().await }).await.unwrap();
    let recorded = healthy.database.unwrap();
    assert_eq!(
        (recorded.datapath, recorded.ports),
        (Some(Datapath::Userspace), 2),
        "an endpoint and a tunnel"
    );
    assert!(recorded.faulty.is_empty() && healthy.switch.unwrap() > 0);
    bed.hosts[1].stop_vswitchd();
    let b = &bed.hosts[1];
    let deadline = Instant::now() + Duration::from_secs(5);
    let error = loop {
        match b.with(|o| async move { o.route(SERVICE, Route::Hold, 2).await }).await {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(Instant::now() < deadline, "the loss of the switch goes unnoticed"),
        }
    };
    assert!(error.contains("is ovs-vswitchd running?"), "{error}");
    let ailing = b.with(|o| async move { o.health().await }).await.unwrap();
    assert!(ailing.database.is_ok() && ailing.switch.is_err(), "{ailing:?}");
    bed.hosts[1].start_vswitchd().await;
    // The connection lives on over its retransmissions, once the flows are back.
    stream.write_all(b"x").unwrap();
    assert_eq!(tokio::task::spawn_blocking(move || stream.read(&mut [0; 8]).unwrap()).await.unwrap(), 1);
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
