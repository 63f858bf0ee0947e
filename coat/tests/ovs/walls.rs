//! Walls: nobody hears an endpoint behind one, whatever becomes of this process, until a route leads there.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use mose_coat::{CoatError, Overlay, Route};

use crate::support::{ALONE, Bed, Host, possible};
use crate::traffic::{PORT, SERVICE, at_endpoint, client_and_service, connect};

/// How long it is listened before it is believed that nothing comes.
const QUIET: Duration = Duration::from_millis(600);

/// Reads from a stream to which nothing must come.
fn hears_nothing(stream: &mut std::net::TcpStream, why: &str) {
    stream.set_read_timeout(Some(QUIET)).unwrap();
    match stream.read(&mut [0; 64]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        other => panic!("{why}: {other:?}"),
    }
}

/// Puts up a wall before an endpoint that has spoken already. In a hand-over the endpoint is new, and the switch remembers nothing of it.
async fn wall(host: &Host) {
    host.with(|o| async move { o.wall("service").await.unwrap() }).await;
    host.forget_earlier_flows();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_behind_a_wall_is_heard_once_a_route_leads_there() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let mut bed = Bed::new(2).await;
    client_and_service(&bed).await;
    let listen = || TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    let listener = bed.hosts[1].place.inside("service", listen).await;
    let mut client = connect(&bed.hosts[0], "client").await;
    let (mut service, _) = listener.accept().unwrap();
    service.write_all(b"before").unwrap();
    assert_eq!(client.read(&mut [0; 64]).unwrap(), 6);

    let b = &bed.hosts[1];
    let unknown = b.with(|o| async move { o.wall("none").await.unwrap_err() }).await;
    assert!(matches!(unknown, CoatError::NoEndpoint(_)), "{unknown}");
    wall(b).await;
    b.route(SERVICE, Route::Hold, 2).await;
    service.write_all(b"behind it").unwrap();
    hears_nothing(&mut client, "behind the wall");
    // The switch holds it up alone, and the next process knows of it.
    bed.hosts[1].stop_overlay().await;
    hears_nothing(&mut client, "nobody is at the switch");
    let config = bed.hosts[1].config();
    bed.hosts[1].start_overlay(config).await;
    hears_nothing(&mut client, "a new process is at the switch");

    let begun = Instant::now();
    bed.hosts[1].route(SERVICE, at_endpoint("service"), 2).await;
    service.write_all(b", after").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut heard = [0; 16];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"behind it, after");
    eprintln!("FIGURE heard {:.1} ms after the wall fell", begun.elapsed().as_secs_f64() * 1e3);
    let began = Instant::now();
    for _ in 0..100 {
        service.write_all(b"x").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
    }
    eprintln!("FIGURE 100 messages took {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_service_behind_a_wall_is_not_heard() {
    if !possible() {
        return;
    }
    let _alone = ALONE.lock().await;
    let bed = Bed::new(2).await;
    client_and_service(&bed).await;
    let b = &bed.hosts[1];
    let listener = b.place.inside("service", || TcpListener::bind(("0.0.0.0", PORT)).unwrap()).await;
    let mut client = connect(&bed.hosts[0], "client").await;
    let (service, _) = listener.accept().unwrap();
    wall(b).await;
    // A FIN, and an RST to what still comes.
    drop((service, listener));
    client.write_all(b"still there?").unwrap();
    hears_nothing(&mut client, "its end");
    b.with(|o| async move { o.detach("service").await.unwrap() }).await;
    hears_nothing(&mut client, "the end of its namespace");
}
